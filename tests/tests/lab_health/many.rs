//! Many tunnels at once.

use std::time::Duration;

use anyhow::Result;
use steer_tests::lab::{Capture, Side, tunnel_name, wait};
use steer_tests::scenario::watch::{is_probe, until_answering, until_health};
use steer_tests::scenario::{self, Fixture};

const TUNNELS: usize = 16;

/// Each in its rhythm, none flaps, and one that dies is noticed as soon as among two.
#[test]
fn sixteen_tunnels() -> Result<()> {
    scenario::run("sixteen_tunnels", || {
        let f = Fixture::new(&[1; TUNNELS])?;
        let names: Vec<_> = (0..TUNNELS).map(tunnel_name).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        until_answering(&f.near, &names)?;
        let capture = Capture::tunnels(&f.lab, Side::A)?;
        capture.take()?;
        wait::pause(Duration::from_secs(2))?;
        let mut sent = [0; TUNNELS];
        for captured in capture.take()?.iter().filter(|captured| is_probe(captured)) {
            sent[captured.device] += 1;
        }
        println!("probes in two seconds: {sent:?}");
        assert!(
            sent.iter().all(|sent| (6..=12).contains(sent)),
            "{sent:?} in two seconds"
        );
        let log = f.near.log();
        assert!(!log.contains("→ down"), "{log}");
        f.lab.cut_tunnel(7)?;
        let detected = until_health(&f.near, "wg7", "down")?;
        println!("wg7 down {detected:?} after the cut");
        assert!(
            detected < wait::here(Duration::from_secs(2)),
            "after {detected:?}"
        );
        let status = f.near.status()?;
        let down: Vec<_> = status
            .tunnels()
            .iter()
            .filter(|tunnel| tunnel.health.as_deref() == Some("down"))
            .map(|tunnel| tunnel.name.as_str())
            .collect();
        assert_eq!(down, ["wg7"]);
        Ok(())
    })
}
