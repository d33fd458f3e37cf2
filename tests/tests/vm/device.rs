//! A WireGuard device of the kernel goes and comes back, as by `wg-quick down` and `up`.

use std::time::Duration;

use anyhow::{Result, ensure};
use steer_tests::lab::{Family, Implementation, Observer, Side};
use steer_tests::scenario::watch::{until_answering, until_health, until_used};
use steer_tests::scenario::{self, Fixture};
use steer_tests::traffic::{LiveFlows, LiveSpec};

/// Twenty messages of every live flow, even when they are slow.
const WINDOW: Duration = Duration::from_secs(2);

#[test]
fn a_device_is_deleted_and_made_again() -> Result<()> {
    scenario::run("a_device_is_deleted_and_made_again", || {
        let mut f = Fixture::new(&[1, 1])?;
        ensure!(f.lab.implementation() == Implementation::Kernel);
        until_answering(&f.near, &["wg0", "wg1"])?;
        let live = LiveFlows::start(
            &f.lab,
            LiveSpec {
                tcp: 20,
                udp: 20,
                ..LiveSpec::two_hundred(Family::V4)
            },
        )?;
        let flows = live.conversations();
        let before = f.observer.window(&flows, WINDOW)?;
        let (_, others) = before.split(&flows, 1);
        f.lab.tunnel_delete(Side::A, 1)?;
        let after = f.until_all_flows_use(0, &flows)?;
        assert_eq!(after.moved_since(&before, &others), [], "flows of wg0");
        until_health(&f.near, "wg1", "down")?;

        f.lab.tunnel_remake(Side::A, 1)?;
        until_used(&f.near, "wg1")?;
        // The packet sockets went with the device.
        f.observer = Observer::start(&f.lab)?;
        f.until_new_flows_use(1, Family::V4)?;
        let back = f.observer.window(&flows, WINDOW)?;
        assert_eq!(back.moved_since(&after, &flows), [], "by the return");
        assert_eq!(live.stop()?.broken(), 0);
        Ok(())
    })
}
