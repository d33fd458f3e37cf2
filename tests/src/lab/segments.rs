//! TCP segments that a host sent, and sent again.

use anyhow::{Context as _, Result};

use super::Host;

/// What the kernel counted of a host's TCP (`/proc/net/snmp`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Segments {
    /// Sent, without those that were sent again (RFC 4022, `tcpOutSegs`).
    pub sent: u64,
    /// Sent again.
    pub resent: u64,
}

impl Host {
    /// Segments of all its connections so far.
    pub fn segments(&self) -> Result<Segments> {
        let path = "/proc/thread-self/net/snmp";
        let text = self.within(|| std::fs::read_to_string(path).context(path))?;
        parse(&text).with_context(|| format!("{path}: no segments in {text}"))
    }
}

/// Two lines that begin with `Tcp:`, names and then values.
fn parse(text: &str) -> Option<Segments> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp:"));
    let names = lines.next()?.split_whitespace();
    let values: Vec<_> = names.zip(lines.next()?.split_whitespace()).collect();
    let value = |wanted: &str| {
        let (_, value) = values.iter().find(|(name, _)| *name == wanted)?;
        value.parse().ok()
    };
    Some(Segments {
        sent: value("OutSegs")?,
        resent: value("RetransSegs")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snmp_lines() {
        let text = "Ip: Forwarding\nIp: 1\n\
                    Tcp: InSegs OutSegs RetransSegs\nTcp: 9 1000 12\n";
        let expected = Segments {
            sent: 1_000,
            resent: 12,
        };
        assert_eq!(parse(text), Some(expected));
        assert_eq!(parse("Udp: InDatagrams\nUdp: 1\n"), None);
    }
}
