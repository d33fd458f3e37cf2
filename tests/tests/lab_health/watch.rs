//! What steer says of a tunnel, and what flows felt.

use std::time::{Duration, Instant};

use anyhow::Result;
use steer_tests::lab::{Conversation, Family, Protocol, Setup, Side, Steer, tunnel_address, wait};
use steer_tests::traffic::{LiveReport, LiveSpec};

/// How long anything may take that is not being measured.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// Waits until a tunnel's health is this one; gives how long that took.
pub(crate) fn until_health(steer: &Steer, tunnel: &str, health: &str) -> Result<Duration> {
    let start = Instant::now();
    wait::until(&format!("{tunnel} {health}"), PATIENCE, || {
        let status = steer.status()?;
        let is_so = status.tunnel(tunnel)?.health.as_deref() == Some(health);
        Ok(is_so.then_some(()))
    })?;
    Ok(start.elapsed())
}

/// Waits until the far ends of all these tunnels answer.
pub(crate) fn until_answering(steer: &Steer, tunnels: &[&str]) -> Result<()> {
    wait::until("all far ends answer", PATIENCE, || {
        let status = steer.status()?;
        for tunnel in tunnels {
            let tunnel = status.tunnel(tunnel)?;
            let answers = tunnel.health_reason.as_deref() == Some("its far end answers");
            if !answers || tunnel.rtt_ms.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
}

/// Probes of this family: IPv4 is what the tunnels' own addresses tell, IPv6 has to be said.
pub(crate) fn probed(family: Family, side: Side, setup: Setup, tunnels: usize) -> Setup {
    match family {
        Family::V4 => setup,
        Family::V6 => (0..tunnels).fold(setup, |setup, k| {
            let far = tunnel_address(side.other(), k, family);
            setup.args(&["--probe-target", &format!("wg{k}={far}")])
        }),
    }
}

/// Live flows that notice a gap soon.
pub(crate) fn busy(family: Family) -> LiveSpec {
    LiveSpec {
        family,
        tcp: 40,
        udp: 40,
        interval: Duration::from_millis(40),
    }
}

/// The longest time that any of `flows` was without an echo, for UDP and for TCP.
pub(crate) fn gaps(report: &LiveReport, flows: &[Conversation]) -> (Duration, Duration) {
    let longest = |protocol| {
        let flows = report.flows.iter().filter(|flow| {
            flow.conversation.protocol == protocol && flows.contains(&flow.conversation)
        });
        flows.map(|flow| flow.longest_gap).max().unwrap_or_default()
    };
    (longest(Protocol::Udp), longest(Protocol::Tcp))
}
