//! The recipe of many a how-to: new connections are marked by turns, CONNMARK keeps the mark,
//! a policy rule for each mark chooses the tunnel, and an ipset says which destinations it is for.

use std::fmt::Write as _;

use anyhow::Result;

use super::{Member, Remote, rules, slots, unused};
use crate::lab::Host;

pub(super) fn set_up(host: &Host, remote: &Remote) -> Result<()> {
    let family = if remote.ipv6 { "inet6" } else { "inet" };
    let (_, name) = names(remote);
    let prefixes = &remote.prefixes;
    let most = prefixes.len().max(65_536);
    let mut set = format!("create {name} hash:net family {family} maxelem {most}\n");
    for prefix in prefixes {
        writeln!(set, "add {name} {prefix}")?;
    }
    host.feed("ipset", &["restore"], &set)?;
    rules::for_marks(host, remote)?;
    choose_from(host, remote, &Member::all(remote.tunnels.len()))
}

/// The tunnels that new connections get by turns from now on: the whole table anew, as a script would.
pub(super) fn choose_from(host: &Host, remote: &Remote, members: &[Member]) -> Result<()> {
    let (iptables, name) = names(remote);
    let table = table(name, members, &unused(remote, members))?;
    host.feed(&format!("{iptables}-restore"), &[], &table)
        .map(drop)
}

/// Of the program and of the set.
fn names(remote: &Remote) -> (&'static str, &'static str) {
    if remote.ipv6 {
        ("ip6tables", "remote6")
    } else {
        ("iptables", "remote4")
    }
}

/// The table `mangle`. A connection whose mark is of an unused tunnel gets its mark anew.
fn table(name: &str, members: &[Member], unused: &[usize]) -> Result<String> {
    let mut text = format!(
        "*mangle\n:BALANCE - [0:0]\n\
         -A PREROUTING -i lan0 -m set --match-set {name} dst -j BALANCE\n\
         -A BALANCE -j CONNMARK --restore-mark\n"
    );
    for tunnel in unused {
        let mark = rules::mark(*tunnel);
        writeln!(
            text,
            "-A BALANCE -m mark --mark {mark} -j MARK --set-mark 0"
        )?;
    }
    text.push_str("-A BALANCE -m mark ! --mark 0 -j RETURN\n");
    let slots = slots(members);
    for (turn, tunnel) in slots.iter().enumerate() {
        // Of what the rules before have left: every k-th.
        let every = slots.len() - turn;
        writeln!(
            text,
            "-A BALANCE -m mark --mark 0 -m statistic --mode nth --every {every} --packet 0 \
             -j MARK --set-mark {}",
            rules::mark(*tunnel)
        )?;
    }
    text.push_str("-A BALANCE -j CONNMARK --save-mark\nCOMMIT\n");
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_turn_takes_all_that_is_left() -> Result<()> {
        let member = |tunnel, weight| Member { tunnel, weight };
        let table = table("remote4", &[member(0, 2), member(2, 1)], &[1])?;
        let turns: Vec<_> = table
            .lines()
            .filter_map(|line| line.split_once("--mode nth ")?.1.split_once(" -j "))
            .collect();
        let expected = [
            ("--every 3 --packet 0", "MARK --set-mark 1"),
            ("--every 2 --packet 0", "MARK --set-mark 1"),
            ("--every 1 --packet 0", "MARK --set-mark 3"),
        ];
        assert_eq!(turns, expected);
        let forgotten = "--mark 2 -j MARK --set-mark 0\n-A BALANCE -m mark ! --mark 0 -j RETURN\n";
        assert!(table.contains(forgotten), "{table}");
        Ok(())
    }
}
