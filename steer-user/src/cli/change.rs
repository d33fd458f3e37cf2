//! Arguments of the verbs that change weights and admin states, and of `events`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::plan::{self, Rate, Since, WeightSpec};

/// Arguments of `weights`.
#[derive(Clone, Debug, Args)]
pub struct WeightsArgs {
    /// New weight of a tunnel, 0 to 65535; none to show them all.
    #[arg(value_name = "NAME=WEIGHT")]
    pub weights: Vec<WeightSpec>,
    /// Group of the tunnels; needed only where no tunnel is named and there are several.
    #[arg(long, value_name = "NAME", value_parser = plan::group_name)]
    pub group: Option<String>,
    /// Move live flows, too, until the tunnels have their shares: as few as possible, the longest idle first.
    ///
    /// Flows that the far end placed stay, and those of a tunnel in drain. Ctrl-C stops; the same command again
    /// goes on.
    #[arg(long)]
    pub rebalance: bool,
    /// Flows to move in a second; 1000 if not given.
    #[arg(long, value_name = "N/s", requires = "rebalance")]
    pub rate: Option<Rate>,
    /// Write the weights into the configuration file as well; comments stay.
    #[arg(long)]
    pub save: bool,
    /// Configuration file for --save; without it, that of the steerctl run that is there, else /etc/steer/steer.toml.
    #[arg(long, value_name = "FILE", requires = "save")]
    pub config: Option<PathBuf>,
    /// Show the change and what it does to live flows, but do not make it.
    #[arg(long)]
    pub dry_run: bool,
}

/// Arguments of `disable`, `enable` and `undrain`.
#[derive(Clone, Debug, Args)]
pub struct TunnelArgs {
    /// Tunnel.
    #[arg(value_parser = plan::device_name)]
    pub name: String,
    /// Show the change, but do not make it.
    #[arg(long)]
    pub dry_run: bool,
}

/// Arguments of `drain`.
#[derive(Clone, Debug, Args)]
pub struct DrainArgs {
    /// Tunnel.
    #[arg(value_parser = plan::device_name)]
    pub name: String,
    /// Wait until it has no flows left, and show how many there are and how fast they end.
    ///
    /// Ctrl-C stops waiting; the tunnel stays in drain.
    #[arg(long)]
    pub wait: bool,
    /// Wait no longer than this, then move the rest to the other tunnels.
    #[arg(long, value_name = "TIME", requires = "wait", value_parser = plan::time)]
    pub timeout: Option<Duration>,
    /// Flows to move in a second after --timeout; 1000 if not given.
    #[arg(long, value_name = "N/s", requires = "timeout")]
    pub rate: Option<Rate>,
    /// Drain the tunnel although no other one of its group takes new flows.
    #[arg(long)]
    pub force: bool,
    /// Show the change, but do not make it.
    #[arg(long, conflicts_with = "wait")]
    pub dry_run: bool,
}

/// Arguments of `events`.
#[derive(Clone, Debug, Args)]
pub struct EventsArgs {
    /// Stay, and show what happens, also after a detach and the next start. With --json, an object on each line.
    #[arg(long, short)]
    pub follow: bool,
    /// Only what happened since: a time to look back, or a moment (10m, 2026-02-03T14:05:00Z); 0s for nothing of the past.
    #[arg(long, value_name = "TIME")]
    pub since: Option<Since>,
}
