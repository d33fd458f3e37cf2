//! A tunnel's device, or the cable below it, goes and comes back.

use std::time::{Duration, Instant};

use steer_tests::lab::{Family, Observer, Side, wait};
use steer_tests::scenario::watch::{
    UDP_MAX, busy, gaps, until_answering, until_health, until_used,
};
use steer_tests::scenario::{self, Fixture};
use steer_tests::traffic::LiveFlows;

const WINDOW: Duration = Duration::from_millis(500);

#[test]
fn deleted_and_made_again() -> anyhow::Result<()> {
    scenario::run("deleted_and_made_again", || {
        let mut f = Fixture::new(&[1, 1])?;
        until_answering(&f.near, &["wg0", "wg1"])?;
        let live = LiveFlows::start(&f.lab, busy(Family::V4))?;
        let flows = live.conversations();
        let before = f.observer.window(&flows, WINDOW)?;
        let (own, others) = before.split(&flows, 1);
        f.lab.tunnel_delete(Side::A, 1)?;
        let after = f.until_all_flows_use(0, &flows)?;
        assert_eq!(after.moved_since(&before, &others), [], "flows of wg0");
        until_health(&f.near, "wg1", "down")?;

        f.lab.tunnel_remake(Side::A, 1)?;
        let made = Instant::now();
        until_used(&f.near, "wg1")?;
        let up = made.elapsed();
        // The packet sockets went with the device.
        f.observer = Observer::start(&f.lab)?;
        f.until_new_flows_use(1, Family::V4)?;
        let back = f.observer.window(&flows, WINDOW)?;
        assert_eq!(back.moved_since(&after, &flows), [], "by the return");
        let report = live.stop()?;
        assert_eq!(report.broken(), 0);
        let (udp, _) = gaps(&report, &own);
        println!("UDP was silent for {udp:?}; up {up:?} after the device was made again");
        assert!(udp <= wait::here(UDP_MAX), "UDP was silent for {udp:?}");
        assert!(
            up <= wait::here(Duration::from_secs(2)),
            "up only after {up:?}"
        );
        Ok(())
    })
}

#[test]
fn down_and_cable_out() -> anyhow::Result<()> {
    scenario::run("down_and_cable_out", || {
        let f = Fixture::new(&[1, 1, 1])?;
        until_answering(&f.near, &["wg0", "wg1", "wg2"])?;
        until_answering(&f.far, &["wg0", "wg1", "wg2"])?;
        let live = LiveFlows::start(&f.lab, busy(Family::V6))?;
        let flows = live.conversations();
        let before = f.observer.window(&flows, WINDOW)?;

        f.lab.tunnel_down(Side::A, 1)?;
        until_health(&f.near, "wg1", "down")?;
        let status = f.near.status()?;
        let reason = status.tunnel("wg1")?.health_reason.as_deref();
        assert_eq!(reason, Some("its device is down"));
        // The other gateway's device is up.
        until_health(&f.far, "wg1", "down")?;

        f.lab.plug_cable(Side::B, 2, false)?;
        let after = f.until_all_flows_use(0, &flows)?;
        until_health(&f.near, "wg2", "down")?;
        let (_, others) = before.split(&flows, 1);
        let stayed = before.split(&others, 0).0;
        assert_eq!(after.moved_since(&before, &stayed), [], "flows of wg0");

        f.lab.plug_cable(Side::B, 2, true)?;
        f.lab.tunnel_up(Side::A, 1)?;
        for tunnel in ["wg1", "wg2"] {
            until_used(&f.near, tunnel)?;
            until_used(&f.far, tunnel)?;
        }
        f.until_new_flows_use(1, Family::V6)?;
        f.until_new_flows_use(2, Family::V6)?;
        let back = f.observer.window(&flows, WINDOW)?;
        assert_eq!(back.moved_since(&after, &flows), [], "by the return");
        let report = live.stop()?;
        assert_eq!(report.broken(), 0);
        let (udp, tcp) = gaps(&report, &flows);
        println!("longest gap UDP {udp:?}, TCP {tcp:?}");
        assert!(udp <= wait::here(UDP_MAX), "UDP was silent for {udp:?}");
        Ok(())
    })
}
