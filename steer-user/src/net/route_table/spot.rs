//! Where among others to its prefix the kernel has a route that it told of, and whether that is certain.

use std::ops::Range;

use ipnet::IpNet;

use super::{Hop, Leads, Place, Route};

/// Those of a prefix's routes that have the table and metric of this one, or where they would be. They are
/// next to each other.
pub(super) fn rivals(routes: &[Route], of: &Route) -> Range<usize> {
    let key = |route: &Route| (route.table, route.metric);
    let start = routes.partition_point(|other| key(other) < key(of));
    let count = routes[start..].partition_point(|other| key(other) == key(of));
    start..start + count
}

/// Which of the others of its metric an IPv4 route takes the place of, and whether that is certain
/// (`fib_table_insert`, `net/ipv4/fib_trie.c`).
pub(super) fn spot_in_v4(others: &[Route], route: &Route, place: Place) -> (Range<usize>, bool) {
    let last = others.len();
    // There may be several that are alike to us: scope, source address, MTU, … are not looked at.
    let known = others.iter().position(|other| is_same(other, route));
    match (place, known) {
        (Place::Replaced, _) => (0..last.min(1), last <= 1),
        (_, Some(at)) => (at..at + 1, false),
        (Place::First, None) => (0..0, false),
        (_, None) => (last..last, false),
    }
}

/// The same of an IPv6 route (`fib6_add_rt2node`, `net/ipv6/ip6_fib.c`). Next hops by gateways join those of
/// their metric that are there, and are told with them; anything else beside others is not certain.
pub(super) fn spot_in_v6(others: &[Route], route: &Route, place: Place) -> (Range<usize>, bool) {
    let has_several = matches!(&route.leads, Leads::Hops(hops) if hops.len() > 1);
    match (others, place) {
        // A request with a list of next hops is not told to make a route that is alone.
        ([], _) => {
            let is_list = has_several || place == Place::Replaced;
            (0..0, is_list && has_gateways(route))
        }
        ([other], Place::Replaced) => {
            // Of several next hops without gateways the kernel makes as many routes, and tells of one.
            let may_be_one_of_some = matches!(route.leads, Leads::Hops(_)) && !has_gateways(route);
            let is_alike = has_gateways(other) == has_gateways(route);
            (0..1, is_alike && !may_be_one_of_some)
        }
        (_, Place::Replaced) => (0..1, false),
        _ => {
            let last = others.len();
            let is_grown = |other: &Route| {
                has_gateways(other) && (is_same(other, route) || leads_further(route, other))
            };
            let at = others.iter().position(is_grown);
            let is_sure = last == 1 && others[0].protocol == route.protocol;
            at.map_or((last..last, false), |at| (at..at + 1, is_sure))
        }
    }
}

/// Takes the next hops of this route off the one among others that has them, and more.
pub(super) fn leave(others: &mut [Route], route: &Route) {
    let rest = others.iter_mut().find(|other| leads_further(other, route));
    let (Some(Leads::Hops(hops)), Leads::Hops(gone)) =
        (rest.map(|rest| &mut rest.leads), &route.leads)
    else {
        return;
    };
    for gone in gone {
        let at = hops.iter().position(|hop| hop.is_by(gone));
        at.map(|at| hops.remove(at));
    }
}

/// Whether there may be several next hops, between which IPv6 may have other routes.
pub(super) fn may_hide_others(prefix: &IpNet, route: &Route) -> bool {
    let may_have_several = match &route.leads {
        Leads::Hops(hops) => hops.len() > 1,
        Leads::Object(_) => false,
        Leads::Elsewhere => true,
    };
    may_have_several && prefix.addr().is_ipv6()
}

/// Whether both are one route, whatever became of its devices.
pub(super) fn is_same(one: &Route, other: &Route) -> bool {
    let leads_same = match (&one.leads, &other.leads) {
        (Leads::Hops(one), Leads::Hops(other)) => {
            let key = |hop: &Hop| (hop.ifindex, hop.weight, hop.via);
            one.iter().map(key).eq(other.iter().map(key))
        }
        (one, other) => one == other,
    };
    let key = |route: &Route| (route.table, route.metric, route.protocol);
    leads_same && key(one) == key(other)
}

/// Whether IPv6 takes other next hops beside those of this route (`rt6_qualify_for_ecmp`, `include/net/ip6_route.h`).
fn has_gateways(route: &Route) -> bool {
    let Leads::Hops(hops) = &route.leads else {
        return false;
    };
    hops.iter().all(|hop| hop.via.is_some())
}

/// Whether a route has the next hops of another one, and more.
fn leads_further(route: &Route, than: &Route) -> bool {
    let key = |route: &Route| (route.table, route.metric);
    let (Leads::Hops(hops), Leads::Hops(fewer)) = (&route.leads, &than.leads) else {
        return false;
    };
    let mut left = hops.clone();
    let holds_all = fewer.iter().all(|hop| {
        let at = left.iter().position(|other| other.is_by(hop));
        at.map(|at| left.swap_remove(at)).is_some()
    });
    key(route) == key(than) && holds_all && !left.is_empty()
}
