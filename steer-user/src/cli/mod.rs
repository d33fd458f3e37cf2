//! The command line of `steerctl`.

mod error;
mod generate;
mod values;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use steer_common::abi::HookOrder;

pub use error::{Refusal, UsageError};
pub use generate::{completions, manual};
pub use values::{MAX_FLOWS_MAX, Placement};

use crate::datapath::programs::AttachMode;
use crate::plan::{
    self, FlowEndpoint, FlowNumbers, FollowSpec, HookChoice, IdleSpec, MarkMask, MssClamp, Request,
    RouteLabel, TunnelSpec, WeightSpec,
};

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
    /// Steer, and stay in the foreground to follow the devices.
    ///
    /// Loads the program, attaches it to the LAN devices and tunnels and pins
    /// the maps. Prints one line "ready …" when packets are being steered. If
    /// steer is already here, adopts its state: no live flow moves. SIGINT and
    /// SIGTERM detach and unpin everything unless --keep.
    Run(RunArgs),
    /// Steer, and return; packets are steered until detach.
    Attach(SteerArgs),
    /// Remove everything that steer put on this machine, and nothing else.
    Detach(DetachArgs),
    /// Show groups, tunnels, hooks and counters.
    Status,
    /// Show or change the weights of tunnels; live flows stay where they are.
    Weights(WeightsArgs),
    /// Take a tunnel out of use: its flows leave at their next packet.
    Disable(TunnelArgs),
    /// Give a tunnel new flows again; live flows stay where they are.
    Enable(TunnelArgs),
    /// List live flows.
    Flows(FlowsArgs),
    /// Tell which tunnel a flow uses or would use, and why; creates nothing.
    Explain(ExplainArgs),
    /// Print a completion script for a shell.
    Completions {
        /// Shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    Man,
}

/// Arguments of `run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// What to steer.
    #[command(flatten)]
    pub steer: SteerArgs,
    /// Leave program and maps in place at the end, so that packets are steered on.
    #[arg(long)]
    pub keep: bool,
}

/// What to steer: arguments of `run` and `attach`.
#[derive(Clone, Debug, Args)]
pub struct SteerArgs {
    /// LAN device whose incoming packets are steered; may be repeated. Without it, those that the group has already.
    ///
    /// With --hook egress none is needed.
    #[arg(long, value_name = "IF", value_parser = plan::device_name)]
    pub iface: Vec<String>,
    /// Tunnel, with weight and id if wanted; may be repeated. Without it, all WireGuard devices.
    ///
    /// Weight is 0 to 65535, 1 if not given. The id (0 to 254) is what the tunnel is called in the hash
    /// table; without it, the number that the name ends in, or one that is assigned and kept.
    #[arg(long, value_name = "NAME[=WEIGHT][@ID]")]
    pub tunnel: Vec<TunnelSpec>,
    /// Remote prefix to steer; may be repeated. Without it, what the allowed IPs of all tunnels have in common.
    #[arg(long, value_name = "CIDR", value_parser = plan::prefix)]
    pub prefix: Vec<IpNet>,
    /// Take the prefixes from the kernel's routes instead: each over the tunnels that its route leads through.
    ///
    /// run follows the routes as they change; attach takes them as they are.
    #[arg(long, conflicts_with = "prefix")]
    pub follow_routes: bool,
    /// Follow the routes of this table, a name or number; may be repeated. Without it, main.
    #[arg(long, value_name = "TABLE", requires = "follow_routes")]
    pub follow_table: Vec<RouteLabel>,
    /// Follow the routes that this protocol made, a name or number (see ip-route(8)); may be repeated.
    /// Without it, all but the kernel's own.
    #[arg(long, value_name = "PROTO", requires = "follow_routes")]
    pub follow_protocol: Vec<RouteLabel>,
    /// Group of tunnels to make or change.
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = plan::group_name)]
    pub group: String,
    /// How to steer: auto, ingress, egress or mark. Without it, as it is; auto at the first start.
    ///
    /// ingress: on the LAN devices and back, past the kernel's forwarding and netfilter.
    ///
    /// egress: on the tunnels, what the kernel routes to any of them, behind netfilter.
    ///
    /// mark: by a packet mark that chooses the kernel's route, through all of netfilter.
    ///
    /// auto: mark where source addresses are translated on the tunnels, egress where netfilter looks at
    /// forwarded packets (mark if the tunnels' MTUs differ), else ingress. It says why. One for all groups.
    #[arg(long, value_name = "HOOK", value_parser = values::hook)]
    pub hook: Option<HookChoice>,
    /// Steer past netfilter's rules that --hook ingress or egress would refuse to bypass.
    #[arg(long)]
    pub bypass_netfilter: bool,
    /// Lower the MSS of TCP connections: auto, off or a number, 536 to 65495. Without it, as it is; auto at the first start.
    ///
    /// auto: to what fits through the tunnel, where --hook ingress bypasses a netfilter rule that does so; else off.
    #[arg(long, value_name = "MSS")]
    pub mss_clamp: Option<MssClamp>,
    /// Bits of the packet mark that are steer's, for --hook mark and for tunnels of different MTUs: 0xff000000 if not given.
    #[arg(long, value_name = "HEX")]
    pub mark_mask: Option<MarkMask>,
    /// Where to stand among other programs of a device: first or last. Without it, as it is; last at the first start.
    #[arg(long, value_name = "WHERE", value_parser = values::order)]
    pub order: Option<HookOrder>,
    /// Make the reverse path filter of a tunnel loose where it would drop replies; detach restores it.
    #[arg(long)]
    pub fix: bool,
    /// How a new flow gets its tunnel: hash.
    #[arg(long, value_name = "HOW", default_value = "hash", value_parser = values::placement)]
    pub placement: Placement,
    /// Seed of the flow hash, decimal or 0x…; random and kept if not given.
    ///
    /// Two gateways with the same seed, ids and weights place both directions of a flow alike.
    #[arg(long, value_name = "N", value_parser = plan::seed)]
    pub seed: Option<u64>,
    /// Size of the flow table; 2 % of the memory if not given, 65536 to 1048576 entries.
    #[arg(long, value_name = "N", value_parser = values::max_flows)]
    pub max_flows: Option<u32>,
    /// Forget a flow after this time without a packet: 30m, or tcp=2h,udp=5m (tcp, closing, udp, other).
    ///
    /// Without it: TCP 2h4m, TCP after FIN or RST 30s, UDP 5m, others 60s.
    #[arg(long, value_name = "TIME")]
    pub idle: Option<IdleSpec>,
    /// How programs are attached: tcx (kernel 6.6), clsact, or what the kernel has.
    #[arg(long, value_enum, default_value_t = AttachMode::Auto)]
    pub attach: AttachMode,
    /// Check everything and say what would be done, but do nothing.
    #[arg(long)]
    pub dry_run: bool,
}

impl SteerArgs {
    /// The part that planning is about.
    pub fn request(&self) -> Request {
        Request {
            group: self.group.clone(),
            ifaces: self.iface.clone(),
            tunnels: self.tunnel.clone(),
            prefixes: self.prefix.clone(),
            seed: self.seed,
            max_flows: self.max_flows,
            idle: self.idle,
            hook: self.hook,
            bypass_netfilter: self.bypass_netfilter,
            mss_clamp: self.mss_clamp,
            mark_mask: self.mark_mask,
            order: self.order,
            fix: self.fix,
            follows_routes: self.follow_routes,
        }
    }

    /// Which routes are to be followed, if any.
    pub fn follow(&self) -> Option<FollowSpec> {
        self.follow_routes.then(|| FollowSpec {
            tables: self.follow_table.clone(),
            protocols: self.follow_protocol.clone(),
            metric_max: None,
        })
    }
}

/// Arguments of `detach`.
#[derive(Clone, Debug, Args)]
pub struct DetachArgs {
    /// Say what would be removed, but remove nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// Arguments of `weights`.
#[derive(Clone, Debug, Args)]
pub struct WeightsArgs {
    /// New weight of a tunnel, 0 to 65535; none to show them all.
    #[arg(value_name = "NAME=WEIGHT")]
    pub weights: Vec<WeightSpec>,
    /// Group of the tunnels; needed only to show one of several.
    #[arg(long, value_name = "NAME", value_parser = plan::group_name)]
    pub group: Option<String>,
    /// Show the change, but do not make it.
    #[arg(long)]
    pub dry_run: bool,
}

/// Arguments of `disable` and `enable`.
#[derive(Clone, Debug, Args)]
pub struct TunnelArgs {
    /// Tunnel.
    #[arg(value_parser = plan::device_name)]
    pub name: String,
    /// Show the change, but do not make it.
    #[arg(long)]
    pub dry_run: bool,
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
