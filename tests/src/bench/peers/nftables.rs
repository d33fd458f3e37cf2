//! nftables: the connection's mark is chosen once and chooses the route.

use anyhow::Result;

use super::{Member, Remote, rules, slots, unused};
use crate::lab::Host;

/// Everything but the choice itself.
pub(super) fn set_up(host: &Host, remote: &Remote) -> Result<()> {
    let ip = family(remote);
    let kind = if remote.ipv6 {
        "ipv6_addr"
    } else {
        "ipv4_addr"
    };
    let prefixes = remote.prefixes.join(", ");
    let table = format!(
        "table {ip} balance {{
            set remote {{
                type {kind}; flags interval; elements = {{ {prefixes} }}
            }}
            chain choose {{ }}
            chain prerouting {{
                type filter hook prerouting priority mangle;
                iifname lan0 {ip} daddr @remote jump choose
            }}
        }}\n"
    );
    host.feed("nft", &["-f", "-"], &table)?;
    rules::for_marks(host, remote)
}

/// New connections get these tunnels by turns from now on.
pub(super) fn choose_by_turns(host: &Host, remote: &Remote, members: &[Member]) -> Result<()> {
    choose(host, remote, members, "numgen inc", "")
}

/// New connections get these tunnels by a hash from now on.
pub(super) fn choose_by_hash(host: &Host, remote: &Remote, members: &[Member]) -> Result<()> {
    let ip = family(remote);
    let hash = format!("jhash {ip} saddr . {ip} daddr . th sport . th dport");
    choose(
        host,
        remote,
        members,
        &hash,
        &format!("seed {}", remote.seed),
    )
}

fn family(remote: &Remote) -> &'static str {
    if remote.ipv6 { "ip6" } else { "ip" }
}

/// Writes the choice anew, in one transaction. A connection whose mark is of an unused tunnel gets its mark anew.
fn choose(
    host: &Host,
    remote: &Remote,
    members: &[Member],
    number: &str,
    seed: &str,
) -> Result<()> {
    let chain = format!("{} balance choose", family(remote));
    let slots = slots(members);
    let marks: Vec<_> = slots
        .iter()
        .enumerate()
        .map(|(turn, tunnel)| format!("{turn} : {}", rules::mark(*tunnel)))
        .collect();
    let unused = unused(remote, members).into_iter();
    let open: Vec<_> = [0]
        .into_iter()
        .chain(unused.map(rules::mark))
        .map(|mark| mark.to_string())
        .collect();
    let rules = format!(
        "flush chain {chain}
         add rule {chain} ct mark {{ {} }} ct mark set {number} mod {} {seed} map {{ {} }}
         add rule {chain} meta mark set ct mark\n",
        open.join(", "),
        slots.len(),
        marks.join(", ")
    );
    host.feed("nft", &["-f", "-"], &rules).map(drop)
}
