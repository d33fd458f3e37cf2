//! The far gateway dies whole, with all tunnels, and comes back.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use steer_tests::lab::{Conversation, Family, Paths, Protocol, Side, wait};
use steer_tests::scenario::watch::{PATIENCE, busy, until_answering, until_health, until_used};
use steer_tests::scenario::{self, Fixture};
use steer_tests::traffic::LiveFlows;

const WINDOW: Duration = Duration::from_millis(500);

#[test]
fn rebooted() -> anyhow::Result<()> {
    scenario::run("rebooted", || {
        let mut f = Fixture::new(&[1, 1])?;
        until_answering(&f.near, &["wg0", "wg1"])?;
        let live = LiveFlows::start(&f.lab, busy(Family::V4))?;
        let flows = live.conversations();

        f.far.kill()?;
        for k in [0, 1] {
            f.lab.tunnel_delete(Side::B, k)?;
        }
        for tunnel in ["wg0", "wg1"] {
            until_health(&f.near, tunnel, "down")?;
        }
        // Every flow stays where it is now, and its packets go there: the first tunnel to come back has its own
        // at once. TCP waits for longer and longer between two tries.
        let is_udp = |flow: &&Conversation| flow.protocol == Protocol::Udp;
        let udp: Vec<_> = flows.iter().filter(is_udp).copied().collect();
        let down = f.observer.window(&[], WINDOW)?;
        let later = f.observer.window(&[], WINDOW)?;
        assert_eq!(later.moved_since(&down, &udp), [], "with all tunnels down");
        let text = f.near.steerctl(&["status"])?;
        let warning = "no tunnel takes new flows: they are left to the kernel";
        assert!(text.contains(warning), "{text}");

        // What a reboot leaves of the pins.
        f.far.steerctl(&["detach"])?;
        for k in [0, 1] {
            f.lab.tunnel_remake(Side::B, k)?;
        }
        f.far.run(&[1, 1])?;
        let back = Instant::now();
        for tunnel in ["wg0", "wg1"] {
            until_used(&f.near, tunnel)?;
        }
        println!("all tunnels up {:?} after the far end", back.elapsed());
        let after = f.observer.window(&udp, WINDOW)?;
        // A tunnel that is back a moment before the other takes the flows that wait, and keeps its own.
        let moved = after.moved_since(&down, &udp);
        let to: BTreeSet<_> = moved
            .iter()
            .map(|flow| after.paths(flow).and_then(Paths::only_tunnel))
            .collect();
        assert!(to.len() <= 1, "{} moved, to {to:?}", moved.len());
        let echoed = live.progress().1;
        wait::until("echoes", PATIENCE, || {
            Ok((live.progress().1 > echoed + 1_000).then_some(()))
        })?;
        assert_eq!(live.stop()?.broken(), 0);
        Ok(())
    })
}
