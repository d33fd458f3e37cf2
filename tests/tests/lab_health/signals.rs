//! A tunnel with nobody to ask in it: WireGuard's own signals are all there is.

use std::time::{Duration, Instant};

use anyhow::Result;
use steer_tests::lab::{Family, Observer, Side, wait};
use steer_tests::scenario::watch::{busy, until_answering, until_health, until_used};
use steer_tests::scenario::{self, Fixture};
use steer_tests::traffic::{LiveFlows, LiveSpec};

/// Its far end is gone before there were keys: what is sent gets no reply.
#[test]
fn nobody_to_ask() -> Result<()> {
    scenario::run("nobody_to_ask", || {
        let mut f = Fixture::new(&[1, 1])?;
        until_answering(&f.near, &["wg0", "wg1"])?;
        f.lab.tunnel_delete(Side::A, 1)?;
        until_health(&f.near, "wg1", "down")?;
        f.lab.cut_tunnel(1)?;
        f.lab.tunnel_remake(Side::A, 1)?;
        // Without it there is nothing that tells the far end's address.
        f.lab.forget_tunnel_address(Side::A, 1)?;
        // Nothing speaks against it, so it gets its share of the flows.
        until_used(&f.near, "wg1")?;
        let start = Instant::now();
        let spec = LiveSpec {
            tcp: 0,
            ..busy(Family::V6)
        };
        // It waits for two echoes of each flow, which those on wg1 have once they were moved.
        let live = LiveFlows::start(&f.lab, spec)?;
        let down = start.elapsed();
        let status = f.near.status()?;
        let reason = status.tunnel("wg1")?.health_reason.as_deref();
        assert_eq!(reason, Some("packets go in and none come out"));
        f.observer = Observer::start(&f.lab)?;
        f.until_all_flows_use(0, &live.conversations())?;
        f.lab.restore_tunnel(1)?;
        let up = until_used(&f.near, "wg1")?;
        println!("down {down:?} after the first packets, up {up:?} after the return");
        assert!(down < wait::here(Duration::from_secs(12)), "after {down:?}");
        drop(live.stop()?);
        Ok(())
    })
}
