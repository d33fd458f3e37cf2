//! What the kernel's routes can do.

use anyhow::Result;

use super::{Member, Remote, ip_lines};
use crate::lab::Host;

/// Source and destination address, protocol, and both ports (`FIB_MULTIPATH_HASH_FIELD_*` of
/// `net/ip_fib.h`).
const FIELDS: &str = "0x37";
/// Buckets of a resilient group: enough for 64 tunnels.
const BUCKETS: &str = "1024";
/// The kernel's own: a bucket moves only when it was idle for 120 s, however uneven the group is.
const TIMERS: &str = "idle_timer 120 unbalanced_timer 0";

pub(super) fn one_route(host: &Host, remote: &Remote) -> Result<()> {
    routes(host, remote, &remote.prefixes, "dev wg0")
}

/// Routes to what is no remote prefix, through the first tunnel.
pub(super) fn others(host: &Host, remote: &Remote) -> Result<()> {
    routes(host, remote, &remote.others, "dev wg0")
}

pub(super) fn multipath(host: &Host, remote: &Remote, policy: &str) -> Result<()> {
    hash_by(host, policy)?;
    if remote.ipv6 {
        next_hops(host, remote)?;
    }
    let all = Member::all(remote.tunnels.len());
    use_multipath(host, remote, &all)?;
    if remote.ipv6 {
        // `ip -6 route add … nexthop dev` is refused.
        routes(
            host,
            remote,
            &remote.prefixes,
            &format!("nhid {}", group(remote)),
        )?;
    }
    Ok(())
}

/// The tunnels in use from now on.
pub(super) fn use_multipath(host: &Host, remote: &Remote, members: &[Member]) -> Result<()> {
    if remote.ipv6 {
        return replace_group(host, remote, members, "");
    }
    let hop = |member: &Member| {
        let name = &remote.tunnels[member.tunnel];
        format!("nexthop dev {name} weight {}", member.weight)
    };
    let hops: Vec<_> = members.iter().map(hop).collect();
    routes(host, remote, &remote.prefixes, &hops.join(" "))
}

pub(super) fn resilient(host: &Host, remote: &Remote) -> Result<()> {
    hash_by(host, "3")?;
    next_hops(host, remote)?;
    use_resilient(host, remote, &Member::all(remote.tunnels.len()))?;
    routes(
        host,
        remote,
        &remote.prefixes,
        &format!("nhid {}", group(remote)),
    )
}

/// The tunnels in use from now on.
pub(super) fn use_resilient(host: &Host, remote: &Remote, members: &[Member]) -> Result<()> {
    let kind = format!("type resilient buckets {BUCKETS} {TIMERS}");
    replace_group(host, remote, members, &kind)
}

fn hash_by(host: &Host, policy: &str) -> Result<()> {
    host.sysctls(&[
        ("ipv4/fib_multipath_hash_policy", policy),
        ("ipv4/fib_multipath_hash_fields", FIELDS),
        ("ipv6/fib_multipath_hash_policy", policy),
        ("ipv6/fib_multipath_hash_fields", FIELDS),
    ])
}

/// Number of the next-hop group; the tunnels' own numbers follow.
fn group(remote: &Remote) -> usize {
    if remote.ipv6 { 2_000 } else { 1_000 }
}

/// Makes a next hop for each tunnel.
fn next_hops(host: &Host, remote: &Remote) -> Result<()> {
    let hops = (group(remote) + 1..).zip(&remote.tunnels);
    let lines: Vec<_> = hops
        .map(|(id, name)| format!("nexthop add id {id} dev {name}"))
        .collect();
    ip_lines(host, remote, &lines)
}

fn replace_group(host: &Host, remote: &Remote, members: &[Member], kind: &str) -> Result<()> {
    let hop = |member: &Member| {
        let id = group(remote) + 1 + member.tunnel;
        format!("{id},{}", member.weight)
    };
    let hops: Vec<_> = members.iter().map(hop).collect();
    let line = format!(
        "nexthop replace id {} group {} {kind}",
        group(remote),
        hops.join("/")
    );
    // Not by `ip_lines`: a group is of no family.
    let words: Vec<_> = line.split_whitespace().collect();
    host.ip(&words)
}

fn routes(host: &Host, remote: &Remote, prefixes: &[String], way: &str) -> Result<()> {
    let lines: Vec<_> = prefixes
        .iter()
        .map(|prefix| format!("route replace {prefix} {way}"))
        .collect();
    ip_lines(host, remote, &lines)
}
