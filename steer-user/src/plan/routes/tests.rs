//! What routes mean, and that the steps lead there without a wrong turn.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use proptest::{collection::vec, prelude::*, sample::select};
use steer_common::abi::{GROUPS_MAX, PREFIXES_MAX};

use super::*;
use crate::net::{Hop, Leads, NextHop, Place, RouteNotice};

/// Devices 10, 11 and 12 are the tunnels 0, 1 and 2 of group 0; 20 and 21 are 7 and 8 of group 1.
fn site() -> Following {
    Following {
        group: 0,
        name: "site".into(),
        routes: FollowRoutes::default(),
        tunnels: vec![(0, 10), (1, 11), (2, 12)],
    }
}

fn other() -> Following {
    Following {
        group: 1,
        name: "other".into(),
        routes: FollowRoutes::default(),
        tunnels: vec![(7, 20), (8, 21)],
    }
}

/// A device that is no tunnel.
const LAN: u32 = 2;
const BIRD: u8 = 12;

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

fn hops(hops: &[(u32, u32)]) -> Leads {
    Leads::Hops(
        hops.iter()
            .map(|&(ifindex, weight)| Hop {
                ifindex,
                weight,
                ..Hop::default()
            })
            .collect(),
    )
}

fn route(metric: u32, leads: Leads) -> Route {
    Route {
        table: ROUTE_TABLE_MAIN,
        metric,
        protocol: BIRD,
        leads,
    }
}

fn add(table: &mut RouteTable, prefix: &str, route: Route) {
    table.note(RouteNotice::Came {
        prefix: net(prefix),
        route,
        place: Place::Last,
    });
}

/// A table of routes of metric 32 by devices of weight 1.
fn table(routes: &[(&str, &[u32])]) -> RouteTable {
    let mut table = RouteTable::new([ROUTE_TABLE_MAIN, 100]);
    for (prefix, devices) in routes {
        let hops = hops(&devices.iter().map(|d| (*d, 1)).collect::<Vec<_>>());
        add(&mut table, prefix, route(32, hops));
    }
    table
}

/// Nothing but the home groups.
fn pinned(following: &[Following]) -> Pinned {
    Pinned {
        homes: following.iter().map(|of| of.group).collect(),
        ..Pinned::default()
    }
}

/// What becomes of each prefix, with its tunnels instead of a group's number.
fn meaning(pinned: &Pinned) -> BTreeMap<IpNet, String> {
    let text = |target: &Target| match target {
        Target::Hole(home) => format!("hole of {home}"),
        Target::Group(id) => match pinned.derived.iter().find(|group| group.id == *id) {
            None => format!("home {id}"),
            Some(group) => format!("{} of {}", weights(&group.hops), group.parent),
        },
    };
    let prefixes = pinned.prefixes.iter();
    prefixes
        .map(|(prefix, target)| (*prefix, text(target)))
        .collect()
}

fn weights(hops: &HopSet) -> String {
    let hops: Vec<_> = hops
        .iter()
        .map(|(id, weight)| format!("{id}={weight}"))
        .collect();
    hops.join(" ")
}

/// What the maps hold once the routes are followed, and what was left.
fn followed(table: &RouteTable, following: &[Following]) -> (Vec<String>, Vec<String>) {
    let mut pinned = pinned(following);
    let steps = follow(table, following, &pinned);
    pinned.note(&steps);
    let lines = meaning(&pinned).into_iter();
    let name = |ifindex| format!("dev{ifindex}");
    let left = steps.left.iter();
    (
        lines
            .map(|(prefix, text)| format!("{prefix}: {text}"))
            .collect(),
        left.map(|left| left.describe("site", name)).collect(),
    )
}

fn steered(routes: &[(&str, &[u32])]) -> Vec<String> {
    followed(&table(routes), &[site()]).0
}

#[test]
fn all_tunnels_alike_are_the_home_group() {
    assert_eq!(
        steered(&[("10.2.0.0/16", &[10, 11, 12])]),
        ["10.2.0.0/16: home 0"]
    );
    assert_eq!(
        steered(&[("10.2.0.0/16", &[10, 12])]),
        ["10.2.0.0/16: 0=1 2=1 of 0"]
    );
    let mut weighted = table(&[]);
    add(
        &mut weighted,
        "10.2.0.0/16",
        route(0, hops(&[(10, 2), (11, 2), (12, 2)])),
    );
    add(
        &mut weighted,
        "10.3.0.0/16",
        route(0, hops(&[(10, 6), (11, 2), (12, 2)])),
    );
    // Two next hops through one tunnel count both.
    add(
        &mut weighted,
        "10.4.0.0/16",
        route(0, hops(&[(10, 1), (10, 2), (12, 3)])),
    );
    assert_eq!(
        followed(&weighted, &[site()]).0,
        [
            "10.2.0.0/16: home 0",
            "10.3.0.0/16: 0=3 1=1 2=1 of 0",
            "10.4.0.0/16: 0=1 2=1 of 0"
        ]
    );
}

#[test]
fn equal_choices_share_a_group() {
    let mut pinned = pinned(&[site()]);
    let steps = follow(
        &table(&[
            ("10.2.0.0/16", &[10]),
            ("10.3.0.0/16", &[10]),
            ("fd00:2::/64", &[10]),
            ("10.4.0.0/16", &[11]),
        ]),
        &[site()],
        &pinned,
    );
    let made: Vec<_> = steps
        .make
        .iter()
        .map(|group| (group.id, weights(&group.hops)))
        .collect();
    // Most prefixes first, from the highest number down.
    assert_eq!(made, [(63, "0=1".into()), (62, "1=1".into())]);
    let count = |before, after, changes| GroupCount {
        group: 0,
        before,
        after,
        changes,
    };
    assert_eq!(steps.counts, [count(0, 4, 4)]);
    pinned.note(&steps);
    let steps = follow(
        &table(&[
            ("10.2.0.0/16", &[10]),
            ("10.2.5.0/24", &[LAN]),
            ("10.3.0.0/16", &[11]),
            ("10.4.0.0/16", &[11]),
        ]),
        &[site()],
        &pinned,
    );
    assert_eq!(steps.counts, [count(4, 3, 2)]);
    assert_eq!(pinned.derived.len(), 2);
}

#[test]
fn only_a_route_through_nothing_but_tunnels() {
    let (steered, left) = followed(
        &table(&[
            ("10.2.0.0/16", &[10, LAN]),
            ("10.3.0.0/16", &[10, LAN]),
            ("10.4.0.0/16", &[LAN]),
            ("0.0.0.0/0", &[10]),
            ("::/0", &[10]),
            ("224.0.0.5/32", &[10]),
            ("fe80::/64", &[10]),
            ("::fffe:0:0/95", &[10]),
            ("::ffff:10.2.0.0/112", &[10]),
        ]),
        &[site()],
    );
    assert_eq!(steered, [""; 0]);
    assert_eq!(
        left,
        [
            "group site: 0.0.0.0/0 and 1 more: the default route cannot be steered: left to the kernel",
            "group site: 10.2.0.0/16 and 1 more: the route leads also by dev2, which is no tunnel of \
             the group: left to the kernel"
        ]
    );
}

#[test]
fn holes_where_longer_routes_lead_elsewhere() {
    let mut routes = table(&[
        ("10.0.0.0/8", &[10, 11, 12]),
        ("10.1.0.0/16", &[LAN]),
        ("10.1.5.0/24", &[LAN]),
        ("10.1.6.0/24", &[11]),
        ("10.1.6.128/25", &[LAN]),
        ("11.0.0.0/16", &[LAN]),
    ]);
    add(&mut routes, "10.2.0.0/16", route(0, Leads::Elsewhere));
    assert_eq!(
        followed(&routes, &[site()]).0,
        [
            "10.0.0.0/8: home 0",
            "10.1.0.0/16: hole of 0",
            "10.1.6.0/24: 1=1 of 0",
            "10.1.6.128/25: hole of 0",
            "10.2.0.0/16: hole of 0",
        ]
    );
}

#[test]
fn the_kernels_choice_among_several() {
    let one = |routes: Vec<Route>, prefix| {
        let mut of_one = table(&[]);
        for route in routes {
            add(&mut of_one, prefix, route);
        }
        followed(&of_one, &[site()]).0
    };
    let v4 = |routes| one(routes, "10.2.0.0/16");
    let v6 = |routes| one(routes, "fd00:2::/64");
    let by = |metric, device| route(metric, hops(&[(device, 1)]));
    let dead = |metric, device| {
        let hop = Hop {
            ifindex: device,
            weight: 1,
            is_dead: true,
            ..Hop::default()
        };
        route(metric, Leads::Hops(vec![hop]))
    };
    assert_eq!(v4(vec![by(20, 11), by(10, 10)]), ["10.2.0.0/16: 0=1 of 0"]);
    assert_eq!(v4(vec![by(20, 11), by(10, LAN)]), [""; 0]);
    assert_eq!(
        v4(vec![by(20, 11), dead(10, 10)]),
        ["10.2.0.0/16: 1=1 of 0"]
    );
    assert_eq!(v4(vec![dead(10, 10)]), [""; 0]);
    // Of one metric: IPv4 takes the first, IPv6 has them all.
    assert_eq!(v4(vec![by(10, 11), by(10, 10)]), ["10.2.0.0/16: 1=1 of 0"]);
    assert_eq!(
        v6(vec![by(10, 11), by(10, 10)]),
        ["fd00:2::/64: 0=1 1=1 of 0"]
    );
    assert_eq!(v6(vec![by(10, 11), by(20, 10)]), ["fd00:2::/64: 1=1 of 0"]);
    let blackhole = route(5, Leads::Elsewhere);
    assert_eq!(v4(vec![blackhole, by(10, 10)]), [""; 0]);
}

#[test]
fn filters() {
    let with = |routes: FollowRoutes, route: Route| {
        let mut of_one = table(&[]);
        add(&mut of_one, "10.2.0.0/16", route);
        let following = Following { routes, ..site() };
        !followed(&of_one, &[following]).0.is_empty()
    };
    let by_bird = route(32, hops(&[(10, 1)]));
    let by_kernel = Route {
        protocol: 2,
        ..by_bird.clone()
    };
    let in_100 = Route {
        table: 100,
        ..by_bird.clone()
    };
    let all = FollowRoutes::default;
    assert!(with(all(), by_bird.clone()));
    assert!(!with(all(), by_kernel.clone()));
    assert!(!with(all(), in_100.clone()));
    let protocols = |protocols: &[u8]| FollowRoutes {
        protocols: protocols.to_vec(),
        ..all()
    };
    assert!(with(protocols(&[2]), by_kernel));
    assert!(!with(protocols(&[2]), by_bird.clone()));
    let metric = |max| FollowRoutes {
        metric_max: Some(max),
        ..all()
    };
    assert!(with(metric(32), by_bird.clone()) && !with(metric(31), by_bird));
    let tables = |tables: &[u32]| FollowRoutes {
        tables: tables.to_vec(),
        ..all()
    };
    assert!(with(tables(&[100]), in_100.clone()));
    // The table that is looked up first counts, whatever the metrics.
    let mut both = table(&[]);
    add(&mut both, "10.2.0.0/16", in_100);
    add(&mut both, "10.2.0.0/16", route(0, hops(&[(11, 1)])));
    let steered = |order: &[u32]| {
        let following = Following {
            routes: tables(order),
            ..site()
        };
        followed(&both, &[following]).0
    };
    assert_eq!(steered(&[100, 254]), ["10.2.0.0/16: 0=1 of 0"]);
    assert_eq!(steered(&[254, 100]), ["10.2.0.0/16: 1=1 of 0"]);
}

#[test]
fn next_hop_objects() {
    let mut routes = table(&[]);
    let object = |id, device| {
        RouteNotice::ObjectCame(NextHop {
            id,
            device,
            ..NextHop::default()
        })
    };
    let group = |id, members: &[(u32, u32)]| {
        RouteNotice::ObjectCame(NextHop {
            id,
            members: members.to_vec(),
            ..NextHop::default()
        })
    };
    for notice in [
        object(1, Some(10)),
        object(2, Some(11)),
        object(3, None),
        group(9, &[(1, 3), (2, 1)]),
    ] {
        routes.note(notice);
    }
    add(&mut routes, "10.2.0.0/16", route(0, Leads::Object(9)));
    add(&mut routes, "10.3.0.0/16", route(0, Leads::Object(2)));
    add(&mut routes, "10.4.0.0/16", route(0, Leads::Object(3)));
    let now = |routes: &RouteTable| followed(routes, &[site()]).0;
    assert_eq!(
        now(&routes),
        ["10.2.0.0/16: 0=3 1=1 of 0", "10.3.0.0/16: 1=1 of 0"]
    );
    // Changed in place: no route says so.
    routes.note(group(9, &[(2, 1)]));
    assert_eq!(
        now(&routes),
        ["10.2.0.0/16: 1=1 of 0", "10.3.0.0/16: 1=1 of 0"]
    );
    routes.note(RouteNotice::ObjectWent(2));
    assert_eq!(now(&routes), [""; 0]);
}

#[test]
fn two_groups() {
    let following = [site(), other()];
    let (steered, left) = followed(
        &table(&[
            ("10.0.0.0/8", &[10, 11, 12]),
            ("10.2.0.0/16", &[20, 21]),
            ("10.2.3.0/24", &[10, 20]),
            ("10.3.0.0/16", &[20]),
            ("10.3.1.0/24", &[LAN]),
        ]),
        &following,
    );
    assert_eq!(
        steered,
        [
            "10.0.0.0/8: home 0",
            "10.2.0.0/16: home 1",
            "10.2.3.0/24: hole of 1",
            "10.3.0.0/16: 7=1 of 1",
            "10.3.1.0/24: hole of 1",
        ]
    );
    assert_eq!(
        left.len(),
        2,
        "it leads also by a tunnel of the other: {left:?}"
    );
}

#[test]
fn what_does_not_follow_routes_stays() {
    let following = [site()];
    let mut pinned = pinned(&following);
    pinned.homes.push(5);
    let fixed = [(net("10.2.0.0/16"), Target::Group(5))];
    pinned.prefixes.extend(fixed);
    let steps = follow(
        &table(&[
            ("10.0.0.0/8", &[10]),
            ("10.2.0.0/16", &[10]),
            ("10.2.3.0/24", &[11]),
            ("10.2.4.0/24", &[LAN]),
            ("10.3.0.0/16", &[11]),
        ]),
        &following,
        &pinned,
    );
    let set: Vec<_> = steps
        .set
        .iter()
        .map(|(prefix, _)| prefix.to_string())
        .collect();
    assert_eq!(set, ["10.3.0.0/16", "10.0.0.0/8"]);
    assert_eq!(steps.remove, []);
    let [within] = &steps.left[..] else {
        panic!("{:?}", steps.left);
    };
    assert_eq!(
        (&within.reason, within.count),
        (&LeftReason::Within(fixed[0].0), 2)
    );
}

/// Every pair of tunnels 0 to 15, as many prefixes as wanted for each.
fn many_sets(following: &mut Following, count: usize) -> RouteTable {
    following.tunnels = (0..16).map(|id| (id, 10 + u32::from(id))).collect();
    let mut routes = table(&[]);
    let pairs = (0..16).flat_map(|a| (a + 1..16).map(move |b| (a, b)));
    for (index, (a, b)) in pairs.enumerate().take(count) {
        let prefix = format!("10.{index}.0.0/16");
        add(
            &mut routes,
            &prefix,
            route(0, hops(&[(10 + a, 1), (10 + b, 1)])),
        );
    }
    routes
}

#[test]
fn more_choices_than_groups() {
    let mut following = [site()];
    let mut routes = many_sets(&mut following[0], 70);
    add(&mut routes, "10.200.0.0/16", route(0, hops(&[(10, 1)])));
    add(&mut routes, "10.201.0.0/16", route(0, hops(&[(10, 1)])));
    let mut pinned = pinned(&following);
    let steps = follow(&routes, &following, &pinned);
    pinned.note(&steps);
    assert_eq!(steps.make.len(), GROUPS_MAX - 1);
    // The one of two prefixes is among them.
    assert_eq!(pinned.prefixes.len(), GROUPS_MAX);
    assert!(pinned.prefixes.contains_key(&net("10.200.0.0/16")));
    let left: usize = steps.left.iter().map(|left| left.count).sum();
    assert_eq!(left, 70 + 1 - (GROUPS_MAX - 1));
    assert!(!steps.needs_groups());

    // What is there stays when it is not enough for all.
    let before = meaning(&pinned);
    let steps = follow(&routes, &following, &pinned);
    assert!(!steps.is_change() && steps.make.is_empty());
    // Once some are out of use, forgetting them makes room.
    let routes = many_sets(&mut following[0], 70);
    let steps = follow(&routes, &following, &pinned);
    pinned.note(&steps);
    assert!(steps.needs_groups());
    pinned
        .derived
        .retain(|group| !steps.unused.contains(&group.id));
    let steps = follow(&routes, &following, &pinned);
    pinned.note(&steps);
    assert_eq!(steps.set.len(), 1);
    assert_eq!(meaning(&pinned).len(), before.len() - 1);
}

#[test]
fn more_prefixes_than_room() {
    let mut routes = table(&[("9.0.0.0/8", &[10]), ("9.1.0.0/16", &[LAN])]);
    for index in 0..u16::MAX {
        let [high, low] = index.to_be_bytes();
        add(
            &mut routes,
            &format!("10.{high}.{low}.0/24"),
            route(0, hops(&[(10, 1)])),
        );
    }
    add(&mut routes, "11.0.0.0/8", route(0, hops(&[(10, 1)])));
    let mut pinned = pinned(&[site()]);
    let steps = follow(&routes, &[site()], &pinned);
    pinned.note(&steps);
    assert_eq!(pinned.prefixes.len(), PREFIXES_MAX);
    assert_eq!(steps.left[0].reason, LeftReason::NoRoom);
    assert_eq!(steps.left[0].count + PREFIXES_MAX, routes.len());
    assert!(!steps.is_tight);

    // One that goes before those, which have to make room first.
    let mut one_more = routes.clone();
    add(&mut one_more, "9.5.0.0/16", route(0, hops(&[(11, 1)])));
    let steps = follow(&one_more, &[site()], &pinned);
    assert_eq!((steps.set.len(), steps.remove.len()), (1, 1));
    assert!(steps.is_tight);

    // Inside one prefix it is all or nothing.
    add(&mut routes, "10.0.0.0/8", route(0, hops(&[(11, 1)])));
    let steps = follow(&routes, &[site()], &pinned);
    pinned.note(&steps);
    let prefixes: Vec<_> = pinned.prefixes.keys().map(ToString::to_string).collect();
    assert_eq!(prefixes, ["9.0.0.0/8", "9.1.0.0/16", "11.0.0.0/8"]);
}

/// The longest prefix around an address.
fn lookup(prefixes: &BTreeMap<IpNet, Target>, address: IpAddr) -> Option<Target> {
    let around = prefixes
        .iter()
        .filter(|(prefix, _)| prefix.contains(&address));
    around
        .max_by_key(|(prefix, _)| prefix.prefix_len())
        .map(|(_, target)| *target)
}

/// Prefixes that lie within each other.
const PREFIXES: [&str; 8] = [
    "10.0.0.0/8",
    "10.0.0.0/16",
    "10.1.0.0/16",
    "10.1.0.0/24",
    "10.1.0.128/25",
    "10.1.0.129/32",
    "11.0.0.0/8",
    "fd00::/16",
];

/// Addresses that tell them apart.
fn addresses() -> Vec<IpAddr> {
    let prefixes = PREFIXES.iter().map(|text| net(text));
    prefixes
        .flat_map(|prefix| [prefix.network(), prefix.broadcast()])
        .collect()
}

fn any_leads() -> impl Strategy<Value = Leads> {
    prop_oneof![
        6 => vec((select(vec![10, 11, 12, 20, 21]), 1_u32..4), 1..4).prop_map(|mut of| {
            of.sort_unstable();
            of.dedup_by_key(|hop| hop.0);
            hops(&of)
        }),
        1 => Just(hops(&[(LAN, 1)])),
        1 => Just(Leads::Elsewhere),
    ]
}

/// Some routes to each prefix; a history is one after the other.
fn any_routes() -> impl Strategy<Value = RouteTable> {
    let prefixes = select(PREFIXES.to_vec());
    vec((prefixes, 0_u32..3, any_leads()), 0..12).prop_map(|routes| {
        let mut all = table(&[]);
        for (prefix, metric, leads) in routes {
            add(&mut all, prefix, route(metric, leads));
        }
        all
    })
}

/// The home group and tunnels that an address's packets go to.
fn tunnels_of(pinned: &Pinned, target: Option<Target>) -> String {
    match target {
        None | Some(Target::Hole(_)) => "left".into(),
        Some(target @ Target::Group(id)) => {
            let group = pinned.derived.iter().find(|group| group.id == id);
            let hops = group.map_or("all".into(), |group| weights(&group.hops));
            format!("{hops} of {}", pinned.home_of(target))
        }
    }
}

proptest! {
    #[test]
    fn a_history_leads_where_a_fresh_start_does(
        history in vec(any_routes(), 1..8),
        forgetful in vec(any::<bool>(), 8),
    ) {
        let following = [site(), other()];
        let mut pinned = pinned(&following);
        for (table, forgets) in history.iter().zip(forgetful) {
            let steps = follow(table, &following, &pinned);
            let made_before = pinned.derived.len();
            pinned.note(&steps);
            // No number twice, and no two groups for one choice.
            let mut ids = pinned.homes.clone();
            ids.extend(pinned.derived.iter().map(|group| group.id));
            let mut choices: Vec<_> =
                pinned.derived.iter().map(|group| (group.parent, &group.hops)).collect();
            let count = (ids.len(), choices.len());
            ids.sort_unstable();
            ids.dedup();
            choices.sort_unstable();
            choices.dedup();
            prop_assert_eq!(count, (ids.len(), choices.len()));
            prop_assert!(steps.make.len() + made_before == pinned.derived.len());
            if forgets {
                pinned.derived.retain(|group| !steps.unused.contains(&group.id));
            }
            let again = follow(table, &following, &pinned);
            prop_assert!(!again.is_change() && again.make.is_empty(), "{again:?}");
        }
        let mut fresh = self::pinned(&following);
        let steps = follow(&history[history.len() - 1], &following, &fresh);
        fresh.note(&steps);
        prop_assert_eq!(meaning(&pinned), meaning(&fresh));
    }

    /// Each address sees what was before or what is after, whichever steps are done.
    #[test]
    fn no_packet_goes_astray_in_between(before in any_routes(), after in any_routes()) {
        let following = [site(), other()];
        let mut pinned = pinned(&following);
        let steps = follow(&before, &following, &pinned);
        pinned.note(&steps);
        let steps = follow(&after, &following, &pinned);
        let mut done = pinned.clone();
        done.note(&steps);
        let mut now = pinned.prefixes.clone();
        let sets = steps.set.iter().map(|(prefix, target)| (*prefix, Some(*target)));
        for (prefix, target) in sets.chain(steps.remove.iter().map(|prefix| (*prefix, None))) {
            match target {
                Some(target) => now.insert(prefix, target),
                None => now.remove(&prefix),
            };
            for address in addresses() {
                let seen = tunnels_of(&done, lookup(&now, address));
                let was = tunnels_of(&done, lookup(&pinned.prefixes, address));
                let will = tunnels_of(&done, lookup(&done.prefixes, address));
                prop_assert!(seen == was || seen == will, "{address}: {seen}, {was} → {will}");
            }
        }
        prop_assert_eq!(now, done.prefixes);
    }

    /// Steered is what the kernel's own longest match leads through the tunnels of one group.
    #[test]
    fn as_the_kernel_routes(routes in any_routes()) {
        let following = [site(), other()];
        let mut pinned = pinned(&following);
        pinned.note(&follow(&routes, &following, &pinned));
        for address in addresses() {
            let longest = routes
                .iter()
                .filter(|(prefix, _)| prefix.contains(&address))
                .max_by_key(|(prefix, _)| prefix.prefix_len());
            let wanted = longest.map_or("left".into(), |(prefix, of_prefix)| {
                let first = of_prefix.first().expect("a route");
                let used: Vec<&Route> = of_prefix
                    .iter()
                    .take_while(|route| route.metric == first.metric)
                    .take(if prefix.addr().is_ipv4() { 1 } else { usize::MAX })
                    .collect();
                let mut weights: BTreeMap<u32, u32> = BTreeMap::new();
                if let Leads::Elsewhere = first.leads {
                    return "left".into();
                }
                for route in used {
                    if let Leads::Hops(hops) = &route.leads {
                        for hop in hops {
                            *weights.entry(hop.ifindex).or_default() += hop.weight;
                        }
                    }
                }
                expected(&following, &weights)
            });
            let seen = tunnels_of(&pinned, lookup(&pinned.prefixes, address));
            prop_assert_eq!(seen, wanted, "{}", address);
        }
    }
}

/// What routes by these devices, with these weights, mean.
fn expected(following: &[Following], weights: &BTreeMap<u32, u32>) -> String {
    for of in following {
        let id = |ifindex: &u32| {
            let tunnel = of.tunnels.iter().find(|(_, device)| device == ifindex);
            tunnel.map(|(id, _)| *id)
        };
        let Some(mut hops) = weights
            .iter()
            .map(|(ifindex, weight)| Some((id(ifindex)?, *weight)))
            .collect::<Option<HopSet>>()
        else {
            continue;
        };
        let divisor = (1..=100)
            .filter(|divisor| hops.iter().all(|(_, weight)| weight % divisor == 0))
            .max()
            .expect("at least 1");
        for (_, weight) in &mut hops {
            *weight /= divisor;
        }
        let is_all = hops.len() == of.tunnels.len() && hops.iter().all(|(_, weight)| *weight == 1);
        let tunnels = if is_all {
            "all".into()
        } else {
            self::weights(&hops)
        };
        return format!("{tunnels} of {}", of.group);
    }
    "left".into()
}
