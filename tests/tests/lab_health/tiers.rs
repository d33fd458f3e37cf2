//! Tunnels that stand by until the better ones are gone.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use steer_tests::lab::{Family, Side};
use steer_tests::scenario::watch::{busy, gaps, until_answering, until_used};
use steer_tests::scenario::{self, Fixture};
use steer_tests::traffic::{LiveFlows, burst};
use steer_user::datapath::{maps::Maps, pins::PinDir};

const WINDOW: Duration = Duration::from_millis(500);

/// The tunnels that new flows use.
fn used(f: &Fixture) -> Result<BTreeSet<usize>> {
    f.observer.take()?;
    let shares = burst(&f.lab, Family::V4, 60)?.shares(&f.observer.take()?)?;
    Ok(shares.into_keys().collect())
}

#[test]
fn the_next_tier_when_all_of_the_first_are_down() -> Result<()> {
    scenario::run("the_next_tier_when_all_of_the_first_are_down", || {
        let f = Fixture::new(&[1, 1, 1])?;
        until_answering(&f.near, &["wg0", "wg1", "wg2"])?;
        until_answering(&f.far, &["wg0", "wg1", "wg2"])?;
        {
            let pins = PinDir::new(f.lab.pin_dir(Side::A));
            let _lock = pins.lock()?;
            let mut maps = Maps::open(&pins)?;
            let mut info = maps.tunnel_info(2)?;
            info.tier = 1;
            maps.set_tunnel_info(2, &info)?;
        }
        // Any change makes new tables.
        f.near.weights(&[("wg0", 2), ("wg1", 1)])?;
        assert_eq!(used(&f)?, [0, 1].into());
        let live = LiveFlows::start(&f.lab, busy(Family::V4))?;
        let flows = live.conversations();
        f.lab.cut_tunnel(1)?;
        f.until_all_flows_use(0, &flows)?;
        f.lab.cut_tunnel(0)?;
        let spare = f.until_all_flows_use(2, &flows)?;
        assert_eq!(used(&f)?, [2].into());

        f.lab.restore_tunnel(1)?;
        until_used(&f.near, "wg1")?;
        f.until_new_flows_use(1, Family::V4)?;
        assert_eq!(used(&f)?, [1].into(), "the better tier is back");
        let after = f.observer.window(&flows, WINDOW)?;
        assert_eq!(after.moved_since(&spare, &flows), [], "live flows stay");
        let report = live.stop()?;
        assert_eq!(report.broken(), 0);
        let (udp, tcp) = gaps(&report, &flows);
        println!("longest gap UDP {udp:?}, TCP {tcp:?}");
        Ok(())
    })
}
