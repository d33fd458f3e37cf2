//! Firewalls and NAT as operators write them, on a gateway of the lab.

use std::net::IpAddr;

use anyhow::{Context as _, Result};

use super::topology::{Family, tunnel_name};
use super::{Host, Missing, Side};

/// TCP and UDP ports that the stateful firewalls let new connections to.
pub const OPEN_PORTS: (u16, u16) = (7_000, 7_999);

/// Who filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firewall {
    /// nftables.
    Nft,
    /// The xtables of old, which nftables does not show.
    Iptables,
}

impl Firewall {
    /// An error if this kind cannot be used on `host`.
    pub fn check(self, host: &Host) -> Result<(), Missing> {
        let (program, args): (_, &[&str]) = match self {
            Self::Nft => ("nft", &["list", "ruleset"]),
            Self::Iptables => ("iptables-legacy", &["-S"]),
        };
        host.output(program, args)
            .map(drop)
            .map_err(|error| Missing(format!("{error:#}")))
    }

    /// Forwards what belongs to a connection, and new connections to
    /// [`OPEN_PORTS`] that come in by `devices` (names or, ending in `*`, all with that
    /// beginning); drops everything else, first of all what conntrack calls invalid.
    pub fn stateful(self, host: &Host, devices: &[&str]) -> Result<()> {
        self.check(host)?;
        let (first, last) = OPEN_PORTS;
        match self {
            Self::Nft => {
                let accept = |device: &&str| {
                    format!(
                        "iifname \"{device}\" meta l4proto {{ tcp, udp }} \
                         th dport {first}-{last} accept"
                    )
                };
                let new = devices.iter().map(accept).collect::<Vec<_>>().join("\n");
                let rules = format!(
                    "table inet filter {{
                       chain forward {{
                         type filter hook forward priority filter; policy drop;
                         ct state invalid drop
                         ct state established,related accept
                         {new}
                       }}
                     }}"
                );
                nft(host, &rules)
            }
            Self::Iptables => {
                let accept = |device: &&str| {
                    let device = device.replace('*', "+");
                    format!(
                        "-A FORWARD -i {device} -p tcp --dport {first}:{last} -j ACCEPT\n\
                         -A FORWARD -i {device} -p udp --dport {first}:{last} -j ACCEPT"
                    )
                };
                let new = devices.iter().map(accept).collect::<Vec<_>>().join("\n");
                let rules = format!(
                    "*filter\n:INPUT ACCEPT\n:FORWARD DROP\n:OUTPUT ACCEPT\n\
                     -A FORWARD -m conntrack --ctstate INVALID -j DROP\n\
                     -A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT\n\
                     {new}\nCOMMIT\n"
                );
                for program in ["iptables-legacy-restore", "ip6tables-legacy-restore"] {
                    host.feed(program, &[], &rules)?;
                }
                Ok(())
            }
        }
    }
}

/// What leaves by a tunnel gets the tunnel's address as its source.
pub fn masquerade(host: &Host, tunnels: usize) -> Result<()> {
    let rules: Vec<_> = (0..tunnels)
        .map(|k| format!("oifname \"{}\" masquerade", tunnel_name(k)))
        .collect();
    let rules = rules.join("\n");
    nft(
        host,
        &format!(
            "table inet per-tunnel {{ chain postrouting {{
               type nat hook postrouting priority srcnat; {rules}
             }}
             }}"
        ),
    )
}

/// New TCP and UDP connections that come by a tunnel to `port` of this gateway
/// go to a host behind it.
pub fn port_forward(host: &Host, port: u16, side: Side, to_port: u16) -> Result<()> {
    let rules = [Family::V4, Family::V6].map(|family| {
        let (kind, to) = match side.host(family) {
            IpAddr::V4(to) => ("ip", to.to_string()),
            IpAddr::V6(to) => ("ip6", format!("[{to}]")),
        };
        format!(
            "iifname \"wg*\" meta l4proto {{ tcp, udp }} th dport {port} \
             dnat {kind} to {to}:{to_port}"
        )
    });
    let rules = rules.join("\n");
    nft(
        host,
        &format!(
            "table inet port-forward {{ chain prerouting {{
               type nat hook prerouting priority dstnat; {rules}
             }}
             }}"
        ),
    )
}

/// Drops every message that a packet was too big: path MTU discovery has to do without.
pub fn block_too_big(host: &Host) -> Result<()> {
    nft(
        host,
        "table inet black-hole { chain input {
           type filter hook input priority filter;
           icmp type destination-unreachable icmp code frag-needed drop
           icmpv6 type packet-too-big drop
         }
         }",
    )
}

/// Lowers the MSS of forwarded connections to the MTU of their route, as a
/// gateway without steer does.
pub fn clamp_mss(host: &Host) -> Result<()> {
    nft(
        host,
        "table inet clamp { chain forward {
           type filter hook forward priority mangle;
           tcp flags syn tcp option maxseg size set rt mtu
         }
         }",
    )
}

/// Starts to count the packets that `host` forwards by itself.
pub fn count_forwarded(host: &Host) -> Result<()> {
    nft(
        host,
        "table inet count {
           counter forwarded {}
           chain forward {
             type filter hook forward priority filter;
             counter name forwarded
           }
         }",
    )
}

/// Packets since [`count_forwarded`].
pub fn forwarded(host: &Host) -> Result<u64> {
    let args = ["list", "counter", "inet", "count", "forwarded"];
    let text = host.output("nft", &args)?;
    let mut words = text.split_whitespace();
    words
        .find(|word| *word == "packets")
        .and_then(|_| words.next()?.parse().ok())
        .with_context(|| format!("nft: no counter in {text}"))
}

/// Drops everything that comes by `device` but what finds neighbours, before `host` can answer.
pub fn silence(host: &Host, device: &str) -> Result<()> {
    nft(
        host,
        &format!(
            "table inet silence {{
               chain prerouting {{
                 type filter hook prerouting priority raw;
                 icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
                 iifname \"{device}\" drop
               }}
             }}"
        ),
    )
}

/// Adds rules to those that `host` has.
pub fn nft(host: &Host, rules: &str) -> Result<()> {
    host.feed("nft", &["-f", "-"], rules).map(drop)
}
