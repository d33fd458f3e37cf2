//! Arguments of the verbs that say what to steer.

use std::path::PathBuf;

use clap::Args;
use ipnet::IpNet;
use steer_common::abi::HookOrder;

use super::ProbeArgs;
use super::values::{self, Placement};
use crate::config::{GROUP_DEFAULT, Weights};
use crate::datapath::programs::AttachMode;
use crate::plan::{
    self, FollowSpec, GroupRequest, HookChoice, IdleSpec, MarkMask, MssClamp, Request, RouteLabel,
    TunnelSpec,
};

/// Arguments of `run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// What to steer.
    #[command(flatten)]
    pub steer: SteerArgs,
    /// How tunnels are probed.
    #[command(flatten)]
    pub probe: ProbeArgs,
    /// Leave program and maps in place at the end, so that packets are steered on.
    #[arg(long)]
    pub keep: bool,
    /// Where weights come from: as they are given, or from what the tunnels carry, their loss and their round trips.
    ///
    /// Without it, as the configuration file says, else fixed. With auto, new flows go from tunnels that are congested
    /// to those that are not, in small steps every 10 s; each is an event with its reason.
    #[arg(long, value_name = "HOW", value_enum)]
    pub weights: Option<Weights>,
}

/// What to steer: arguments of `run` and `attach`.
#[derive(Clone, Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "options of a command line")]
pub struct SteerArgs {
    /// Configuration file, which names all groups. Without it, and without --iface, --tunnel, --prefix,
    /// --follow-routes and --group: /etc/steer/steer.toml, if it is there. Other options go before what it says.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["iface", "tunnel", "prefix", "group", "follow_routes"]
    )]
    pub config: Option<PathBuf>,
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
    /// Group of tunnels to make or change; "default" if not given.
    #[arg(long, value_name = "NAME", value_parser = plan::group_name)]
    pub group: Option<String>,
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
    /// Whether they say anything of a group, so that no configuration file is looked for.
    pub fn name_a_group(&self) -> bool {
        self.group.is_some()
            || !self.iface.is_empty()
            || !self.tunnel.is_empty()
            || !self.prefix.is_empty()
            || self.follow_routes
    }

    /// The part that planning is about, without a configuration file.
    pub fn request(&self) -> Request {
        let group = GroupRequest {
            name: self.group_name(),
            ifaces: self.iface.clone(),
            tunnels: self.tunnel.iter().cloned().map(Into::into).collect(),
            prefixes: self.prefix.clone(),
            follows_routes: self.follow_routes,
        };
        self.over(Request {
            groups: vec![group],
            ..Request::default()
        })
    }

    /// The group that follows routes, and which.
    pub fn follows(&self) -> Vec<(String, FollowSpec)> {
        if !self.follow_routes {
            return Vec::new();
        }
        let spec = FollowSpec {
            tables: self.follow_table.clone(),
            protocols: self.follow_protocol.clone(),
            metric_max: None,
        };
        vec![(self.group_name(), spec)]
    }

    fn group_name(&self) -> String {
        self.group.clone().unwrap_or_else(|| GROUP_DEFAULT.into())
    }

    /// A request with what these arguments say of the whole gateway.
    pub fn over(&self, request: Request) -> Request {
        Request {
            seed: self.seed.or(request.seed),
            max_flows: self.max_flows.or(request.max_flows),
            idle: match (self.idle, request.idle) {
                (Some(own), Some(requested)) => Some(own.over(requested)),
                (own, requested) => own.or(requested),
            },
            hook: self.hook.or(request.hook),
            bypass_netfilter: self.bypass_netfilter || request.bypass_netfilter,
            mss_clamp: self.mss_clamp.or(request.mss_clamp),
            mark_mask: self.mark_mask.or(request.mark_mask),
            order: self.order.or(request.order),
            fix: self.fix || request.fix,
            ..request
        }
    }
}

/// Arguments of `check`.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// Configuration file; without it, that of the steerctl run that is there, else /etc/steer/steer.toml.
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Print the JSON schema of configuration files instead.
    #[arg(long, conflicts_with = "file")]
    pub schema: bool,
}
