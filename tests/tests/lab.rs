//! End to end: steer between real WireGuard tunnels, judged on the wire.
//!
//! Which tunnel a flow used is what packet sockets on the tunnel devices saw,
//! not what steer says of itself. The two gateways have different seeds.

use std::time::Duration;

use steer_tests::both_families;
use steer_tests::lab::{Family, Observer, Side, Steer, tunnel_address, wait};
use steer_tests::scenario::{self, Fixture};
use steer_tests::traffic::{Bulk, LiveFlows, LiveSpec, Server, burst};

/// Twenty messages of every live flow.
const WINDOW: Duration = Duration::from_secs(1);

both_families!(goodput_of_two_tunnels, |family| {
    let lab = scenario::lab(2)?;
    let server = Server::start(&lab)?;
    let goodput = || {
        let mut bulk = Bulk::start(&lab, &server, family, 10)?;
        bulk.goodput(&server, Duration::from_secs(2))?;
        bulk.goodput(&server, Duration::from_secs(6))
    };
    let one = goodput()?;
    let _near = Steer::start(&lab, Side::A, &[1, 1])?;
    let _far = Steer::start(&lab, Side::B, &[1, 1])?;
    let two = goodput()?;
    println!(
        "{family}: one tunnel {one:.1} Mbit/s, two {two:.1}: {:.2} ×",
        two / one
    );
    // Two tunnels' encryption takes all but a tenth of emulated processors.
    let least = if wait::slowness() == 1 { 1.9 } else { 1.7 };
    assert!(
        two >= least * one,
        "{two:.1} Mbit/s over two tunnels, {one:.1} over one"
    );
    Ok(())
});

both_families!(live_flows_stay_when_weights_change, |family| {
    let f = Fixture::new(&[1, 1])?;
    let live = LiveFlows::start(&f.lab, LiveSpec::two_hundred(family))?;
    let flows = live.conversations();

    let first = f.observer.window(&flows, WINDOW)?;
    f.near.weights(&[("wg0", 3), ("wg1", 1)])?;
    let second = f.observer.window(&flows, WINDOW)?;
    assert_eq!(second.moved_since(&first, &flows), [], "by 1:1 → 3:1");

    let (own, others) = second.split(&flows, 1);
    assert!(own.len() > 50, "only {} of 200 flows are on wg1", own.len());
    f.near.disable("wg1")?;
    let third = f.observer.window(&flows, WINDOW)?;
    assert_eq!(
        third.moved_since(&second, &own).len(),
        own.len(),
        "flows of wg1"
    );
    assert_eq!(
        third.moved_since(&second, &others),
        [],
        "flows of wg0, by wg1's removal"
    );
    assert_eq!(third.count_on(1), 0);

    f.near.enable("wg1")?;
    let fourth = f.observer.window(&flows, WINDOW)?;
    assert_eq!(fourth.moved_since(&third, &flows), [], "by wg1's return");
    f.observer.take()?;
    let new = burst(&f.lab, family, 1_000)?;
    let share = new
        .shares(&f.observer.take()?)?
        .get(&1)
        .copied()
        .unwrap_or(0.0);
    println!(
        "{family}: {} of 200 flows moved by the removal, then {share:.3} of the new ones",
        own.len()
    );
    assert!(
        (share - 0.25).abs() < 0.05,
        "wg1 gets {share} of the new flows after its return"
    );

    f.assert_nothing_lost(live)
});

both_families!(new_flows_follow_weights, |family| {
    let weights = [5, 3, 2];
    let f = Fixture::new(&weights)?;
    let new = burst(&f.lab, family, 10_000)?;
    let shares = new.shares(&f.observer.take()?)?;
    println!("{family}: 10,000 new flows with weights 5:3:2: {shares:?}");
    for (k, weight) in weights.into_iter().enumerate() {
        let (share, wanted) = (
            shares.get(&k).copied().unwrap_or(0.0),
            f64::from(weight) / 10.0,
        );
        assert!(
            (share - wanted).abs() <= 0.015,
            "wg{k}: {share}, not {wanted}"
        );
    }
    Ok(())
});

both_families!(replies_come_by_the_same_tunnel, |family| {
    let f = Fixture::new(&[1, 1, 1])?;
    // The far gateway would place new flows elsewhere.
    f.far.weights(&[("wg0", 1), ("wg1", 0), ("wg2", 0)])?;
    f.observer.take()?;
    let live = LiveFlows::start(&f.lab, LiveSpec::two_hundred(family))?;
    let new = burst(&f.lab, family, 2_000)?;
    let seen = f.observer.take()?;
    let flows: Vec<_> = live.conversations().into_iter().chain(new.flows).collect();
    assert_eq!(seen.asymmetric(&flows), [], "of {} flows", flows.len());
    for k in 0..3 {
        assert!(
            seen.count_on(k) > 500,
            "wg{k} has {} flows",
            seen.count_on(k)
        );
    }
    Ok(())
});

both_families!(nothing_is_lost_when_the_loader_is_killed, |family| {
    let mut f = Fixture::new(&[1, 1])?;
    let live = LiveFlows::start(&f.lab, LiveSpec::two_hundred(family))?;
    let flows = live.conversations();
    let before = f.observer.window(&flows, WINDOW)?;
    f.near.kill()?;
    f.far.kill()?;
    let killed = f.observer.window(&flows, WINDOW)?;
    assert_eq!(killed.moved_since(&before, &flows), [], "by kill -9");
    f.near.run(&[1, 1])?;
    f.far.run(&[1, 1])?;
    let again = f.observer.window(&flows, WINDOW)?;
    assert_eq!(again.moved_since(&killed, &flows), [], "by the next run");
    assert_eq!(again.asymmetric(&flows), []);
    f.assert_nothing_lost(live)
});

both_families!(nothing_is_lost_by_an_upgrade_in_place, |family| {
    let mut f = Fixture::new(&[1, 1])?;
    let live = LiveFlows::start(&f.lab, LiveSpec::two_hundred(family))?;
    let flows = live.conversations();
    let before = f.observer.window(&flows, WINDOW)?;
    let programs = f.near.status()?.programs();
    f.near.run(&[1, 1])?;
    f.far.run(&[1, 1])?;
    let upgraded = f.near.status()?.programs();
    assert_eq!(
        programs.len(),
        5,
        "lan0, wg0 and wg1, twice each: {programs:?}"
    );
    for (hook, program) in &programs {
        assert_ne!(
            upgraded.get(hook),
            Some(program),
            "{hook:?}: the old program still runs"
        );
    }
    let after = f.observer.window(&flows, WINDOW)?;
    assert_eq!(after.moved_since(&before, &flows), []);
    f.assert_nothing_lost(live)
});

both_families!(a_tunnel_that_goes_down_moves_its_flows_only, |family| {
    let f = Fixture::new(&[1, 1])?;
    let live = LiveFlows::start(&f.lab, LiveSpec::two_hundred(family))?;
    let flows = live.conversations();
    let before = f.observer.window(&flows, WINDOW)?;
    f.lab.tunnel_down(Side::A, 1)?;
    let after = f.until_all_flows_use(0, &flows)?;
    let (own, others) = before.split(&flows, 1);
    assert!(
        own.len() > 50,
        "only {} of 200 flows were on wg1",
        own.len()
    );
    assert_eq!(after.moved_since(&before, &others), []);

    f.lab.tunnel_up(Side::A, 1)?;
    f.lab.warm_up(1)?;
    let back = f.observer.window(&flows, WINDOW)?;
    assert_eq!(back.moved_since(&after, &flows), [], "by the return");
    f.until_new_flows_use(1, family)?;
    assert_eq!(live.stop()?.broken(), 0);
    Ok(())
});

both_families!(a_tunnel_that_is_deleted_moves_its_flows_only, |family| {
    let f = Fixture::new(&[1, 1])?;
    let live = LiveFlows::start(&f.lab, LiveSpec::two_hundred(family))?;
    let flows = live.conversations();
    let before = f.observer.window(&flows, WINDOW)?;
    f.lab.tunnel_delete(Side::A, 1)?;
    let after = f.until_all_flows_use(0, &flows)?;
    let (own, others) = before.split(&flows, 1);
    assert!(
        own.len() > 50,
        "only {} of 200 flows were on wg1",
        own.len()
    );
    assert_eq!(after.moved_since(&before, &others), []);
    assert_eq!(live.stop()?.broken(), 0);
    Ok(())
});

/// The lab itself: what the tests above stand on.
#[test]
fn without_steer_one_tunnel_carries_everything() -> anyhow::Result<()> {
    scenario::run("without_steer_one_tunnel_carries_everything", || {
        let lab = scenario::lab(2)?;
        let _server = Server::start(&lab)?;
        let observer = Observer::start(&lab)?;
        for family in [Family::V4, Family::V6] {
            let new = burst(&lab, family, 200)?;
            let shares = new.shares(&observer.take()?)?;
            assert_eq!(
                shares.into_iter().collect::<Vec<_>>(),
                [(0, 1.0)],
                "{family}"
            );
        }
        let far = tunnel_address(Side::B, 1, Family::V4);
        lab.cut_tunnel(1)?;
        assert!(!lab.gateway(Side::A).reaches(far)?, "wg1 is cut");
        lab.restore_tunnel(1)?;
        wait::until("wg1: restored", Duration::from_secs(5), || {
            Ok(lab.gateway(Side::A).reaches(far)?.then_some(()))
        })
    })
}
