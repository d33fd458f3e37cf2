//! What the routes to one prefix mean for the groups that follow them.

use ipnet::IpNet;
use steer_common::abi::TunnelId;

use super::{FollowRoutes, Following, HopSet, LeftReason, left::Collector};
use crate::{
    net::{Hop, Route, RouteTable},
    plan::prefixes,
};

/// What the routes to a prefix mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// One of the following groups, by index, steers it over these tunnels.
    Steer(usize, HopSet),
    /// None steers it; for those with a bit here a route leads its packets elsewhere.
    Leave(u64),
}

/// What the kernel's choice among routes to one prefix is.
struct Best<'a> {
    route: &'a Route,
    /// `None` when it leads elsewhere.
    hops: Option<Vec<Hop>>,
}

/// The choice that the routes to a prefix make; `None` when they are not used, or when the packet path
/// leaves its addresses to the kernel anyway.
pub(super) fn choose(
    prefix: IpNet,
    routes: &[Route],
    table: &RouteTable,
    following: &[Following],
    left: &mut Collector,
) -> Option<Choice> {
    if prefixes::is_never_steered(prefix) {
        return None;
    }
    let is_default = prefix.prefix_len() == 0;
    let mut leave = 0;
    for (index, of) in following.iter().enumerate() {
        let Some(best) = best(prefix, routes, table, &of.routes) else {
            continue;
        };
        let hops = best.hops.filter(|_| of.routes.takes(best.route));
        match hops.map(|hops| through(&hops, &of.tunnels)) {
            Some(Through::Tunnels(hops)) if !is_default => {
                return Some(Choice::Steer(index, hops));
            }
            Some(Through::Tunnels(_)) => left.add(of.group, LeftReason::Default, prefix),
            Some(Through::Also(ifindex)) => {
                left.add(of.group, LeftReason::AlsoBy(ifindex), prefix);
            }
            Some(Through::Others) | None => {}
        }
        leave |= 1 << index;
    }
    // Nothing is around a default route.
    (leave != 0 && !is_default).then_some(Choice::Leave(leave))
}

/// The route that the kernel uses: of the first table that has one, that of the smallest metric, past those
/// whose devices are all down.
fn best<'a>(
    prefix: IpNet,
    routes: &'a [Route],
    table: &RouteTable,
    follow: &FollowRoutes,
) -> Option<Best<'a>> {
    for number in &follow.tables {
        let mut of_table = routes
            .iter()
            .filter(|route| route.table == *number)
            .filter_map(|route| {
                let hops = table.hops(route);
                let is_used = hops.as_ref().is_none_or(|hops| !hops.is_empty());
                is_used.then_some(Best { route, hops })
            });
        let Some(mut best) = of_table.next() else {
            continue;
        };
        // IPv6 may have the next hops of one metric as routes of their own.
        if let (IpNet::V6(_), Some(hops)) = (prefix, &mut best.hops) {
            let rivals = of_table.take_while(|other| other.route.metric == best.route.metric);
            hops.extend(rivals.filter_map(|other| other.hops).flatten());
        }
        return Some(best);
    }
    None
}

enum Through {
    /// These tunnels and nothing else.
    Tunnels(HopSet),
    /// Some, and this device.
    Also(u32),
    /// None.
    Others,
}

fn through(hops: &[Hop], tunnels: &[(TunnelId, u32)]) -> Through {
    let mut set: HopSet = Vec::with_capacity(hops.len());
    let mut other = None;
    for hop in hops {
        let tunnel = tunnels.iter().find(|(_, ifindex)| *ifindex == hop.ifindex);
        let Some((id, _)) = tunnel else {
            other = Some(hop.ifindex);
            continue;
        };
        match set.iter_mut().find(|(known, _)| known == id) {
            Some((_, weight)) => *weight += hop.weight,
            None => set.push((*id, hop.weight)),
        }
    }
    match other {
        Some(_) if set.is_empty() => Through::Others,
        Some(ifindex) => Through::Also(ifindex),
        None => Through::Tunnels(reduced(set)),
    }
}

/// In order, and without a common divisor: 2:2 is 1:1.
fn reduced(mut set: HopSet) -> HopSet {
    let divisor = set
        .iter()
        .fold(0, |divisor, (_, weight)| gcd(divisor, *weight));
    for (_, weight) in &mut set {
        *weight /= divisor.max(1);
    }
    set.sort_unstable();
    set
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}
