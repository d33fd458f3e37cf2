//! What steer says of a tunnel, and what flows felt.

use std::time::{Duration, Instant};

use crate::lab::{
    Captured, Conversation, Family, Protocol, Setup, Side, Steer, tunnel_address, wait,
};
use crate::traffic::{LiveReport, LiveSpec};
use anyhow::Result;

/// How long anything may take that is not being measured.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// How long UDP and TCP flows of a dead tunnel may be without an echo. What is promised is 1.2 s and 2 s; a busy
/// machine takes longer to do the same.
pub const UDP_MAX: Duration = Duration::from_millis(1_800);
/// TCP's tries come after 0.2, 0.6, 1.4 and 3 s.
pub const TCP_MAX: Duration = Duration::from_millis(3_400);

/// Six probes have to be answered in a row.
const TRUST: Duration = Duration::from_millis(1_300);

/// Waits until a tunnel's health is this one; gives how long that took.
pub fn until_health(steer: &Steer, tunnel: &str, health: &str) -> Result<Duration> {
    until_any(steer, tunnel, &[health])
}

/// Waits until a tunnel is used: up, or slow because the machine is busy. Gives how long that took.
pub fn until_used(steer: &Steer, tunnel: &str) -> Result<Duration> {
    until_any(steer, tunnel, &["up", "degraded"])
}

fn until_any(steer: &Steer, tunnel: &str, healths: &[&str]) -> Result<Duration> {
    let start = Instant::now();
    let what = format!("{tunnel} {}", healths.join(" or "));
    wait::until(&what, PATIENCE, || {
        let status = steer.status()?;
        let health = status.tunnel(tunnel)?.health.as_deref();
        Ok(health
            .is_some_and(|health| healths.contains(&health))
            .then_some(()))
    })?;
    Ok(start.elapsed())
}

/// Waits until the far ends of all these tunnels answer, and have for so long that their silence means something.
pub fn until_answering(steer: &Steer, tunnels: &[&str]) -> Result<()> {
    wait::until("all far ends answer", PATIENCE, || {
        let status = steer.status()?;
        for tunnel in tunnels {
            let tunnel = status.tunnel(tunnel)?;
            let is_used = matches!(tunnel.health.as_deref(), Some("up" | "degraded"));
            if !is_used || tunnel.rtt_ms.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })?;
    wait::pause(TRUST)
}

/// Probes of this family: IPv4 is what the tunnels' own addresses tell, IPv6 has to be said.
pub fn probed(family: Family, side: Side, setup: Setup, tunnels: usize) -> Setup {
    match family {
        Family::V4 => setup,
        Family::V6 => (0..tunnels).fold(setup, |setup, k| {
            let far = tunnel_address(side.other(), k, family);
            setup.args(&["--probe-target", &format!("wg{k}={far}")])
        }),
    }
}

/// Live flows that notice a gap soon.
pub fn busy(family: Family) -> LiveSpec {
    LiveSpec {
        family,
        tcp: 40,
        udp: 40,
        interval: Duration::from_millis(40),
    }
}

/// The longest time that any of `flows` was without an echo, for UDP and for TCP.
pub fn gaps(report: &LiveReport, flows: &[Conversation]) -> (Duration, Duration) {
    let longest = |protocol| {
        let flows = report.flows.iter().filter(|flow| {
            flow.conversation.protocol == protocol && flows.contains(&flow.conversation)
        });
        flows.map(|flow| flow.longest_gap).max().unwrap_or_default()
    };
    (longest(Protocol::Udp), longest(Protocol::Tcp))
}

/// An echo request that leaves.
pub fn is_probe(captured: &Captured) -> bool {
    let is_echo = captured
        .packet()
        .is_some_and(|packet| packet.echo().is_some());
    // Neither options nor extension headers: the kernel makes these headers.
    let kind = match captured.bytes.first().map(|first| first >> 4) {
        Some(4) => captured.bytes[20] == 8,
        _ => captured.bytes.get(40) == Some(&128),
    };
    captured.outgoing && is_echo && kind
}
