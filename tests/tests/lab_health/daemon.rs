//! What becomes of the health when the daemon ends, is replaced, or is stopped for a while.

use std::time::Duration;

use anyhow::Result;
use steer_tests::lab::{Side, Steer, wait};
use steer_tests::scenario::watch::{UDP_MAX, until_answering, until_health};
use steer_tests::scenario::{self, Fixture};

/// A tunnel is said to be down all the time, for a second.
fn stays_down(steer: &Steer, tunnel: &str) -> Result<()> {
    for _ in 0..20 {
        let status = steer.status()?;
        assert_eq!(status.tunnel(tunnel)?.health.as_deref(), Some("down"));
        wait::pause(Duration::from_millis(50))?;
    }
    Ok(())
}

/// A restart of steer while a tunnel is dead does not give it flows again; without a daemon to say more, only the
/// device counts.
#[test]
fn still_dead_after_a_restart() -> Result<()> {
    scenario::run("still_dead_after_a_restart", || {
        let mut f = Fixture::new(&[1, 1])?;
        until_answering(&f.near, &["wg0", "wg1"])?;
        f.lab.cut_sender(Side::B, 1)?;
        until_health(&f.near, "wg1", "down")?;
        f.near.kill()?;
        f.near.run(&[1, 1])?;
        stays_down(&f.near, "wg1")?;
        // Beside the first, which leaves.
        f.near.run(&[1, 1])?;
        stays_down(&f.near, "wg1")?;
        f.near.kill()?;
        f.near.attach()?;
        let status = f.near.status()?;
        let tunnel = status.tunnel("wg1")?;
        assert_eq!(
            (tunnel.health.as_deref(), tunnel.health_reason.as_deref()),
            (Some("up"), Some("its device is up"))
        );
        // One that comes then finds out by itself. It has never heard an answer.
        f.near.run(&[1, 1])?;
        f.lab.restore_sender(Side::B, 1)?;
        until_answering(&f.near, &["wg0", "wg1"])?;
        Ok(())
    })
}

/// A daemon that was stopped for five seconds knows nothing of that time, and says nothing of it.
#[test]
fn stopped_for_a_while() -> Result<()> {
    scenario::run("stopped_for_a_while", || {
        let f = Fixture::new(&[1, 1])?;
        until_answering(&f.near, &["wg0", "wg1"])?;
        f.near.suspend(true)?;
        wait::pause(Duration::from_secs(5))?;
        f.near.suspend(false)?;
        wait::pause(Duration::from_secs(2))?;
        let log = f.near.log();
        assert!(!log.contains("→ down"), "{log}");
        // It is still there.
        f.lab.cut_tunnel(1)?;
        let detected = until_health(&f.near, "wg1", "down")?;
        println!("down {detected:?} after the cut");
        assert!(detected < wait::here(UDP_MAX), "after {detected:?}");
        Ok(())
    })
}
