//! The systems that are compared, set up as their users would.

mod classic;
mod kernel;
mod nftables;
mod rules;

use std::{fmt, fs};

use anyhow::Result;
use aya::{Ebpf, programs::TcAttachType};

use steer_common::bench::programs;

use super::object;
use crate::lab::Host;

/// How many connections the kernel tracks.
const CONNECTIONS_MAX: &str = "/proc/sys/net/netfilter/nf_conntrack_max";

/// How the others are set up, for reports.
pub(super) const RECIPES: &str = "Next-hop keys, jhash seeds and steer's seeds are random in each round, and differ between the gateways. CONNMARK and \
     nft mark each new connection once, by turns (`statistic nth`, `numgen`) or by a hash of its 5-tuple, not by address \
     pair as in many recipes; a mark whose tunnel is not in use is chosen anew. The resilient group has 1,024 buckets and the \
     kernel's timers (idle_timer 120, unbalanced_timer 0).";

/// What is behind the tunnels of a gateway, and how it is hashed.
#[derive(Clone, Debug, Default)]
pub struct Remote {
    /// IPv6 instead of IPv4.
    pub ipv6: bool,
    /// The tunnels' names.
    pub tunnels: Vec<String>,
    /// The remote prefixes, as `ip route` takes them.
    pub prefixes: Vec<String>,
    /// Prefixes that are none of them, and that the kernel routes into the first tunnel.
    pub others: Vec<String>,
    /// Seed of `jhash`.
    pub seed: u32,
}

/// A tunnel in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which of [`Remote::tunnels`].
    pub tunnel: usize,
    /// Its weight.
    pub weight: u32,
}

impl Member {
    /// All of so many tunnels, alike.
    pub fn all(tunnels: usize) -> Vec<Self> {
        (0..tunnels)
            .map(|tunnel| Self { tunnel, weight: 1 })
            .collect()
    }
}

/// Numbers of the tunnels in use, each as often as its weight says.
fn slots(members: &[Member]) -> Vec<usize> {
    let repeated = |member: &Member| (0..member.weight).map(|_| member.tunnel).collect();
    let slots: Vec<Vec<_>> = members.iter().map(repeated).collect();
    slots.concat()
}

/// Numbers of the tunnels that are none of these members.
fn unused(remote: &Remote, members: &[Member]) -> Vec<usize> {
    let is_unused = |tunnel: &usize| members.iter().all(|member| member.tunnel != *tunnel);
    (0..remote.tunnels.len()).filter(is_unused).collect()
}

impl Remote {
    /// `-4` or `-6`, for `ip`.
    pub(super) fn family(&self) -> &'static str {
        if self.ipv6 { "-6" } else { "-4" }
    }
}

/// What forwards from the LAN into the tunnels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A TC program that redirects everything into one tunnel and knows nothing: the limit.
    Bare,
    /// The same with a program on the tunnel that leaves every packet alone: the limit of whatever has one there.
    BareIdle,
    /// A look-up in a map of the smallest entries, and the redirect.
    LookUpSmall,
    /// A look-up in a map of flows like steer's, and the redirect: the limit of whatever keeps state for each.
    LookUp,
    /// One route to one tunnel.
    Route,
    /// The same with a policy rule that no packet meets: what any rule costs the kernel.
    RouteRule,
    /// The kernel's multipath, by its own choice of a hash (policy 1).
    Multipath1,
    /// The same by the 5-tuple (policy 3).
    Multipath3,
    /// The kernel's resilient next-hop group.
    Resilient,
    /// iptables: CONNMARK, ipset and a policy rule for each tunnel.
    Classic,
    /// nftables: a connection's mark by turns, and a policy rule for each tunnel.
    NftTurns,
    /// The same by a hash.
    NftHash,
    /// steer on the LAN device.
    SteerIngress,
    /// steer on the tunnels.
    SteerEgress,
    /// steer by marks.
    SteerMark,
}

impl Peer {
    /// All of them, the baseline first.
    pub const ALL: [Self; 15] = [
        Self::Bare,
        Self::BareIdle,
        Self::LookUpSmall,
        Self::LookUp,
        Self::Route,
        Self::RouteRule,
        Self::Multipath1,
        Self::Multipath3,
        Self::Resilient,
        Self::Classic,
        Self::NftTurns,
        Self::NftHash,
        Self::SteerIngress,
        Self::SteerEgress,
        Self::SteerMark,
    ];
    /// Where it is steer that is looked at.
    pub const FEW: [Self; 7] = [
        Self::Bare,
        Self::Route,
        Self::Multipath3,
        Self::NftHash,
        Self::SteerIngress,
        Self::SteerEgress,
        Self::SteerMark,
    ];
    /// Where no tunnel is to be chosen: steer and the kernel as it is without.
    pub const ROUTED: [Self; 6] = [
        Self::Bare,
        Self::Route,
        Self::RouteRule,
        Self::SteerIngress,
        Self::SteerEgress,
        Self::SteerMark,
    ];

    /// The hook, if it is steer.
    pub fn hook(self) -> Option<&'static str> {
        match self {
            Self::SteerIngress => Some("ingress"),
            Self::SteerEgress => Some("egress"),
            Self::SteerMark => Some("mark"),
            _ => None,
        }
    }

    /// Sets up what is not steer on a gateway whose LAN device is `lan0`. What is returned has to live as long.
    /// For steer there is one route to the first tunnel, as on most gateways; who calls starts it.
    /// Those with a table of their own have room for so many flows.
    pub fn set_up(self, host: &Host, remote: &Remote, flows: u32) -> Result<Option<Ebpf>> {
        let all = Member::all(remote.tunnels.len());
        match self {
            Self::LookUp => {
                return object::attach(host, programs::LOOK_UP, &["lan0"], "wg0", flows).map(Some);
            }
            Self::LookUpSmall => {
                return object::attach(host, programs::LOOK_UP_SMALL, &["lan0"], "wg0", flows)
                    .map(Some);
            }
            Self::Bare => return redirect(host, &["lan0"], "wg0").map(Some),
            Self::BareIdle => {
                let mut object = redirect(host, &["lan0"], "wg0")?;
                object::attach_to(
                    &mut object,
                    host,
                    programs::IDLE,
                    &["wg0"],
                    TcAttachType::Egress,
                )?;
                return Ok(Some(object));
            }
            Self::SteerIngress | Self::SteerEgress | Self::SteerMark | Self::Route => {
                kernel::one_route(host, remote)?;
            }
            Self::RouteRule => {
                kernel::one_route(host, remote)?;
                rules::idle(host, remote)?;
            }
            Self::Multipath1 => kernel::multipath(host, remote, "1")?,
            Self::Multipath3 => kernel::multipath(host, remote, "3")?,
            Self::Resilient => kernel::resilient(host, remote)?,
            Self::Classic => classic::set_up(host, remote)?,
            Self::NftTurns => {
                nftables::set_up(host, remote)?;
                nftables::choose_by_turns(host, remote, &all)?;
            }
            Self::NftHash => {
                nftables::set_up(host, remote)?;
                nftables::choose_by_hash(host, remote, &all)?;
            }
        }
        kernel::others(host, remote)?;
        Ok(None)
    }

    /// Tells what is not steer that other tunnels are in use now, with other weights, or in another order: as
    /// who wrote it down would change what is written. For steer, who calls does.
    pub fn change(self, host: &Host, remote: &Remote, to: &[Member]) -> Result<()> {
        match self {
            Self::Multipath1 | Self::Multipath3 => kernel::use_multipath(host, remote, to),
            Self::Resilient => kernel::use_resilient(host, remote, to),
            Self::Classic => classic::choose_from(host, remote, to),
            Self::NftTurns => nftables::choose_by_turns(host, remote, to),
            Self::NftHash => nftables::choose_by_hash(host, remote, to),
            Self::Bare
            | Self::BareIdle
            | Self::LookUpSmall
            | Self::LookUp
            | Self::Route
            | Self::RouteRule
            | Self::SteerIngress
            | Self::SteerEgress
            | Self::SteerMark => Ok(()),
        }
    }

    /// Whether it uses all tunnels when there are many flows.
    pub(super) fn spreads(self) -> bool {
        !matches!(
            self,
            Self::Bare
                | Self::BareIdle
                | Self::LookUpSmall
                | Self::LookUp
                | Self::Route
                | Self::RouteRule
        )
    }

    /// Why it cannot hold so many flows, if it cannot.
    pub(super) fn cannot_hold(self, flows: u32) -> Option<String> {
        if !matches!(self, Self::Classic | Self::NftTurns | Self::NftHash) {
            return None;
        }
        // The limit is the machine's, and not a benchmark's to change. Without the connection
        // tracker, which is a module, there is none yet.
        let most = fs::read_to_string(CONNECTIONS_MAX).ok()?;
        let most: u32 = most.trim().parse().ok()?;
        (flows > most).then(|| format!("net.netfilter.nf_conntrack_max is {most}"))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Bare => "bare redirect",
            Self::BareIdle => "redirect, idle program on the tunnel",
            Self::LookUpSmall => "smallest look-up and redirect",
            Self::LookUp => "look-up and redirect",
            Self::Route => "one route",
            Self::RouteRule => "one route, one ip rule",
            Self::Multipath1 => "multipath, policy 1",
            Self::Multipath3 => "multipath, policy 3",
            Self::Resilient => "resilient group",
            Self::Classic => "CONNMARK + ipset + ip rule",
            Self::NftTurns => "nft ct mark, numgen",
            Self::NftHash => "nft ct mark, jhash",
            Self::SteerIngress => "steer ingress",
            Self::SteerEgress => "steer egress",
            Self::SteerMark => "steer mark",
        })
    }
}

/// Redirects all that comes in by some devices to another; what is returned has to live as long.
pub(super) fn redirect(host: &Host, from: &[&str], to: &str) -> Result<Ebpf> {
    object::attach(host, programs::REDIRECT, from, to, 1)
}

/// Gives `ip` many lines at once.
fn ip_lines(host: &Host, remote: &Remote, lines: &[String]) -> Result<()> {
    let args = [remote.family(), "-batch", "-"];
    host.feed("ip", &args, &(lines.join("\n") + "\n")).map(drop)
}
