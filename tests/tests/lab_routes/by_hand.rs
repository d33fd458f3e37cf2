//! Routes that an operator sets: next hops, weights, next-hop objects, and what flows do meanwhile.

use std::time::Duration;

use steer_tests::both_families;
use steer_tests::lab::{Family, Observer, Side, wait};
use steer_tests::scenario;
use steer_tests::traffic::{LiveFlows, burst};

use crate::routes::{
    Ip, WINDOW, busy, by_device, by_gateway, following, ip, network, until_none_on, until_sets,
};

both_families!(withdrawn_and_back, |family| {
    let f = following(3, &[])?;
    until_sets(&f.near, &["2: wg0=1"])?;
    let net = network(family);
    let all = by_gateway(family, &[(0, 1), (1, 1), (2, 1)]);
    let few = by_gateway(family, &[(0, 1), (2, 1)]);
    ip(&f.lab, &format!("route replace {net} {all}"))?;
    until_sets(&f.near, &["1: wg0=1", "1: wg0=1 wg1=1 wg2=1"])?;
    let live = LiveFlows::start(&f.lab, busy(family))?;
    let flows = live.conversations();
    let before = f.observer.window(&flows, WINDOW)?;
    let (own, others) = before.split(&flows, 1);
    assert!(own.len() > 8, "only {} of 60 flows are on wg1", own.len());

    ip(&f.lab, &format!("route replace {net} {few}"))?;
    let after = until_none_on(&f, 1, &flows)?;
    assert_eq!(after.moved_since(&before, &others), [], "valid tunnels");
    let moved = after.moved_since(&before, &flows).len();
    println!("{family}: {moved} flows moved, {} had to", own.len());
    assert_eq!(moved, own.len());

    ip(&f.lab, &format!("route replace {net} {all}"))?;
    f.until_new_flows_use(1, family)?;
    let back = f.observer.window(&flows, WINDOW)?;
    assert_eq!(back.moved_since(&after, &flows), [], "by the return");
    let moves: u64 = f.near.status()?.tunnels().iter().map(|t| t.moved_in).sum();
    assert_eq!(moves, u64::try_from(own.len())?, "what steer counted");
    f.assert_nothing_lost(live)
});

both_families!(weights_of_next_hops, |family| {
    let f = following(2, &[])?;
    let net = network(family);
    let hops = by_gateway(family, &[(0, 3), (1, 1)]);
    ip(&f.lab, &format!("route replace {net} {hops}"))?;
    until_sets(&f.near, &["1: wg0=1", "1: wg0=3 wg1=1"])?;
    f.observer.take()?;
    let shares = burst(&f.lab, family, 2_000)?.shares(&f.observer.take()?)?;
    println!("{family}: 3 to 1: {shares:?}");
    assert!((shares[&0] - 0.75).abs() < 0.04, "{shares:?}");
    // The tunnel's own weight counts beside the next hop's.
    f.near.weights(&[("wg0", 1), ("wg1", 3)])?;
    f.observer.take()?;
    let shares = burst(&f.lab, family, 2_000)?.shares(&f.observer.take()?)?;
    println!("{family}: 3 × 1 to 1 × 3: {shares:?}");
    assert!((shares[&0] - 0.5).abs() < 0.04, "{shares:?}");
    Ok(())
});

both_families!(next_hop_objects, |family| {
    let f = following(3, &[])?;
    let net = network(family);
    let version = match family {
        Family::V4 => "-4",
        Family::V6 => "-6",
    };
    let ip = |line: &str| ip(&f.lab, line);
    for k in 0..3 {
        ip(&format!("{version} nexthop add id {} dev wg{k}", k + 1))?;
    }
    ip("nexthop add id 10 group 1,2/2,2/3,1")?;
    ip(&format!("route del {net}"))?;
    ip(&format!("route add {net} nhid 10"))?;
    until_sets(&f.near, &["1: wg0=1", "1: wg0=2 wg1=2 wg2=1"])?;
    let live = LiveFlows::start(&f.lab, busy(family))?;
    let flows = live.conversations();
    let before = f.observer.window(&flows, WINDOW)?;
    let (_, others) = before.split(&flows, 1);

    // Nothing is said of the route.
    ip("nexthop replace id 10 group 1/3")?;
    let after = until_none_on(&f, 1, &flows)?;
    assert_eq!(after.moved_since(&before, &others), [], "valid tunnels");
    until_sets(&f.near, &["1: wg0=1", "1: wg0=1 wg2=1"])?;
    // What an object leads to may change, too.
    ip(&format!("{version} nexthop replace id 3 dev wg1"))?;
    until_sets(&f.near, &["1: wg0=1", "1: wg0=1 wg1=1"])?;
    until_none_on(&f, 2, &flows)?;
    f.assert_nothing_lost(live)?;
    // All routes by it go with it, and nobody says so.
    ip("nexthop del id 10")?;
    until_sets(&f.near, &["1: wg0=1"]).map(drop)
});

#[test]
fn next_hops_by_device_alone() -> anyhow::Result<()> {
    scenario::run("next_hops_by_device_alone", || {
        let f = following(2, &[])?;
        let net = network(Family::V4);
        ip(
            &f.lab,
            &format!("route replace {net} {}", by_device(&[(0, 1), (1, 1)])),
        )?;
        until_sets(&f.near, &["1: wg0=1", "1: wg0=1 wg1=1"])?;
        // IPv6 may have the next hops as routes of their own.
        let net = network(Family::V6);
        ip(&f.lab, &format!("-6 route append {net} dev wg1"))?;
        until_sets(&f.near, &["2: wg0=1 wg1=1"])?;
        ip(&f.lab, &format!("-6 route del {net} dev wg0"))?;
        until_sets(&f.near, &["1: wg1=1", "1: wg0=1 wg1=1"])?;
        Ok(())
    })
}

/// The kernel says nothing of the routes that go with a device.
#[test]
fn a_device_goes_with_its_routes() -> anyhow::Result<()> {
    scenario::run("a_device_goes_with_its_routes", || {
        let mut f = following(2, &[])?;
        let two = by_device(&[(0, 1), (1, 1)]);
        ip(
            &f.lab,
            &format!("route replace {} {two}", network(Family::V4)),
        )?;
        ip(&f.lab, "route add 10.2.64.0/24 dev wg1")?;
        until_sets(&f.near, &["1: wg0=1", "1: wg0=1 wg1=1", "1: wg1=1"])?;
        let live = LiveFlows::start(&f.lab, busy(Family::V4))?;
        // Down: the kernel keeps the route of two, and does not use the dead one.
        f.lab.tunnel_down(Side::A, 1)?;
        until_sets(&f.near, &["2: wg0=1"])?;
        f.until_all_flows_use(0, &live.conversations())?;
        f.lab.tunnel_up(Side::A, 1)?;
        ip(
            &f.lab,
            &format!("route replace {} {two}", network(Family::V4)),
        )?;
        until_sets(&f.near, &["1: wg0=1", "1: wg0=1 wg1=1"])?;
        let report = live.stop()?;
        assert_eq!(report.broken(), 0);
        // Deleted: the route of two goes as a whole.
        f.lab.tunnel_delete(Side::A, 1)?;
        until_sets(&f.near, &["1: wg0=1"])?;
        ip(
            &f.lab,
            &format!("route replace {} dev wg0", network(Family::V4)),
        )?;
        f.lab.tunnel_remake(Side::A, 1)?;
        ip(
            &f.lab,
            &format!("route replace {} {two}", network(Family::V4)),
        )?;
        until_sets(&f.near, &["1: wg0=1", "1: wg0=1 wg1=1"])?;
        f.observer = Observer::start(&f.lab)?;
        f.until_new_flows_use(1, Family::V4)
    })
}

/// Whatever a route does, flows whose tunnels stay valid stay where they are.
#[test]
fn a_thousand_flaps() -> anyhow::Result<()> {
    scenario::run("a_thousand_flaps", || {
        let f = following(3, &[])?;
        let net = network(Family::V4);
        let alike = by_device(&[(0, 1), (1, 1), (2, 1)]);
        let uneven = by_device(&[(0, 5), (1, 1), (2, 2)]);
        ip(&f.lab, &format!("route replace {net} {alike}"))?;
        until_sets(&f.near, &["1: wg0=1", "1: wg0=1 wg1=1 wg2=1"])?;
        let live = LiveFlows::start(&f.lab, busy(Family::V4))?;
        let flows = live.conversations();
        let before = f.observer.window(&flows, WINDOW)?;
        let epoch = f.near.status()?.groups[0].epoch;
        let mut ip = Ip::start(&f.lab)?;
        for flap in 0..500 {
            let hops = [&uneven, &alike][flap % 2];
            ip.say(&format!("route replace {net} {hops}"))?;
            std::thread::sleep(Duration::from_millis(5));
        }
        // Below another one: the prefix is never without a route.
        ip.say(&format!("route add {net} metric 10 {uneven}"))?;
        for _ in 0..250 {
            ip.say(&format!(
                "route del {net} metric 0\nroute add {net} {alike}"
            ))?;
            std::thread::sleep(Duration::from_millis(5));
        }
        ip.end()?;
        let after = f.observer.window(&flows, WINDOW)?;
        let status = f.near.status()?;
        let epochs = status.groups[0].epoch - epoch;
        println!("1,000 changes, {epochs} epochs: 0 flows moved");
        assert!(
            epochs > 100 / wait::slowness(),
            "only {epochs} changes were applied"
        );
        assert_eq!(after.moved_since(&before, &flows), []);
        let moves: u64 = status.tunnels().iter().map(|t| t.moved_in).sum();
        assert_eq!(moves, 0, "what steer counted");
        f.assert_nothing_lost(live)?;
        // Gone altogether for a moment: who comes back finds his tunnel.
        let live = LiveFlows::start(&f.lab, busy(Family::V4))?;
        let flows = live.conversations();
        let before = f.observer.window(&flows, WINDOW)?;
        crate::routes::ip(&f.lab, &format!("route del {net} metric 10"))?;
        let mut ip = Ip::start(&f.lab)?;
        for _ in 0..50 {
            ip.say(&format!("route del {net}\nroute add {net} {alike}"))?;
            std::thread::sleep(Duration::from_millis(10));
        }
        ip.end()?;
        until_sets(&f.near, &["1: wg0=1", "1: wg0=1 wg1=1 wg2=1"])?;
        let after = f.observer.window(&flows, WINDOW)?;
        assert_eq!(after.moved_since(&before, &flows), []);
        assert_eq!(live.stop()?.broken(), 0);
        Ok(())
    })
}
