//! Options about probing tunnels.

use std::{net::IpAddr, time::Duration};

use clap::Args;

use crate::plan::{
    self,
    health::{ProbeSpec, ProbeTarget, Probes},
};

/// How tunnels are probed: arguments of `run`.
#[derive(Clone, Debug, Default, Args)]
pub struct ProbeArgs {
    /// Time between two probes of a tunnel, 20ms to 10s: 200ms if not given. Three that are missed make it down.
    #[arg(long, value_name = "TIME", value_parser = plan::health::interval)]
    pub probe_interval: Option<Duration>,
    /// Address that answers probes (ICMP echo) through a tunnel; may be repeated, once for each tunnel.
    ///
    /// Without it: the far end's address in the tunnel, where the tunnel's own address or the allowed IPs tell it.
    /// Where they do not, only WireGuard's own signs of life count.
    #[arg(long, value_name = "NAME=ADDR")]
    pub probe_target: Vec<ProbeTarget>,
    /// Send no probes: a tunnel is up as long as its device is.
    #[arg(long, conflicts_with_all = ["probe_interval", "probe_target"])]
    pub no_probe: bool,
}

impl ProbeArgs {
    /// How each tunnel is probed; of a tunnel that is named twice, the last counts.
    pub fn probes(&self) -> Probes {
        let mut default = ProbeSpec {
            enabled: !self.no_probe,
            ..ProbeSpec::default()
        };
        default.interval = self.probe_interval.unwrap_or(default.interval);
        let to = |target: IpAddr| ProbeSpec {
            target: Some(target),
            ..default.clone()
        };
        let targets = self.probe_target.iter();
        Probes {
            tunnels: targets
                .map(|target| (target.tunnel.clone(), to(target.address)))
                .collect(),
            default,
        }
    }
}
