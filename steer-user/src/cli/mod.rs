//! The command line of `steerctl`.

mod change;
mod error;
mod file_page;
mod generate;
mod probe;
mod steer;
mod tunnels;
mod values;

use std::ffi::OsString;
use std::path::PathBuf;

pub use change::{DrainArgs, EventsArgs, TunnelArgs, WeightsArgs};
use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand, ValueEnum};
pub use error::{Refusal, UsageError};
pub use generate::{completions, manual};
pub use probe::ProbeArgs;
pub use steer::{CheckArgs, RunArgs, SteerArgs};
pub use tunnels::{TunnelsArgs, TunnelsCommand, TunnelsPlanArgs};
pub use values::{MAX_FLOWS_MAX, Placement};

use crate::plan::{self, FlowEndpoint, FlowNumbers};

/// Where the maps and links are pinned without `--pin-dir`.
pub const PIN_DIR_DEFAULT: &str = "/sys/fs/bpf/steer";
/// Heading of the options that every verb takes.
const EVERY_VERB: &str = "Options of every verb";

/// Steers every flow onto one of several WireGuard tunnels, spread by weight,
/// and keeps it there.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "steerctl",
    version,
    disable_help_subcommand = true,
    after_help = "Exit status: 0 done, 1 failed, 2 wrong usage. A refused command changes nothing."
)]
pub struct Cli {
    /// Print JSON instead of tables.
    #[arg(long, global = true, help_heading = EVERY_VERB)]
    pub json: bool,
    /// Work in this named network namespace (see ip-netns(8)).
    #[arg(long, global = true, value_name = "NAME", help_heading = EVERY_VERB)]
    pub netns: Option<String>,
    /// Directory of the pinned maps; a bpffs is mounted there if there is none.
    /// Two gateways on one machine use two directories.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "STEER_PIN_DIR",
        hide_env_values = true,
        default_value = PIN_DIR_DEFAULT,
        help_heading = EVERY_VERB
    )]
    pub pin_dir: PathBuf,
    /// Say more on stderr; twice for details of every step.
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = EVERY_VERB)]
    pub verbose: u8,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Steer, and stay in the foreground to probe the tunnels and follow the devices.
    ///
    /// Loads the program, attaches it to the LAN devices and tunnels and pins
    /// the maps. Prints one line "ready …" when packets are being steered. If
    /// steer is already here, adopts its state: no live flow moves. SIGINT and
    /// SIGTERM detach and unpin everything unless --keep; SIGHUP reads the configuration file again.
    Run(RunArgs),
    /// Steer, and return; packets are steered until detach.
    Attach(SteerArgs),
    /// Say what is wrong with a configuration file, or how it differs from what is steered now.
    Check(CheckArgs),
    /// Remove everything that steer put on this machine, and nothing else.
    Detach(DetachArgs),
    /// Show groups, tunnels, hooks and counters.
    Status,
    /// Show or change the weights of tunnels; live flows stay where they are, or move with --rebalance.
    Weights(WeightsArgs),
    /// Give a tunnel no new flows; live flows stay until they end.
    Drain(DrainArgs),
    /// Give a tunnel in drain new flows again; live flows stay where they are.
    Undrain(TunnelArgs),
    /// Take a tunnel out of use: its flows leave at their next packet.
    Disable(TunnelArgs),
    /// Give a tunnel new flows again; live flows stay where they are.
    Enable(TunnelArgs),
    /// List live flows.
    Flows(FlowsArgs),
    /// Show what happened: moves of flows, changes by operator, daemon, health and routes, with their reasons.
    Events(EventsArgs),
    /// Tell which tunnel a flow uses or would use, and why; creates nothing.
    Explain(ExplainArgs),
    /// Tell what on this machine would stop steering or make it wrong, and what helps.
    ///
    /// Judges the machine before a start, and what is steered after it. Every line is ok, warn or fail;
    /// what is not ok comes with what makes it so. Changes nothing. Exits with 1 when a line is fail.
    Doctor(DoctorArgs),
    /// Make parallel tunnels out of one.
    Tunnels(TunnelsArgs),
    /// Print a completion script for a shell.
    Completions {
        /// Shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    Man,
}

/// Arguments of `detach`.
#[derive(Clone, Debug, Args)]
pub struct DetachArgs {
    /// Say what would be removed, but remove nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// Arguments of `doctor`.
#[derive(Clone, Debug, Args)]
pub struct DoctorArgs {
    /// Configuration file to judge; without it, the one that steerctl run goes by, or would.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Arguments of `flows`.
#[derive(Clone, Debug, Args)]
pub struct FlowsArgs {
    /// Only flows on this tunnel.
    #[arg(long, value_name = "NAME", value_parser = plan::device_name)]
    pub tunnel: Option<String>,
    /// Only the first N of them.
    #[arg(long, value_name = "N")]
    pub top: Option<usize>,
    /// What comes first: most bytes, longest idle, or oldest.
    #[arg(long, value_enum, default_value_t = FlowSort::Bytes)]
    pub sort: FlowSort,
}

/// Order of `flows`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum FlowSort {
    /// Most bytes of both directions first.
    #[default]
    Bytes,
    /// Longest without a packet first.
    Idle,
    /// Oldest first.
    Age,
}

/// Arguments of `explain`.
#[derive(Clone, Debug, Args)]
pub struct ExplainArgs {
    /// Protocol: tcp, udp, udplite, sctp, dccp, icmp, icmpv6, gre, esp, ah, l2tp or a number.
    #[arg(value_name = "PROTO", value_parser = plan::protocol)]
    pub protocol: u8,
    /// Sender: ADDR, `ADDR:PORT` or `[ADDR6]:PORT`. For ICMP echo, ESP, AH, GRE and `L2TPv3` the port is the
    /// identifier, SPI, key or session, decimal or 0x…, at either end.
    #[arg(
        value_name = "SRC[:PORT]",
        help = "Sender: ADDR, ADDR:PORT or [ADDR6]:PORT; for ICMP echo, ESP, AH, GRE and L2TPv3 the port is the identifier, SPI, key or session, decimal or 0x…, at either end"
    )]
    pub src: FlowEndpoint,
    /// Receiver, written likewise.
    #[arg(value_name = "DST[:PORT]")]
    pub dst: FlowEndpoint,
}

impl Cli {
    /// Reads a command line, the program's name first.
    pub fn parse_from_args<I>(args: I) -> Result<Self, Refusal>
    where
        I: IntoIterator<Item: Into<OsString> + Clone>,
    {
        let cli = Self::try_parse_from(args).map_err(|error| error::refusal(&error))?;
        if let Command::Explain(flow) = &cli.command {
            check_flow(flow)?;
        }
        Ok(cli)
    }

    /// The definition, for completions and the manual page.
    pub fn definition() -> clap::Command {
        Self::command()
    }
}

/// What clap cannot know: both ends are of one family, ports come in pairs or not at all.
fn check_flow(flow: &ExplainArgs) -> Result<(), Refusal> {
    let refuse = |message: String, hint: &str| {
        Err(Refusal::Usage(UsageError {
            message,
            hint: Some(hint.into()),
        }))
    };
    if flow.src.addr.is_ipv4() != flow.dst.addr.is_ipv4() {
        return refuse(
            format!(
                "{} and {} are not of the same address family",
                flow.src.addr, flow.dst.addr
            ),
            "both ends of a flow are IPv4, or both are IPv6",
        );
    }
    let name = plan::protocol_name(flow.protocol);
    let numbers = FlowNumbers::of(flow.protocol);
    for end in [flow.src, flow.dst] {
        match (numbers, end.number) {
            (FlowNumbers::Ports, None) => {
                return refuse(
                    format!("{}: {name} flows have ports", end.addr),
                    "for example: steerctl explain tcp 10.1.0.2:40000 10.2.0.2:80",
                );
            }
            (FlowNumbers::None, Some(_)) => {
                return refuse(
                    format!("{}: {name} flows have no ports", end.addr),
                    "leave out the port",
                );
            }
            (_, Some(number)) if number > numbers.max() => {
                return refuse(
                    format!("{}: {number} is too large for {name} flows", end.addr),
                    "ports and echo identifiers are at most 65535",
                );
            }
            _ => {}
        }
    }
    let is_shared = matches!(numbers, FlowNumbers::Echo | FlowNumbers::Number);
    if let (true, Some(src), Some(dst)) = (is_shared, flow.src.number, flow.dst.number)
        && src != dst
    {
        return refuse(
            format!("{src} and {dst}: both ends of {name} flows have the same identifier"),
            "give it at one end",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests;
