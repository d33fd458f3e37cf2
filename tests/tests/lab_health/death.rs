//! A tunnel dies in silence: every device is up, and nothing comes through.

use std::time::Duration;

use steer_tests::both_families;
use steer_tests::lab::{Family, Side, wait};
use steer_tests::scenario::watch::{
    TCP_MAX, UDP_MAX, busy, gaps, probed, until_answering, until_health, until_used,
};
use steer_tests::scenario::{self, Fixture};
use steer_tests::traffic::LiveFlows;

const WINDOW: Duration = Duration::from_millis(500);

both_families!(silent_death_and_return, |family| {
    let f = Fixture::adapted(&[1, 1], |side, setup| probed(family, side, setup, 2))?;
    until_answering(&f.near, &["wg0", "wg1"])?;
    until_answering(&f.far, &["wg0", "wg1"])?;
    let live = LiveFlows::start(&f.lab, busy(family))?;
    let flows = live.conversations();
    let before = f.observer.window(&flows, WINDOW)?;
    let (own, others) = before.split(&flows, 1);
    assert!(own.len() > 20, "only {} of 80 flows are on wg1", own.len());

    f.lab.cut_tunnel(1)?;
    let after = f.until_all_flows_use(0, &flows)?;
    assert_eq!(after.moved_since(&before, &others), [], "flows of wg0");
    let status = f.near.status()?;
    let dead = status.tunnel("wg1")?;
    assert_eq!(
        (
            dead.health.as_deref(),
            dead.health_reason.as_deref(),
            dead.share
        ),
        (
            Some("down"),
            Some("its far end does not answer any more"),
            0.0
        )
    );

    f.lab.restore_tunnel(1)?;
    let up = until_used(&f.near, "wg1")?;
    until_used(&f.far, "wg1")?;
    f.until_new_flows_use(1, family)?;
    let back = f.observer.window(&flows, WINDOW)?;
    assert_eq!(back.moved_since(&after, &flows), [], "by the return");

    let report = live.stop()?;
    assert_eq!(report.broken(), 0);
    let (udp, tcp) = gaps(&report, &own);
    println!(
        "{family}: {} flows moved; longest gap UDP {udp:?}, TCP {tcp:?}; up {up:?} after the return",
        own.len()
    );
    assert!(udp <= wait::here(UDP_MAX), "UDP was silent for {udp:?}");
    assert!(tcp <= wait::here(TCP_MAX), "TCP was silent for {tcp:?}");
    // Three answers, two intervals, and the daemon's own time.
    assert!(
        up <= wait::here(Duration::from_secs(3)),
        "up only {up:?} after the return"
    );
    Ok(())
});

/// Only what gateway A sends is lost: both ends have to notice.
#[test]
fn one_way_death() -> anyhow::Result<()> {
    scenario::run("one_way_death", || {
        let f = Fixture::new(&[1, 1])?;
        until_answering(&f.near, &["wg1"])?;
        until_answering(&f.far, &["wg1"])?;
        let live = LiveFlows::start(&f.lab, busy(Family::V4))?;
        let flows = live.conversations();
        let before = f.observer.window(&flows, WINDOW)?;
        let (own, others) = before.split(&flows, 1);
        f.lab.cut_sender(Side::A, 1)?;
        let after = f.until_all_flows_use(0, &flows)?;
        assert_eq!(after.moved_since(&before, &others), [], "flows of wg0");
        for steer in [&f.near, &f.far] {
            until_health(steer, "wg1", "down")?;
        }
        f.lab.restore_sender(Side::A, 1)?;
        for steer in [&f.near, &f.far] {
            until_used(steer, "wg1")?;
        }
        let report = live.stop()?;
        assert_eq!(report.broken(), 0);
        let (udp, tcp) = gaps(&report, &own);
        println!(
            "{} flows moved; longest gap UDP {udp:?}, TCP {tcp:?}",
            own.len()
        );
        assert!(
            udp <= wait::here(UDP_MAX) && tcp <= wait::here(TCP_MAX),
            "UDP {udp:?}, TCP {tcp:?}"
        );
        Ok(())
    })
}
