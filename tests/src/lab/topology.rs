//! Addresses, devices and routes of the lab.
//!
//! ```text
//! client            gateway A                      gateway B            server
//! 10.1.0.2  lan0 ── lan0 10.1.0.1                  10.2.0.1 lan0 ── lan0 10.2.0.2
//! fd00:1::2         fd00:1::1                      fd00:2::1        fd00:2::2
//!                   ul0  172.31.0.1 ───TBF─── 172.31.0.2  ul0
//!                   wg0  10.9.0.1   ═════════ 10.9.0.2    wg0     (over ul0)
//!                   ul1 / wg1 …               … ul1 / wg1
//! ```
//!
//! The kernel's routes to the other LAN go over `wg0` alone: without steer,
//! one tunnel carries everything.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// MTU of the tunnels, as `wg-quick` sets it over a 1,500-byte underlay.
pub const TUNNEL_MTU: u32 = 1420;

/// Packets that wait for WireGuard; TUN's own default of 500 is a tenth of a second here.
const TUNNEL_QUEUE: u32 = 10_000;

/// IPv4 or IPv6, for everything inside the tunnels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// One of the two gateways, with the LAN behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The client's gateway.
    A,
    /// The server's gateway.
    B,
}

impl Side {
    /// The other gateway.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// 1 for A, 2 for B: the number in all of the side's addresses.
    fn number(self) -> u8 {
        match self {
            Self::A => 1,
            Self::B => 2,
        }
    }

    /// Prefixes of the networks behind this gateway.
    pub fn prefixes(self) -> [String; 2] {
        let n = self.number();
        [format!("10.{n}.0.0/16"), format!("fd00:{n}::/64")]
    }

    /// Address of the gateway on its LAN.
    pub fn gateway(self, family: Family) -> IpAddr {
        lan_address(self, family, 1)
    }

    /// Address of the host (client or server) on this gateway's LAN.
    pub fn host(self, family: Family) -> IpAddr {
        lan_address(self, family, 2)
    }
}

fn lan_address(side: Side, family: Family, host: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, side.number(), 0, host).into(),
        Family::V6 => {
            let side = u16::from(side.number());
            Ipv6Addr::new(0xfd00, side, 0, 0, 0, 0, 0, host.into()).into()
        }
    }
}

/// Name of tunnel `k`, the same on both gateways.
pub fn tunnel_name(k: usize) -> String {
    format!("wg{k}")
}

/// Name of the underlay device of tunnel `k`, the same on both gateways.
pub fn underlay_name(k: usize) -> String {
    format!("ul{k}")
}

/// Address of a gateway on the underlay of tunnel `k`.
pub(super) fn underlay_address(side: Side, k: usize) -> Ipv4Addr {
    Ipv4Addr::new(172, 31, octet(k), side.number())
}

/// Address of a gateway in tunnel `k`.
pub fn tunnel_address(side: Side, k: usize, family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 9, octet(k), side.number()).into(),
        Family::V6 => {
            let (k, side) = (u16::from(octet(k)), u16::from(side.number()));
            Ipv6Addr::new(0xfd00, 9, k, 0, 0, 0, 0, side).into()
        }
    }
}

/// The networks inside tunnel `k`.
pub(super) fn tunnel_prefixes(k: usize) -> [String; 2] {
    let k = octet(k);
    [format!("10.9.{k}.0/30"), format!("fd00:9:{k:x}::/64")]
}

/// UDP port of tunnel `k`.
pub(super) fn tunnel_port(k: usize) -> u16 {
    51_820 + u16::from(octet(k))
}

fn octet(k: usize) -> u8 {
    u8::try_from(k).expect("a lab has at most 64 tunnels")
}

/// Settings that must be there before the first device: devices copy `default`.
pub(super) const SYSCTLS: &[(&str, &str)] = &[
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    // Tests wait for errors, and ask for many at once.
    ("ipv4/icmp_ratelimit", "0"),
    ("ipv6/icmp/ratelimit", "0"),
];

/// Settings of the gateways.
pub(super) const GATEWAY_SYSCTLS: &[(&str, &str)] =
    &[("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")];

/// `ip` line of the host behind a gateway that makes the cable to that gateway.
pub(super) fn lan_cable(gateway_netns: &str) -> String {
    format!("link add lan0 type veth peer name lan0 netns {gateway_netns}")
}

/// `ip` lines of gateway A that make the cables to gateway B.
pub(super) fn underlay_cables(far_netns: &str, tunnels: usize) -> Vec<String> {
    let cable = |name| format!("link add {name} type veth peer name {name} netns {far_netns}");
    (0..tunnels).map(|k| cable(underlay_name(k))).collect()
}

/// `ip` lines of the client (side A) or the server (side B).
pub(super) fn end_host(side: Side) -> Vec<String> {
    let (v4, v6) = (Family::V4, Family::V6);
    vec![
        "link set lo up".into(),
        "link set lan0 up".into(),
        format!("addr add {}/24 dev lan0", side.host(v4)),
        format!("addr add {}/64 dev lan0 nodad", side.host(v6)),
        format!("route add default via {}", side.gateway(v4)),
        format!("route add default via {}", side.gateway(v6)),
    ]
}

/// `ip` lines of a gateway, without its tunnels.
pub(super) fn gateway(side: Side, tunnels: usize) -> Vec<String> {
    let mut lines = vec![
        "link set lo up".into(),
        "link set lan0 up".into(),
        format!("addr add {}/24 dev lan0", side.gateway(Family::V4)),
        format!("addr add {}/64 dev lan0 nodad", side.gateway(Family::V6)),
    ];
    for k in 0..tunnels {
        let device = underlay_name(k);
        lines.push(format!(
            "addr add {}/24 dev {device}",
            underlay_address(side, k)
        ));
        lines.push(format!("link set {device} up"));
    }
    lines
}

/// `tc` lines that shape a gateway's underlay devices to `rate_mbit`.
///
/// The burst covers 4 ms and any GSO packet; the queue holds 60 ms, so that
/// one TCP flow fills the tunnel and ten do not time out.
pub(super) fn shaping(tunnels: usize, rate_mbit: u32) -> Vec<String> {
    let burst_bytes = (rate_mbit * 500).max(16_000);
    (0..tunnels)
        .map(|k| {
            format!(
                "qdisc add dev {} root tbf rate {rate_mbit}mbit burst {burst_bytes} latency 60ms",
                underlay_name(k)
            )
        })
        .collect()
}

/// `ip` lines that give tunnel `k` of a gateway its addresses and start it.
pub(super) fn tunnel(side: Side, k: usize) -> Vec<String> {
    let device = tunnel_name(k);
    vec![
        format!(
            "addr add {}/30 dev {device}",
            tunnel_address(side, k, Family::V4)
        ),
        format!(
            "addr add {}/64 dev {device} nodad",
            tunnel_address(side, k, Family::V6)
        ),
        // The long queue is for a userspace WireGuard that waits for the processor.
        format!("link set {device} mtu {TUNNEL_MTU} txqueuelen {TUNNEL_QUEUE} up"),
    ]
}

/// `ip` lines of the routes to the other side's networks: over `wg0` alone.
pub(super) fn routes(side: Side) -> Vec<String> {
    let [v4, v6] = side.other().prefixes();
    let device = tunnel_name(0);
    vec![
        format!("route add {v4} dev {device}"),
        format!("route add {v6} dev {device}"),
    ]
}
