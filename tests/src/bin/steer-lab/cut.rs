//! A tunnel that is cut in silence under live flows: how long until others answer them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use steer_tests::lab::{Conversation, Family, Lab, Observer, Paths, Protocol, tunnel_name, wait};
use steer_tests::traffic::{LiveFlows, LiveSpec};

use crate::report::Cut;
use crate::run::WINDOW;
use crate::view::View;

/// Flows of each protocol and family.
const FLOWS: usize = 25;
/// Time between two messages of a flow: what the figure may be too large by.
const INTERVAL: Duration = Duration::from_millis(20);
/// How long it may take.
const LIMIT: Duration = Duration::from_secs(15);

/// Cuts the last tunnel, and lets it come back.
pub(crate) fn cut(lab: &Lab, view: &mut View<'_>) -> Result<Cut> {
    let tunnel = lab.options().tunnels - 1;
    let what = format!("Tunnel {} cut in silence", tunnel_name(tunnel));
    view.title(&what)?;
    let observer = Observer::start(lab)?;
    let live = view.during(|| Ok([start(lab, Family::V4)?, start(lab, Family::V6)?]))?;
    let flows: Vec<_> = live.iter().flat_map(LiveFlows::conversations).collect();
    let before = view.during(|| observer.window(&flows, WINDOW))?;
    let (own, others) = before.split(&flows, tunnel);
    lab.cut_tunnel(tunnel)?;
    let since = Instant::now();
    let answered = view.during(|| until_answered(&observer, &own, tunnel, since))?;
    let after = view.during(|| observer.window(&flows, WINDOW))?;
    lab.restore_tunnel(tunnel)?;
    Ok(Cut {
        what,
        own: own.len(),
        answered,
        others: (others.len(), after.moved_since(&before, &others).len()),
    })
}

fn start(lab: &Lab, family: Family) -> Result<LiveFlows> {
    let spec = LiveSpec {
        family,
        tcp: FLOWS,
        udp: FLOWS,
        interval: INTERVAL,
    };
    LiveFlows::start(lab, spec)
}

/// Waits until each flow got an answer by another tunnel than `dead`; when the last of each protocol did.
fn until_answered(
    observer: &Observer,
    flows: &[Conversation],
    dead: usize,
    since: Instant,
) -> Result<BTreeMap<Protocol, Duration>> {
    let mut waiting = flows.to_vec();
    let mut answered = BTreeMap::new();
    wait::until("answers by another tunnel", LIMIT, || {
        let seen = observer.take()?;
        let now = since.elapsed();
        waiting.retain(|flow| {
            let replies = seen.paths(flow).map(Paths::reverse_tunnels);
            let is_answered = replies.is_some_and(|by| by.iter().any(|by| *by != dead));
            if is_answered {
                answered.insert(flow.protocol, now);
            }
            !is_answered
        });
        Ok(waiting.is_empty().then_some(()))
    })?;
    Ok(answered)
}
