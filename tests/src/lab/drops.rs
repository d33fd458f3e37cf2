//! Where the lab itself lost packets: what to look at before blaming steer.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use super::Lab;
use super::host::output;

impl Lab {
    /// Every non-zero drop counter of the lab's devices, queues and UDP
    /// sockets, one per line; empty if the kernel dropped nothing.
    pub fn drops(&self) -> Result<String> {
        let mut text = String::new();
        for host in &self.hosts {
            let read = |file: &str| {
                host.within(|| {
                    std::fs::read_to_string(format!("/proc/thread-self/net/{file}"))
                        .context("/proc/net")
                })
            };
            for (device, rx, tx) in device_drops(&read("dev")?) {
                let _ = writeln!(text, "{} {device}: rx {rx}, tx {tx}", host.netns());
            }
            for (protocol, file) in [("Udp", "snmp"), ("Udp6", "snmp6")] {
                for (name, value) in udp_errors(&read(file)?) {
                    let _ = writeln!(text, "{} {protocol} {name}: {value}", host.netns());
                }
            }
            let mut tc = std::process::Command::new("tc");
            let queues = output(tc.args(["-n", host.netns(), "-s", "qdisc"]))?;
            for (queue, dropped) in queue_drops(&queues) {
                let _ = writeln!(text, "{} {queue}: dropped {dropped}", host.netns());
            }
        }
        Ok(text)
    }
}

/// Devices of `/proc/net/dev` that dropped: (name, received, sent).
fn device_drops(text: &str) -> Vec<(&str, u64, u64)> {
    text.lines()
        .filter_map(|line| {
            let (name, numbers) = line.split_once(':')?;
            let n: Vec<u64> = numbers
                .split_whitespace()
                .map_while(|n| n.parse().ok())
                .collect();
            Some((name.trim(), *n.get(3)?, *n.get(11)?))
        })
        .filter(|(_, rx, tx)| rx + tx > 0)
        .collect()
}

/// Buffer errors of UDP sockets in `/proc/net/snmp` (two lines, names then
/// values) or `/proc/net/snmp6` (a name and a value per line).
fn udp_errors(text: &str) -> Vec<(String, u64)> {
    let wanted = |name: &str| name.ends_with("RcvbufErrors") || name.ends_with("SndbufErrors");
    let udp: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("Udp:"))
        .collect();
    let pairs: Vec<(&str, &str)> = match udp[..] {
        [names, values] => names
            .split_whitespace()
            .zip(values.split_whitespace())
            .collect(),
        _ => text
            .lines()
            .filter(|line| line.starts_with("Udp6"))
            .filter_map(|line| line.split_once(char::is_whitespace))
            .collect(),
    };
    pairs
        .into_iter()
        .filter(|(name, _)| wanted(name))
        .filter_map(|(name, value)| Some((name.to_owned(), value.trim().parse().ok()?)))
        .filter(|(_, value)| *value > 0)
        .collect()
}

/// Queues of `tc -s qdisc` that dropped: (the queue's first line, packets).
fn queue_drops(text: &str) -> Vec<(&str, u64)> {
    let mut queue = "";
    let mut drops = Vec::new();
    for line in text.lines() {
        if line.starts_with("qdisc") {
            queue = line;
        }
        let dropped = line
            .split_once("(dropped ")
            .and_then(|(_, rest)| rest.split(',').next())
            .and_then(|number| number.parse().ok())
            .unwrap_or(0);
        if dropped > 0 {
            drops.push((queue, dropped));
        }
    }
    drops
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found() {
        let dev = "wg0: 1 2 0 7 0 0 0 0 30 40 0 9 0 0 0 0\nlo: 1 2 0 0 0 0 0 0 3 4 0 0 0 0 0 0\n";
        assert_eq!(device_drops(dev), [("wg0", 7, 9)]);
        let snmp = "Udp: InDatagrams RcvbufErrors SndbufErrors\nUdp: 5 3 0\n";
        assert_eq!(udp_errors(snmp), [("RcvbufErrors".into(), 3)]);
        let snmp6 = "Ip6InReceives 4\nUdp6RcvbufErrors                \t2\n";
        assert_eq!(udp_errors(snmp6), [("Udp6RcvbufErrors".into(), 2)]);
        let tc = "qdisc tbf 8001: dev ul0\n Sent 1 bytes 2 pkt (dropped 6, overlimits 0)\n";
        assert_eq!(queue_drops(tc), [("qdisc tbf 8001: dev ul0", 6)]);
    }
}
