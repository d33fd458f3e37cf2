//! What is refused, fixed and noted about the kernel's own forwarding.

use steer_common::abi::HookOrder;

use super::super::{Idle, PlannedTunnel};
use super::*;
use crate::net::Device;

fn plan(mode: HookMode) -> Plan {
    let tunnel = |id: u8| PlannedTunnel {
        name: format!("wg{id}"),
        id,
        ifindex: 3 + u32::from(id),
        weight: 1,
        mtu_bytes: 1_420,
        up: true,
        is_known: false,
        rp_filter_before: 0,
    };
    Plan {
        follows_routes: false,
        group: "default".into(),
        group_id: 0,
        mode,
        order: HookOrder::Last,
        mss_clamp: 0,
        marks: None,
        hooks: Vec::new(),
        tunnels: vec![tunnel(0), tunnel(1)],
        prefixes: vec![prefix("10.2.0.0/16"), prefix("fd00:2::/64")],
        seed: None,
        max_flows: 65_536,
        idle: Idle::default(),
        fix: false,
        sysctls: Vec::new(),
        notes: Vec::new(),
    }
}

fn prefix(text: &str) -> IpNet {
    text.parse().expect("a network")
}

/// Every prefix by `wg0`, with these filters on all devices and on `wg1`.
fn forwarding(all: u32, wg1: u32) -> Forwarding {
    let by_wg0 = || KernelRoute::Devices(vec![3]);
    Forwarding {
        off: Vec::new(),
        routes: vec![
            (prefix("10.2.0.0/16"), by_wg0()),
            (prefix("fd00:2::/64"), by_wg0()),
        ],
        rp_filters: vec![
            ("wg0".into(), RpFilter { all, device: 0 }),
            ("wg1".into(), RpFilter { all, device: wg1 }),
        ],
    }
}

fn checked(mut plan: Plan, forwarding: &Forwarding) -> Result<Plan, PlanError> {
    plan.check_forwarding(forwarding, &Devices::default())?;
    Ok(plan)
}

#[test]
fn strict_filters() {
    for (all, wg1) in [(0, 1), (1, 0), (1, 1)] {
        let error = checked(plan(HookMode::Ingress), &forwarding(all, wg1)).expect_err("strict");
        assert_eq!(
            error.to_string(),
            "tunnel wg1: net.ipv4.conf.wg1.rp_filter is strict, and the kernel's route to \
             10.2.0.0/16 is not by this tunnel: replies that come by it would be dropped"
        );
        assert_eq!(
            error.hint().as_deref(),
            Some("sysctl -w net.ipv4.conf.wg1.rp_filter=2, or --fix")
        );
    }
    for (all, wg1) in [(0, 0), (0, 2), (2, 1), (1, 2)] {
        let plan = checked(plan(HookMode::Ingress), &forwarding(all, wg1)).expect("loose");
        assert!(plan.notes.is_empty() && plan.sysctls.is_empty(), "{plan:?}");
    }
    // A multipath route uses both; IPv6 has no such filter; a tunnel that is gone has none.
    let mut multipath = forwarding(1, 1);
    multipath.routes[0].1 = KernelRoute::Devices(vec![3, 4]);
    multipath.routes[1].1 = KernelRoute::Devices(vec![4]);
    checked(plan(HookMode::Mark), &multipath).expect("both are routes");
    let mut gone = forwarding(1, 1);
    gone.rp_filters.pop();
    checked(plan(HookMode::Mark), &gone).expect("no device, no filter");
}

#[test]
fn fixes() {
    let mut fixing = plan(HookMode::Egress);
    fixing.fix = true;
    let fixed = checked(fixing, &forwarding(1, 0)).expect("fixed");
    let change = SysctlChange {
        tunnel: "wg1".into(),
        name: "net.ipv4.conf.wg1.rp_filter".into(),
        from: 0,
        to: 2,
    };
    assert_eq!(fixed.sysctls, [change]);
    assert_eq!(fixed.tunnels[1].rp_filter_before, 1);
    assert_eq!(
        fixed.notes,
        ["net.ipv4.conf.wg1.rp_filter: 0 becomes 2 until detach"]
    );
    // Fixed before, and made anew since: no need to say it again.
    let mut again = plan(HookMode::Egress);
    again.tunnels[1].rp_filter_before = 1;
    again.tunnels[1].is_known = true;
    let again = checked(again, &forwarding(0, 1)).expect("fixed again");
    assert_eq!(again.sysctls.len(), 1);
    assert_eq!(again.tunnels[1].rp_filter_before, 2);
    // Steered for long: a restart must not fail for it.
    let mut known = plan(HookMode::Egress);
    known.tunnels[1].is_known = true;
    let known = checked(known, &forwarding(0, 1)).expect("only told");
    assert!(known.sysctls.is_empty());
    assert!(known.notes[0].starts_with("tunnel wg1: net.ipv4.conf.wg1.rp_filter is strict"));
}

#[test]
fn notes() {
    let astray = Forwarding {
        off: vec![Family::V4, Family::V6],
        routes: vec![
            (prefix("10.2.0.0/16"), KernelRoute::None),
            (prefix("10.3.0.0/16"), KernelRoute::None),
            (prefix("10.4.0.0/16"), KernelRoute::Devices(vec![9])),
            (prefix("10.5.0.0/16"), KernelRoute::Local),
        ],
        rp_filters: Vec::new(),
    };
    let mut plan = plan(HookMode::Egress);
    plan.prefixes.pop();
    let eth0 = Device {
        ifindex: 9,
        name: "eth0".into(),
        ..Device::default()
    };
    plan.check_forwarding(&astray, &Devices::new(vec![eth0]))
        .expect("a plan");
    assert_eq!(
        plan.notes,
        [
            "IPv4 forwarding is off: only this gateway's own packets reach the tunnels (net.ipv4.ip_forward=0)",
            "10.2.0.0/16 and 1 more: the kernel has no route: nothing of it reaches the tunnels",
            "10.4.0.0/16: the kernel's route leads to eth0: nothing of it reaches the tunnels",
            "10.5.0.0/16: the kernel takes it for this gateway: nothing of it reaches the tunnels",
        ]
    );
}

#[test]
fn addresses_that_are_asked_for() {
    for (network, address) in [
        ("10.2.0.0/16", "10.2.0.1"),
        ("10.2.0.7/32", "10.2.0.7"),
        ("fd00:2::/64", "fd00:2::1"),
        ("fd00:2::9/128", "fd00:2::9"),
    ] {
        assert_eq!(sample(prefix(network)).to_string(), address);
    }
}
