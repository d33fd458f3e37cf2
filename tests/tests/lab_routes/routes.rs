//! Setting routes on gateway A, and what steer says of them.

use std::io::Write as _;
use std::process::{Child, ChildStdin, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use steer_tests::lab::{
    Conversation, Family, Lab, RoutesStatus, Seen, Setup, Side, Steer, tunnel_address, tunnel_name,
    wait,
};
use steer_tests::scenario::Fixture;
use steer_tests::traffic::LiveSpec;

/// How long anything may take that is not being measured.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// How long to look where flows are.
pub(crate) const WINDOW: Duration = Duration::from_millis(500);

/// Gateway A follows routes; gateway B is told the prefixes, and answers by the tunnel that a flow came by.
pub(crate) fn following(tunnels: usize, args: &[&str]) -> Result<Fixture> {
    let f = Fixture::adapted(&vec![1; tunnels], |side, setup| match side {
        Side::A => setup.follow_routes().args(args),
        Side::B => setup,
    })?;
    // IPv6 replaces routes by gateways only by such ones.
    let [_, v6] = Side::B.prefixes();
    let by_gateway = by_gateway(Family::V6, &[(0, 1)]);
    ip(&f.lab, &format!("route del {v6} dev wg0"))?;
    ip(&f.lab, &format!("route add {v6} {by_gateway}"))?;
    Ok(f)
}

/// The same by a configuration file of gateway A.
pub(crate) fn configured(tunnels: usize, text: &str) -> Result<(Fixture, tempfile::NamedTempFile)> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), text)?;
    let f = Fixture::adapted(&vec![1; tunnels], |side, setup| match side {
        Side::A => Setup::config(setup, file.path()),
        Side::B => setup,
    })?;
    Ok((f, file))
}

/// Live flows that notice a gap soon.
pub(crate) fn busy(family: Family) -> LiveSpec {
    LiveSpec {
        family,
        tcp: 30,
        udp: 30,
        interval: Duration::from_millis(40),
    }
}

/// The network behind gateway B.
pub(crate) fn network(family: Family) -> String {
    let [v4, v6] = Side::B.prefixes();
    match family {
        Family::V4 => v4,
        Family::V6 => v6,
    }
}

/// Next hops by device alone, which IPv6 takes only one of.
pub(crate) fn by_device(hops: &[(usize, u32)]) -> String {
    let hop =
        |(k, weight): &(usize, u32)| format!("nexthop dev {} weight {weight}", tunnel_name(*k));
    hops.iter().map(hop).collect::<Vec<_>>().join(" ")
}

/// Next hops by the far ends' addresses.
pub(crate) fn by_gateway(family: Family, hops: &[(usize, u32)]) -> String {
    let hop = |(k, weight): &(usize, u32)| {
        let far = tunnel_address(Side::B, *k, family);
        format!("nexthop via {far} dev {} weight {weight}", tunnel_name(*k))
    };
    hops.iter().map(hop).collect::<Vec<_>>().join(" ")
}

/// Runs `ip …` on gateway A.
pub(crate) fn ip(lab: &Lab, line: &str) -> Result<()> {
    let args: Vec<_> = line.split_whitespace().collect();
    lab.gateway(Side::A).ip(&args)
}

/// `ip` on gateway A that waits for lines: none costs a new process.
pub(crate) struct Ip {
    child: Child,
    lines: Option<ChildStdin>,
}

impl Ip {
    pub(crate) fn start(lab: &Lab) -> Result<Self> {
        let mut command = lab.gateway(Side::A).command("ip");
        let mut child = command
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .context("ip -batch")?;
        let lines = child.stdin.take();
        Ok(Self { child, lines })
    }

    /// Gives it lines, and does not wait until they are done.
    pub(crate) fn say(&mut self, lines: &str) -> Result<()> {
        let stdin = self.lines.as_mut().context("ip -batch: ended")?;
        writeln!(stdin, "{lines}").context("ip -batch")
    }

    /// Waits until all is done.
    pub(crate) fn end(mut self) -> Result<()> {
        drop(self.lines.take());
        let status = self.child.wait()?;
        if !status.success() {
            bail!("ip -batch: {status}");
        }
        Ok(())
    }
}

impl Drop for Ip {
    fn drop(&mut self) {
        drop(self.lines.take());
        let _ = self.child.wait();
    }
}

/// What steer says that it follows.
pub(crate) fn followed(steer: &Steer) -> Result<RoutesStatus> {
    let status = steer.status()?;
    let group = status.groups.into_iter().next().context("no group")?;
    group.routes.context("no routes are followed")
}

/// Waits until routes make just these choices of tunnels (`2: wg0=1 wg1=1`); gives how long that took.
pub(crate) fn until_sets(steer: &Steer, wanted: &[&str]) -> Result<Duration> {
    let start = Instant::now();
    let mut wanted: Vec<_> = wanted.iter().map(ToString::to_string).collect();
    wanted.sort();
    let mut last = Vec::new();
    wait::until(&format!("routes {wanted:?}"), PATIENCE, || {
        last = followed(steer)?.sets();
        last.sort();
        Ok((last == wanted).then_some(()))
    })
    .with_context(|| format!("there are {last:?}; steer says:\n{}", steer.log()))?;
    Ok(start.elapsed())
}

/// Waits until none of `flows` uses `tunnel`; gives what was seen then.
pub(crate) fn until_none_on(f: &Fixture, tunnel: usize, flows: &[Conversation]) -> Result<Seen> {
    let mut left = Vec::new();
    wait::until(&format!("no flow on wg{tunnel}"), PATIENCE, || {
        let seen = f.observer.window(&[], WINDOW)?;
        let is_off = |flow: &&Conversation| {
            let paths = seen.paths(flow);
            paths.is_some_and(|paths| !paths.forward.contains_key(&tunnel))
        };
        left = flows.iter().filter(|flow| !is_off(flow)).copied().collect();
        Ok(left.is_empty().then_some(seen))
    })
    .with_context(|| {
        format!(
            "still there, or silent: {left:?}; steer says:\n{}\n{}",
            f.near.log(),
            f.near.steerctl(&["status"]).unwrap_or_default()
        )
    })
}
