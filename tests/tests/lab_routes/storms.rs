//! More messages than the daemon can hear.

use std::time::Instant;

use anyhow::Result;
use nix::sys::signal::Signal;
use steer_tests::lab::Family;
use steer_tests::scenario;
use steer_tests::traffic::LiveFlows;

use crate::routes::{Ip, WINDOW, busy, by_device, following, until_sets};

/// More than the socket of the daemon has room for.
const ROUTES: usize = 12_000;

fn each(verb: &str, device: &str) -> String {
    let line = |n: usize| {
        format!(
            "route {verb} 10.{}.{}.0/24 dev {device}",
            100 + n / 256,
            n % 256
        )
    };
    (0..ROUTES).map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn more_than_can_be_heard() -> Result<()> {
    scenario::run("more_than_can_be_heard", || {
        let f = following(3, &[])?;
        until_sets(&f.near, &["2: wg0=1"])?;
        let mut ip = Ip::start(&f.lab)?;
        ip.say(&format!(
            "route replace 10.2.0.0/16 {}",
            by_device(&[(0, 1), (1, 1), (2, 1)])
        ))?;
        until_sets(&f.near, &["1: wg0=1", "1: wg0=1 wg1=1 wg2=1"])?;
        let live = LiveFlows::start(&f.lab, busy(Family::V4))?;
        let flows = live.conversations();
        let before = f.observer.window(&flows, WINDOW)?;
        // While it hears nothing.
        f.near.signal(Signal::SIGSTOP)?;
        ip.say(&each("add", "wg0"))?;
        for device in ["wg1", "wg2", "wg0", "wg2", "wg1"] {
            ip.say(&each("replace", device))?;
        }
        ip.say("route del 10.100.0.0/24\nroute add 10.3.0.0/16 dev wg2")?;
        ip.end()?;
        f.near.signal(Signal::SIGCONT)?;
        let start = Instant::now();
        let rest = format!("{}: wg1=1", ROUTES - 1);
        until_sets(
            &f.near,
            &["1: wg0=1", "1: wg0=1 wg1=1 wg2=1", "1: wg2=1", &rest],
        )?;
        println!(
            "{} messages unheard; all known {:?} later",
            6 * ROUTES + 2,
            start.elapsed()
        );
        assert!(
            f.near.log().contains("route messages were lost"),
            "{}",
            f.near.log()
        );

        // While it hears all that it can.
        let mut ip = Ip::start(&f.lab)?;
        let start = Instant::now();
        for device in ["wg0", "wg2", "wg1", "wg0"] {
            ip.say(&each("replace", device))?;
        }
        ip.say(&each("del", "wg0"))?;
        ip.end()?;
        let told = start.elapsed();
        until_sets(&f.near, &["1: wg0=1", "1: wg0=1 wg1=1 wg2=1", "1: wg2=1"])?;
        println!(
            "{} messages in {told:?}; done {:?} later",
            5 * ROUTES,
            start.elapsed().saturating_sub(told)
        );
        let after = f.observer.window(&flows, WINDOW)?;
        assert_eq!(after.moved_since(&before, &flows), [], "by the storm");
        f.assert_nothing_lost(live)
    })
}
