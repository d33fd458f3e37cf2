//! Options about probing tunnels.

use std::time::Duration;

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
    /// How tunnels are probed, with what these arguments say; of a tunnel that is named twice, the last counts.
    pub fn over(&self, mut probes: Probes) -> Probes {
        for spec in probes.tunnels.values_mut().chain([&mut probes.default]) {
            spec.enabled &= !self.no_probe;
            spec.interval = self.probe_interval.unwrap_or(spec.interval);
        }
        for ProbeTarget { tunnel, address } in &self.probe_target {
            let spec = ProbeSpec {
                target: Some(*address),
                ..probes.of(tunnel).clone()
            };
            probes.tunnels.insert(tunnel.clone(), spec);
        }
        probes
    }
}
