//! A policy rule and a table for each tunnel, chosen by marks 1, 2, ….

use anyhow::Result;

use super::{Remote, ip_lines};
use crate::lab::Host;

/// Tables are numbered from here.
const TABLES: usize = 100;

/// The mark of a tunnel's packets.
pub(super) fn mark(tunnel: usize) -> usize {
    tunnel + 1
}

/// A rule that no packet meets.
pub(super) fn idle(host: &Host, remote: &Remote) -> Result<()> {
    ip_lines(host, remote, &["rule add fwmark 1 lookup main".to_owned()])
}

/// They stay when a tunnel is not in use: nothing is marked for it then.
pub(super) fn for_marks(host: &Host, remote: &Remote) -> Result<()> {
    let mut lines = Vec::new();
    for (tunnel, name) in remote.tunnels.iter().enumerate() {
        let table = TABLES + mark(tunnel);
        lines.push(format!("route add default dev {name} table {table}"));
        lines.push(format!("rule add fwmark {} lookup {table}", mark(tunnel)));
    }
    ip_lines(host, remote, &lines)
}
