//! What live connections go through, and what must become of them.

use std::time::Duration;

use anyhow::Result;
use steer_tests::lab::{Conversation, Observer, Seen, Steer};
use steer_tests::scenario::Scene;
use steer_tests::traffic::{LiveFlows, LiveReport};

/// Ten messages of every live flow.
const WINDOW: Duration = Duration::from_millis(500);
/// Less than this of 200 flows on one of two tunnels is no accident.
const SHARE: usize = 50;

/// What is seen of live flows for a while.
pub(crate) struct Life<'a> {
    pub(crate) observer: &'a Observer,
    pub(crate) flows: &'a [Conversation],
    /// Undoes a NAT on what was seen.
    pub(crate) undo: &'a dyn Fn(&Seen) -> Seen,
}

impl Life<'_> {
    /// What is seen in a while in which each of `flows` is alive.
    pub(crate) fn window(&self, flows: &[Conversation]) -> Result<Seen> {
        let is_enough = |seen: &Seen| (self.undo)(seen).shows(flows);
        let seen = self.observer.window_until(WINDOW, is_enough)?;
        Ok((self.undo)(&seen))
    }

    /// Changes the weights to 3:1, which moves nobody, and then disables `wg1`.
    /// Gives the flows that were on `wg1`, and the others, which have stayed on `wg0`.
    pub(crate) fn changes(&self, steer: &Steer) -> Result<(Vec<Conversation>, Vec<Conversation>)> {
        let first = self.window(self.flows)?;
        steer.weights(&[("wg0", 3), ("wg1", 1)])?;
        let second = self.window(self.flows)?;
        assert_eq!(second.moved_since(&first, self.flows), [], "by 1:1 → 3:1");
        assert_eq!(second.asymmetric(self.flows), [], "two tunnels in use");

        let (own, others) = second.split(self.flows, 1);
        let least = own.len().min(others.len());
        assert!(least > SHARE, "{} of 200 flows on wg1", own.len());
        steer.disable("wg1")?;
        let third = self.window(&others)?;
        assert_eq!(third.moved_since(&second, &others), [], "by the removal");
        Ok((own, others))
    }
}

/// Ends the connections; `affected` of them may have lost something.
pub(crate) fn end(scene: &Scene, live: LiveFlows, affected: &[Conversation]) -> Result<LiveReport> {
    let report = live.stop()?;
    let unharmed =
        |flow: &&steer_tests::traffic::FlowReport| !affected.contains(&flow.conversation);
    let lost: Vec<_> = report
        .flows
        .iter()
        .filter(unharmed)
        .filter(|flow| flow.broken || flow.sent > flow.echoed)
        .collect();
    let drops = scene.lab.drops()?;
    assert!(lost.is_empty(), "{lost:#?}\nthe lab's own drops:\n{drops}");
    Ok(report)
}

/// Makes weights and tunnels as they were at the start.
pub(crate) fn restore(steer: &Steer) -> Result<()> {
    steer.enable("wg1")?;
    steer.weights(&[("wg0", 1), ("wg1", 1)]).map(drop)
}
