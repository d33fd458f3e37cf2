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

#[test]
fn order_of_routes() {
    use Noted::Changed;
    let (routes, noted) = after(
        V4,
        vec![
            came(V4, by(20, &[1]), Place::First),
            came(V4, by(10, &[2]), Place::First),
            came(V4, by(10, &[3]), Place::Last),
            came(V4, by(10, &[4]), Place::First),
        ],
    );
    assert_eq!(
        routes,
        [by(10, &[4]), by(10, &[2]), by(10, &[3]), by(20, &[1])]
    );
    assert_eq!(noted, [Changed; 4]);
}

#[test]
fn replaced() {
    let (routes, noted) = after(
        V4,
        vec![
            came(V4, by(10, &[1]), Place::First),
            came(V4, by(10, &[2]), Place::Replaced),
            came(V4, by(20, &[3]), Place::Replaced),
            came(V4, by(10, &[2]), Place::Replaced),
        ],
    );
    assert_eq!(routes, [by(10, &[2]), by(20, &[3])]);
    assert_eq!(noted[1..], [Noted::Changed, Noted::Changed, Noted::Nothing]);
    let (_, noted) = after(
        V4,
        vec![
            came(V4, by(10, &[1]), Place::First),
            came(V4, by(10, &[2]), Place::Last),
            came(V4, by(10, &[3]), Place::Replaced),
            came(V4, by(10, &[1]), Place::Replaced),
        ],
    );
    assert_eq!(noted[2..], [Noted::Unsure; 2], "which one?");
}

#[test]
fn next_hops_that_join_and_leave() {
    let (routes, noted) = after(
        V6,
        vec![
            came(V6, by(10, &[1]), Place::First),
            came(V6, by(10, &[1, 2]), Place::Last),
            came(V6, by(10, &[1, 2, 3]), Place::Last),
            went(V6, by(10, &[2])),
        ],
    );
    assert_eq!(routes, [by(10, &[1, 3])]);
    assert_eq!(noted, [Noted::Changed; 4]);
    // IPv4 does not work so: these are two routes.
    let (routes, _) = after(
        V4,
        vec![
            came(V4, by(10, &[1]), Place::First),
            came(V4, by(10, &[1, 2]), Place::Last),
        ],
    );
    assert_eq!(routes.len(), 2);
}

#[test]
fn what_is_told_twice() {
    let (routes, noted) = after(
        V4,
        vec![
            came(V4, by(10, &[1]), Place::First),
            came(V4, by(10, &[1]), Place::First),
            went(V4, by(10, &[1])),
            went(V4, by(10, &[1])),
            came(V4, by(20, &[1]), Place::First),
            went(V4, by(10, &[1])),
        ],
    );
    assert_eq!(routes, [by(20, &[1])]);
    let (nothing, changed) = (Noted::Nothing, Noted::Changed);
    assert_eq!(
        noted,
        [changed, nothing, changed, nothing, changed, nothing]
    );
    // Of that metric there is one, but another one.
    let (_, noted) = after(
        V4,
        vec![came(V4, by(10, &[1]), Place::First), went(V4, by(10, &[2]))],
    );
    assert_eq!(noted[1], Noted::Unsure);
    assert_eq!(RouteTable::default().note(RouteNotice::Lost), Noted::Unsure);
}

#[test]
fn devices_that_die() {
    let mut dead = by(10, &[1, 2]);
    if let Leads::Hops(hops) = &mut dead.leads {
        hops[1].is_dead = true;
    }
    let mut table = RouteTable::new([MAIN]);
    table.note(came(V4, by(10, &[1, 2]), Place::First));
    assert_eq!(
        table.note(came(V4, dead.clone(), Place::First)),
        Noted::Changed
    );
    let devices = |table: &RouteTable, route: &Route| {
        let hops = table.hops(route).expect("devices");
        hops.iter().map(|hop| hop.ifindex).collect::<Vec<_>>()
    };
    assert_eq!(devices(&table, &dead), [1]);
    // Another state of its devices does not make it another route.
    assert_eq!(table.note(went(V4, by(10, &[1, 2]))), Noted::Changed);
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
    assert_eq!(
        table.note(RouteNotice::ObjectCame(object.clone())),
        Noted::Changed
    );
    assert_eq!(
        table.note(RouteNotice::ObjectCame(object.clone())),
        Noted::Nothing
    );
    table.note(came(V4, by_object.clone(), Place::First));
    let other = Route {
        table: 100,
        ..by_object.clone()
    };
    assert_eq!(
        table.note(came(V6, other, Place::First)),
        Noted::Nothing,
        "another table"
    );
    assert_eq!(table.hops(&by_object).map(|hops| hops.len()), Some(1));
    assert_eq!(table.note(RouteNotice::ObjectWent(7)), Noted::Changed);
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
    use Noted::{Changed, Unsure};
    // Two by one device, one of which goes.
    let (one, other) = (by_gateways(0, &[10], 1), by_gateways(0, &[10], 2));
    let notices = vec![
        came(V6, one.clone(), Place::First),
        came(V6, other.clone(), Place::Last),
        went(V6, one.clone()),
    ];
    assert_eq!(after(V6, notices), (vec![other], vec![Changed; 3]));
    // Whether IPv6 replaces a route by one of another kind depends on what else there is.
    let by_device = by(0, &[11]);
    let notices = |prefix| {
        vec![
            came(prefix, one.clone(), Place::First),
            came(prefix, by_device.clone(), Place::Replaced),
        ]
    };
    assert_eq!(after(V6, notices(V6)).1, [Changed, Unsure]);
    assert_eq!(
        after(V4, notices(V4)),
        (vec![by_device.clone()], vec![Changed; 2])
    );
}
