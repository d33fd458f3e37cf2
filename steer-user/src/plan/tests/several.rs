//! All groups at once: what one leaves another may have, and what is not asked for leaves.

use super::*;

fn whole(groups: Vec<GroupRequest>) -> Request {
    Request {
        groups,
        is_whole: true,
        ..Request::default()
    }
}

/// With `wg2` and `wg3` beside `wg0` and `wg1`.
fn four_tunnels() -> Vec<Device> {
    let mut devices = gateway();
    devices.push(wireguard(5, "wg2", "10.9.2.1/24", &[]));
    devices.push(wireguard(6, "wg3", "10.9.3.1/24", &[]));
    devices
}

fn ids(group: &GroupPlan) -> Vec<(&str, u8)> {
    let tunnels = group.tunnels.iter();
    tunnels.map(|t| (t.name.as_str(), t.id)).collect()
}

fn lines(existing: &Existing, plan: &Plan) -> Vec<String> {
    let difference = Difference::of(existing, plan);
    difference.entries.iter().map(ToString::to_string).collect()
}

/// What there is when a plan was carried out.
fn carried_out(plan: &Plan) -> Existing {
    let groups = plan.groups.iter().map(|group| ExistingGroup {
        follows_routes: group.follows_routes,
        name: group.name.clone(),
        id: group.id,
        prefixes: group.prefixes.clone(),
        ifaces: group.hooks.iter().map(|hook| hook.name.clone()).collect(),
        order: Some(group.order),
        tunnels: group
            .tunnels
            .iter()
            .map(|tunnel| existing_tunnel(&tunnel.name, tunnel.id, tunnel.weight))
            .collect(),
    });
    Existing {
        seed: Some(7),
        max_flows: Some(plan.max_flows),
        idle: Some(plan.idle),
        hook: plan.mode,
        groups: groups.collect(),
        ..Existing::default()
    }
}

fn two_sites() -> Request {
    whole(vec![
        group("a", &["lan0"], &["wg0=3", "wg1=1"], &["10.2.0.0/16"]),
        group("b", &[], &["wg2=1"], &["10.3.0.0/16"]),
    ])
}

#[test]
fn groups_beside_each_other() {
    let plan = planned(&two_sites(), four_tunnels(), &Existing::default());
    let [a, b] = &plan.groups[..] else {
        panic!("{plan:?}")
    };
    assert_eq!((a.id, ids(a)), (0, vec![("wg0", 0), ("wg1", 1)]));
    assert_eq!((b.id, ids(b)), (1, vec![("wg2", 2)]));
    // The LAN device steers for both, and is attached once.
    assert_eq!(b.hooks, a.hooks);
    let attached: Vec<_> = plan
        .attachments()
        .iter()
        .map(|(attachment, group)| (attachment.name.to_owned(), group.name.clone()))
        .filter(|(name, _)| name == "lan0")
        .collect();
    assert_eq!(attached, [("lan0".into(), "a".into())]);
    let existing = carried_out(&plan);
    let mut again = two_sites();
    again.seed = Some(7);
    let again = planned(&again, four_tunnels(), &existing);
    assert!(again.leaving.is_empty());
    assert_eq!(lines(&existing, &again), [""; 0]);
}

#[test]
fn what_a_group_leaves_another_may_have() {
    let existing = carried_out(&planned(&two_sites(), four_tunnels(), &Existing::default()));
    // In either order: `b` takes what `a` had.
    let a = group("a", &["lan0"], &["wg0=3"], &["10.4.0.0/16"]);
    let b = group(
        "b",
        &[],
        &["wg2=1", "wg1=2"],
        &["10.2.0.0/16", "10.3.0.0/16"],
    );
    for groups in [vec![a.clone(), b.clone()], vec![b, a]] {
        let plan = planned(&whole(groups), four_tunnels(), &existing);
        let of = |name: &str| {
            let mut groups = plan.groups.iter();
            groups.find(|group| group.name == name).expect("the group")
        };
        assert_eq!((of("a").id, ids(of("a"))), (0, vec![("wg0", 0)]));
        assert_eq!(ids(of("b")), [("wg1", 1), ("wg2", 2)]);
        let mut told = lines(&existing, &plan);
        told.sort();
        assert_eq!(
            told,
            [
                "group a: prefix 10.2.0.0/16: leaves",
                "group a: prefix 10.4.0.0/16: new",
                "group a: tunnel wg1: leaves",
                "group b: prefix 10.2.0.0/16: new",
                "group b: tunnel wg1: new",
            ]
        );
        let difference = Difference::of(&existing, &plan);
        assert_eq!(difference.leaving, [1]);
        assert!(difference.removed.is_empty());
    }
}

#[test]
fn prefixes_of_routes_may_lie_within_each_other() {
    let mut existing = carried_out(&planned(&two_sites(), four_tunnels(), &Existing::default()));
    existing.groups[1].follows_routes = true;
    existing.groups[1].prefixes =
        networks(&["10.3.0.0/16", "10.3.5.0/24", "10.7.0.0/16", "10.7.1.0/24"]);
    let mut request = two_sites();
    request.groups.pop();
    request.groups[0].prefixes = networks(&["10.2.0.0/16", "10.7.0.0/16"]);
    let difference = Difference::of(&existing, &planned(&request, four_tunnels(), &existing));
    let releases = |address: &str| difference.releases(address.parse().expect("an address"));
    for address in ["10.3.0.1", "10.3.5.1", "10.3.9.1"] {
        assert!(releases(address), "{address}");
    }
    // What another group's prefix contains is steered on.
    for address in ["10.2.0.1", "10.4.0.1", "10.7.0.1", "10.7.1.1", "9.9.9.9"] {
        assert!(!releases(address), "{address}");
    }
}

#[test]
fn prefixes_that_another_group_gets() {
    let existing = carried_out(&planned(&two_sites(), four_tunnels(), &Existing::default()));
    let mut request = two_sites();
    let same = Difference::of(&existing, &planned(&request, four_tunnels(), &existing));
    assert!(!same.concerns_flows());
    let (a, b) = request.groups.split_at_mut(1);
    std::mem::swap(&mut a[0].prefixes, &mut b[0].prefixes);
    let difference = Difference::of(&existing, &planned(&request, four_tunnels(), &existing));
    assert!(difference.concerns_flows() && difference.removed.is_empty());
    let rehomes =
        |home, address: &str| difference.rehomes(home, address.parse().expect("an address"));
    assert!(rehomes(0, "10.2.0.1") && rehomes(1, "10.3.0.1"));
    assert!(!rehomes(1, "10.2.0.1") && !rehomes(0, "10.3.0.1"));
    assert!(!rehomes(0, "10.9.0.1"));
}

#[test]
fn a_sysctl_alone_is_a_difference() {
    let existing = carried_out(&planned(&two_sites(), four_tunnels(), &Existing::default()));
    let mut plan = planned(&two_sites(), four_tunnels(), &existing);
    assert!(Difference::of(&existing, &plan).is_empty());
    plan.sysctls.push(SysctlChange {
        tunnel: "wg1".into(),
        name: "net.ipv4.conf.wg1.rp_filter".into(),
        from: 1,
        to: 2,
    });
    assert_eq!(
        lines(&existing, &plan),
        ["sysctl net.ipv4.conf.wg1.rp_filter: value 1 becomes 2"]
    );
}

#[test]
fn what_is_not_asked_for_leaves() {
    let mut existing = carried_out(&planned(&two_sites(), four_tunnels(), &Existing::default()));
    existing.derived = vec![(5, 0), (6, 1)];
    let only_a = whole(vec![group(
        "a",
        &["lan0"],
        &["wg0=1", "wg3=1"],
        &["10.2.0.0/16"],
    )]);
    let plan = planned(&only_a, four_tunnels(), &existing);
    // Routes are not followed by `a`.
    assert_eq!(plan.leaving, [1, 5, 6]);
    // Flows may still refer to 1 and 2.
    assert_eq!(ids(&plan.groups[0]), [("wg0", 0), ("wg3", 3)]);
    assert_eq!(
        lines(&existing, &plan),
        [
            "group a: tunnel wg0: weight 3 becomes 1",
            "group a: tunnel wg3: new",
            "group a: tunnel wg1: leaves",
            "group b: leaves",
        ]
    );
    let difference = Difference::of(&existing, &plan);
    assert_eq!(difference.leaving, [1, 2]);
    assert_eq!(difference.removed, networks(&["10.3.0.0/16"]));
    // By a single group's command line, the others stay with what was made of their routes.
    let mut single = only_a.clone();
    single.is_whole = false;
    let plan = planned(&single, four_tunnels(), &existing);
    assert_eq!(plan.leaving, [5]);
    // A group that follows routes keeps what was made of them.
    let mut follows = only_a;
    follows.groups[0].follows_routes = true;
    follows.groups[0].prefixes.clear();
    let plan = planned(&follows, four_tunnels(), &existing);
    assert_eq!(plan.leaving, [1, 6]);
    assert!(plan.groups[0].prefixes.is_empty());
}

#[test]
fn another_name_is_the_same_group() {
    let existing = carried_out(&planned(&two_sites(), four_tunnels(), &Existing::default()));
    let mut renamed = two_sites();
    renamed.groups[1].name = "c".into();
    let plan = planned(&renamed, four_tunnels(), &existing);
    assert_eq!((plan.groups[1].id, plan.leaving.len()), (1, 0));
    assert_eq!(lines(&existing, &plan), ["group c: name b becomes c"]);
}

#[test]
fn settings_of_all_groups() {
    let existing = carried_out(&planned(&two_sites(), four_tunnels(), &Existing::default()));
    let mut other = two_sites();
    other.hook = Some(HookChoice::Mode(HookMode::Mark));
    other.seed = Some(8);
    other.idle = "udp=1m".parse().ok();
    other.groups[1].tunnels[0].tier = Some(1);
    let plan = planned(&other, four_tunnels(), &existing);
    assert_eq!(
        lines(&existing, &plan),
        [
            "hook ingress becomes mark",
            "mark mask none becomes 0xff000000",
            "seed 0x7 becomes 0x8",
            "idle udp 5m becomes 1m",
            "group b: tunnel wg2: tier 0 becomes 1",
        ]
    );
}

#[test]
fn a_group_that_needs_more_decides_for_all() {
    let mut devices = four_tunnels();
    // `wg3`, in the second group, is smaller.
    devices[5].mtu_bytes = 1_380;
    let mut request = two_sites();
    request.groups[1].tunnels.push(TunnelRequest {
        name: "wg3".into(),
        ..TunnelRequest::default()
    });
    let plan = planned(&request, devices.clone(), &Existing::default());
    assert!(plan.marks.is_some());
    request.hook = Some(HookChoice::Mode(HookMode::Egress));
    assert_eq!(
        refused(&request, devices, &Existing::default()),
        "hook egress: the tunnels' MTUs differ (wg2 1420, wg3 1380) | \
         --hook mark, or give the tunnels one MTU"
    );
}

#[test]
fn refusals_name_the_other_group() {
    let none = Existing::default();
    let mut twice = two_sites();
    twice.groups[1].tunnels[0].name = "wg0".into();
    assert_eq!(
        refused(&twice, four_tunnels(), &none),
        "tunnel wg0: belongs to group a"
    );
    let mut overlap = two_sites();
    overlap.groups[1].prefixes = networks(&["10.2.7.0/24"]);
    assert_eq!(
        refused(&overlap, four_tunnels(), &none),
        "prefix 10.2.7.0/24: overlaps prefix 10.2.0.0/16 of group a"
    );
    let mut mtu = two_sites();
    mtu.groups[1].tunnels[0].mtu_bytes = Some(1_380);
    assert_eq!(
        refused(&mtu, four_tunnels(), &none),
        "tunnel wg2: its MTU is 1420, not 1380 | ip link set wg2 mtu 1380, or mtu = 1420 in the file"
    );
}
