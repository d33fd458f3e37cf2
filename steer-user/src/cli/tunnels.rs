//! Arguments of `tunnels`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use ipnet::IpNet;

use super::values;
use crate::plan::{self, NearEndpoint};

/// Arguments of `tunnels`.
#[derive(Clone, Debug, Args)]
pub struct TunnelsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: TunnelsCommand,
}

/// What to do with tunnels.
#[derive(Clone, Debug, Subcommand)]
pub enum TunnelsCommand {
    /// Write the configurations for both ends of parallel tunnels.
    ///
    /// Reads the wg-quick configuration of one tunnel to the far gateway, and writes those of more: fresh
    /// keys, ports and tunnel addresses counted on from the given ones, Table = off, the same networks
    /// allowed. The tunnel that is there stays as it is, and is the first of them. Keys are written to
    /// files that only root can read, and never shown. No file is overwritten, and no device is touched.
    Plan(TunnelsPlanArgs),
}

/// Arguments of `tunnels plan`.
#[derive(Clone, Debug, Args)]
pub struct TunnelsPlanArgs {
    /// Configuration of the tunnel that is there, as for wg-quick(8): one peer, no default route.
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
    /// Tunnels in all, 2 to 64.
    #[arg(long, value_name = "N", value_parser = values::tunnel_count)]
    pub count: usize,
    /// Directory for the files of this end; where FILE is if not given.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Directory for the files of the far end, to be taken there; a directory "far" in --out if not given.
    #[arg(long, value_name = "DIR")]
    pub peer_out: Option<PathBuf>,
    /// Where the far end reaches this one, with the port of the first tunnel if that is another than
    /// FILE listens on. Without it, this end dials.
    #[arg(long, value_name = "HOST[:PORT]")]
    pub endpoint: Option<NearEndpoint>,
    /// Network behind this end, which the far end is to allow; may be repeated. FILE does not tell.
    #[arg(long, value_name = "CIDR", value_parser = plan::prefix)]
    pub lan: Vec<IpNet>,
    /// Network to take the new tunnels' addresses from, one for each family; what follows the address in FILE if not given.
    #[arg(long, value_name = "CIDR", value_parser = plan::prefix)]
    pub addresses: Vec<IpNet>,
    /// Give every new tunnel a preshared key; they have one anyway if the tunnel in FILE has.
    #[arg(long)]
    pub preshared_keys: bool,
    /// Make all N tunnels new ones, beside the one in FILE.
    #[arg(long)]
    pub all_new: bool,
    /// Show the files, without their secrets, but write none.
    #[arg(long)]
    pub dry_run: bool,
}
