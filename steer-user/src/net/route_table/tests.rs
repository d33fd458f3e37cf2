//! Notices as the kernel sends them; against a real kernel in `tests/net/route_table.rs`.

use super::*;

const MAIN: u32 = ROUTE_TABLE_MAIN;

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

fn by(metric: u32, devices: &[u32]) -> Route {
    let hop = |ifindex: &u32| Hop {
        ifindex: *ifindex,
        weight: 1,
        ..Hop::default()
    };
    Route {
        table: MAIN,
        metric,
        protocol: 3,
        leads: Leads::Hops(devices.iter().map(hop).collect()),
    }
}

fn came(prefix: &str, route: Route, place: Place) -> RouteNotice {
    let prefix = net(prefix);
    RouteNotice::Came {
        prefix,
        route,
        place,
    }
}

fn went(prefix: &str, route: Route) -> RouteNotice {
    let prefix = net(prefix);
    RouteNotice::Went { prefix, route }
}

/// The routes to a prefix after these notices, and what each did.
fn after(prefix: &str, notices: Vec<RouteNotice>) -> (Vec<Route>, Vec<Noted>) {
    let mut table = RouteTable::new([MAIN]);
    let noted = notices
        .into_iter()
        .map(|notice| table.note(notice))
        .collect();
    let routes = table.iter().find(|(of, _)| *of == net(prefix));
    (
        routes
            .map(|(_, routes)| routes.to_vec())
            .unwrap_or_default(),
        noted,
    )
}

const V4: &str = "10.2.0.0/16";
const V6: &str = "fd00:2::/64";

use Noted::{Changed, Nothing, Unsure};
use Place::{Alone, First, Last, Replaced};

#[test]
fn order_of_routes() {
    let (routes, noted) = after(
        V4,
        vec![
            came(V4, by(20, &[1]), Alone),
            came(V4, by(10, &[2]), Alone),
            came(V4, by(10, &[3]), Last),
            came(V4, by(10, &[4]), First),
            went(V4, by(10, &[2])),
            // Who has no other beside it is the only one.
            came(V4, by(20, &[5]), Alone),
        ],
    );
    assert_eq!(routes, [by(10, &[4]), by(10, &[3]), by(20, &[5])]);
    assert_eq!(noted, [Changed, Changed, Unsure, Unsure, Unsure, Changed]);
}

#[test]
fn replaced() {
    for prefix in [V4, V6] {
        let (routes, noted) = after(
            prefix,
            vec![
                came(prefix, by_gateways(10, &[1], 1), Alone),
                came(prefix, by_gateways(10, &[2], 1), Replaced),
                came(prefix, by_gateways(20, &[3], 1), Alone),
                came(prefix, by_gateways(10, &[2], 1), Replaced),
            ],
        );
        assert_eq!(routes, [by_gateways(10, &[2], 1), by_gateways(20, &[3], 1)]);
        assert_eq!(noted, [Changed, Changed, Changed, Nothing]);
        let (_, noted) = after(
            prefix,
            vec![
                came(prefix, by(10, &[1]), Alone),
                came(prefix, by(10, &[2]), Last),
                came(prefix, by(10, &[3]), Replaced),
                came(prefix, by(10, &[1]), Replaced),
            ],
        );
        assert_eq!(noted[2..], [Unsure; 2], "which one?");
    }
}

/// As routing daemons make IPv6 routes of several next hops: one by one, or all at once.
#[test]
fn next_hops_that_join() {
    let by = |devices: &[u32]| by_gateways(10, devices, 1);
    let (routes, noted) = after(
        V6,
        vec![
            came(V6, by(&[1]), Alone),
            came(V6, by(&[1, 2]), Last),
            came(V6, by(&[1, 2, 3]), Last),
            went(V6, by(&[1, 2, 3])),
            came(V6, by(&[1, 2]), First),
            came(V6, by(&[2, 3]), Replaced),
            came(V6, by(&[3]), Replaced),
            went(V6, by(&[3])),
            went(V6, by(&[3])),
        ],
    );
    assert_eq!(routes, []);
    assert_eq!(noted, [[Changed; 8].as_slice(), &[Nothing]].concat());
    // IPv4 does not work so: these are two routes.
    let notices = vec![came(V4, by(&[1]), Alone), came(V4, by(&[1, 2]), Last)];
    let (routes, noted) = after(V4, notices);
    assert_eq!((routes.len(), noted), (2, vec![Changed, Unsure]));
}

/// What messages leave open is known only after the next listing.
#[test]
fn what_is_not_told() {
    let hops = |devices: &[u32]| by_gateways(10, devices, 1);
    let of_other = |route: Route| Route {
        protocol: 12,
        ..route
    };
    let unsure = |prefix: &str, notices: Vec<RouteNotice>, what: &str| {
        let (_, noted) = after(prefix, notices);
        let (last, before) = noted.split_last().expect("some");
        assert!(
            before.iter().all(|noted| *noted == Changed),
            "{what}: {before:?}"
        );
        assert_eq!(*last, Unsure, "{what}");
    };
    let known = || came(V6, hops(&[1, 2]), First);
    unsure(
        V6,
        vec![known(), went(V6, hops(&[1]))],
        "who made what is left?",
    );
    unsure(
        V6,
        vec![known(), came(V6, of_other(hops(&[1, 2, 3])), Last)],
        "who made the first?",
    );
    unsure(
        V6,
        vec![known(), came(V6, by(10, &[3]), First)],
        "one of another kind",
    );
    unsure(
        V6,
        vec![known(), came(V6, by(10, &[3]), Replaced)],
        "beside them or instead?",
    );
    unsure(
        V6,
        vec![came(V6, hops(&[1]), Last)],
        "others that were not told",
    );
    unsure(
        V6,
        vec![
            came(V6, by(10, &[1]), Alone),
            came(V6, by(10, &[2]), Replaced),
        ],
        "one of several?",
    );
    unsure(
        V4,
        vec![came(V4, by(10, &[1]), Last)],
        "others that were not told",
    );
    unsure(
        V4,
        vec![came(V4, by(10, &[1]), Alone), came(V4, by(10, &[1]), Last)],
        "alike, or told twice",
    );
    unsure(
        V4,
        vec![came(V4, by(10, &[1]), Alone), went(V4, by(10, &[2]))],
        "another one",
    );
    assert_eq!(RouteTable::default().note(RouteNotice::Lost), Unsure);
}

/// Of two that are alike one went before the listing, and is told after it.
#[test]
fn what_was_alike() {
    let listed = |count: usize| {
        let mut table = RouteTable::new([MAIN]);
        for _ in 0..count {
            table.add_listed(net(V4), by(10, &[1]));
        }
        table
    };
    let mut table = listed(2);
    table.renew(listed(1));
    assert_eq!(table.note(went(V4, by(10, &[1]))), Unsure);
    table.renew(listed(1));
    assert_eq!(table.note(went(V4, by(10, &[1]))), Changed);
}

/// Routes of one kind that lie between IPv6 next hops of the other are not in the kernel's listing.
#[test]
fn what_is_not_listed() {
    let hops = |devices: &[u32]| by_gateways(10, devices, 1);
    let listed = |routes: &[Route]| {
        let mut table = RouteTable::new([MAIN]);
        for route in routes {
            table.add_listed(net(V6), route.clone());
        }
        table
    };
    let mut table = listed(&[hops(&[1, 2])]);
    assert_eq!(table.note(came(V6, by(10, &[3]), Last)), Unsure);
    table.renew(listed(&[hops(&[1, 2])]));
    assert_eq!(table.note(went(V6, hops(&[1, 2]))), Unsure, "it shows now");
    table.renew(listed(&[by(10, &[3])]));
    table.renew(listed(&[by(10, &[3])]));
    assert_eq!(
        table.note(went(V6, by(10, &[3]))),
        Changed,
        "all are listed"
    );
    // What a listing shows no more may be there all the same.
    let mut other = listed(&[hops(&[1]), by(10, &[3])]);
    other.renew(listed(&[hops(&[1, 2])]));
    assert_eq!(other.note(came(V6, hops(&[1, 2]), Last)), Unsure);
    // Until the kernel says that there are no others.
    assert_eq!(table.note(came(V6, hops(&[1]), Last)), Unsure);
    table.renew(listed(&[hops(&[1, 2])]));
    assert_eq!(table.note(came(V6, hops(&[1]), Alone)), Changed);
    assert_eq!(table.note(came(V6, hops(&[1, 2]), Last)), Changed);
}

#[test]
fn what_is_told_twice() {
    let (routes, noted) = after(
        V4,
        vec![
            came(V4, by(10, &[1]), Alone),
            came(V4, by(10, &[1]), Alone),
            went(V4, by(10, &[1])),
            went(V4, by(10, &[1])),
            came(V4, by(20, &[1]), Alone),
            went(V4, by(10, &[1])),
        ],
    );
    assert_eq!(routes, [by(20, &[1])]);
    assert_eq!(
        noted,
        [Changed, Nothing, Changed, Nothing, Changed, Nothing]
    );
}

#[test]
fn devices_that_die() {
    let mut dead = by(10, &[1, 2]);
    if let Leads::Hops(hops) = &mut dead.leads {
        hops[1].is_dead = true;
    }
    let mut table = RouteTable::new([MAIN]);
    table.note(came(V4, by(10, &[1, 2]), Alone));
    assert_eq!(table.note(came(V4, dead.clone(), Replaced)), Changed);
    let devices = |table: &RouteTable, route: &Route| {
        let hops = table.hops(route).expect("devices");
        hops.iter().map(|hop| hop.ifindex).collect::<Vec<_>>()
    };
    assert_eq!(devices(&table, &dead), [1]);
    // Another state of its devices does not make it another route.
    assert_eq!(table.note(went(V4, by(10, &[1, 2]))), Changed);
    assert!(table.is_empty());
}

#[test]
fn objects_go_with_their_routes() {
    let mut table = RouteTable::new([MAIN]);
    let object = NextHop {
        id: 7,
        device: Some(1),
        ..NextHop::default()
    };
    let by_object = Route {
        leads: Leads::Object(7),
        ..by(10, &[])
    };
    assert_eq!(table.note(RouteNotice::ObjectCame(object.clone())), Changed);
    assert_eq!(table.note(RouteNotice::ObjectCame(object.clone())), Nothing);
    table.note(came(V4, by_object.clone(), Alone));
    let other = Route {
        table: 100,
        ..by_object.clone()
    };
    assert_eq!(table.note(came(V6, other, Alone)), Nothing, "another table");
    assert_eq!(table.hops(&by_object).map(|hops| hops.len()), Some(1));
    assert_eq!(table.note(RouteNotice::ObjectWent(7)), Changed);
    assert!(table.is_empty());
    assert_eq!(table.hops(&by_object), None);
}

/// The same with a gateway for each next hop.
fn by_gateways(metric: u32, devices: &[u32], last: u8) -> Route {
    let mut route = by(metric, devices);
    if let Leads::Hops(hops) = &mut route.leads {
        for hop in hops {
            hop.via = Some([10, 9, 0, last].into());
        }
    }
    route
}

#[test]
fn gateways_tell_next_hops_apart() {
    // Two by one device, one of which goes.
    let (one, other) = (by_gateways(0, &[10], 1), by_gateways(0, &[10], 2));
    let mut both = one.clone();
    if let (Leads::Hops(hops), Leads::Hops(more)) = (&mut both.leads, &other.leads) {
        hops.extend(more);
    }
    let notices = vec![
        came(V6, one.clone(), Alone),
        came(V6, both, Last),
        went(V6, one),
    ];
    assert_eq!(
        after(V6, notices),
        (vec![other], vec![Changed, Changed, Unsure])
    );
}
