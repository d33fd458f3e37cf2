//! `steerctl flows` and `steerctl explain`.

use std::fmt::Write;
use std::net::IpAddr;

use serde::Serialize;

use super::Colour;
use super::table::{self, Cell, bytes, number, seconds, text};

/// A live flow; `src` is the side behind this gateway, `tx` is towards the tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FlowReport {
    /// Name or number of the IP protocol.
    pub protocol: String,
    /// Address behind this gateway.
    pub src_addr: IpAddr,
    /// Port or echo identifier; `null` where the protocol has none.
    pub src_port: Option<u16>,
    /// Address behind the tunnels.
    pub dst_addr: IpAddr,
    /// Port or echo identifier; `null` where the protocol has none.
    pub dst_port: Option<u16>,
    /// Its group; `null` when that is gone.
    pub group: Option<String>,
    /// Its tunnel; `null` when that is gone.
    pub tunnel: Option<String>,
    /// Why it is there: `hashed`, `learned`, `moved`, …
    pub origin: String,
    /// Time since its first packet.
    pub age_secs: u64,
    /// Time since its latest packet.
    pub idle_secs: u64,
    /// Packets towards the tunnel.
    pub tx_packets: u64,
    /// Bytes of them.
    pub tx_bytes: u64,
    /// Packets from the tunnel.
    pub rx_packets: u64,
    /// Bytes of them.
    pub rx_bytes: u64,
    /// SPI of ESP and AH, key of GRE, session of `L2TPv3`; `null` where there is none.
    pub identifier: Option<u32>,
}

impl FlowReport {
    const HEADER: [&str; 9] = [
        "PROTO",
        "SOURCE",
        "DESTINATION",
        "TUNNEL",
        "ORIGIN",
        "AGE",
        "IDLE",
        "TX",
        "RX",
    ];

    fn row(&self) -> Vec<Cell> {
        vec![
            text(self.identifier.map_or_else(
                || self.protocol.clone(),
                |identifier| format!("{} {identifier:#x}", self.protocol),
            )),
            text(endpoint(self.src_addr, self.src_port)),
            text(endpoint(self.dst_addr, self.dst_port)),
            text(self.tunnel.as_deref().unwrap_or("-")),
            text(&self.origin),
            number(&seconds(self.age_secs)),
            number(&seconds(self.idle_secs)),
            number(&bytes(self.tx_bytes)),
            number(&bytes(self.rx_bytes)),
        ]
    }
}

/// `10.1.0.2:80`, `[fd00::1]:80`, or the bare address.
pub(super) fn endpoint(addr: IpAddr, port: Option<u16>) -> String {
    match port {
        Some(port) => std::net::SocketAddr::new(addr, port).to_string(),
        None => addr.to_string(),
    }
}

/// Flows as a table; `total` is how many there are when not all are shown.
pub fn render_flows(flows: &[FlowReport], total: usize, colour: Colour) -> String {
    if flows.is_empty() {
        return "no flows\n".into();
    }
    let rows: Vec<Vec<Cell>> = flows.iter().map(FlowReport::row).collect();
    let mut out = table::render(&FlowReport::HEADER, &rows, "", colour);
    if total > flows.len() {
        let _ = writeln!(out, "{} of {total} flows", flows.len());
    }
    out
}

/// Which tunnel a flow uses or would use, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExplainReport {
    /// Its group; `null` when it is not steered.
    pub group: Option<String>,
    /// Its tunnel; `null` when there is none.
    pub tunnel: Option<String>,
    /// `flow_table`, `hash`, `not_steered`, `no_tunnel`, …
    pub reason: String,
    /// Whether there is an entry for it.
    pub existing: bool,
    /// The entry.
    pub entry: Option<FlowReport>,
}

impl ExplainReport {
    /// In sentences.
    pub fn render(&self) -> String {
        let mut out = match (&self.tunnel, &self.group, self.existing) {
            (Some(tunnel), _, true) => format!("uses {tunnel}"),
            (Some(tunnel), _, false) => format!("would use {tunnel}"),
            (None, _, _) => "is left to the kernel".to_owned(),
        };
        if let Some(group) = &self.group {
            let _ = write!(out, " of group {group}");
        }
        let why = match self.reason.as_str() {
            "flow_table" => "it is in the flow table",
            "hash" => "the hash places it there",
            "pinned" => "its source is that tunnel's own address",
            "own_address" => "an address is this gateway's own",
            "tunnel_endpoint" => "its destination is a tunnel's endpoint",
            "not_steered" => "its destination is in no group's prefixes",
            "no_tunnel" => "the group has no usable tunnel",
            "local_scope" => "an address is multicast, broadcast, link-local or loopback",
            other => other,
        };
        let _ = writeln!(out, ": {why}");
        if let Some(entry) = &self.entry {
            let _ = writeln!(
                out,
                "  origin {}, age {}, idle {}, sent {} packets ({}), received {} packets ({})",
                entry.origin,
                seconds(entry.age_secs),
                seconds(entry.idle_secs),
                entry.tx_packets,
                bytes(entry.tx_bytes),
                entry.rx_packets,
                bytes(entry.rx_bytes),
            );
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::json;
    use super::*;

    fn sample() -> Vec<FlowReport> {
        let tcp = FlowReport {
            protocol: "tcp".into(),
            src_addr: "10.1.0.2".parse().expect("address"),
            src_port: Some(40_000),
            dst_addr: "10.2.0.2".parse().expect("address"),
            dst_port: Some(5_201),
            group: Some("default".into()),
            tunnel: Some("wg0".into()),
            origin: "hashed".into(),
            age_secs: 7_500,
            idle_secs: 2,
            tx_packets: 10,
            tx_bytes: 15_000,
            rx_packets: 8,
            rx_bytes: 400,
            identifier: None,
        };
        let esp = FlowReport {
            protocol: "esp".into(),
            src_addr: "fd00:1::2".parse().expect("address"),
            src_port: None,
            dst_addr: "fd00:2::2".parse().expect("address"),
            dst_port: None,
            tunnel: None,
            origin: "learned".into(),
            identifier: Some(0x1001),
            ..tcp.clone()
        };
        let udp = FlowReport {
            protocol: "udp".into(),
            src_port: Some(53),
            dst_port: Some(54),
            identifier: None,
            ..esp.clone()
        };
        vec![tcp, esp, udp]
    }

    #[test]
    fn flows_for_people() {
        insta::assert_snapshot!(render_flows(&sample(), 9, Colour::Off), @r"
        PROTO       SOURCE          DESTINATION     TUNNEL  ORIGIN    AGE  IDLE       TX     RX
        tcp         10.1.0.2:40000  10.2.0.2:5201   wg0     hashed   2h5m    2s  15.0 kB  400 B
        esp 0x1001  fd00:1::2       fd00:2::2       -       learned  2h5m    2s  15.0 kB  400 B
        udp         [fd00:1::2]:53  [fd00:2::2]:54  -       learned  2h5m    2s  15.0 kB  400 B
        3 of 9 flows
        ");
        assert_eq!(render_flows(&[], 0, Colour::Off), "no flows\n");
    }

    #[test]
    fn flows_for_scripts() {
        insta::assert_snapshot!(json(&&sample()[..2]).expect("JSON"));
    }

    #[test]
    fn explanations() {
        let known = ExplainReport {
            group: Some("default".into()),
            tunnel: Some("wg0".into()),
            reason: "flow_table".into(),
            existing: true,
            entry: sample().into_iter().next(),
        };
        insta::assert_snapshot!(known.render(), @r"
        uses wg0 of group default: it is in the flow table
          origin hashed, age 2h5m, idle 2s, sent 10 packets (15.0 kB), received 8 packets (400 B)
        ");
        let new = ExplainReport {
            reason: "hash".into(),
            existing: false,
            entry: None,
            ..known.clone()
        };
        assert_eq!(
            new.render(),
            "would use wg0 of group default: the hash places it there\n"
        );
        let passed = ExplainReport {
            group: None,
            tunnel: None,
            reason: "not_steered".into(),
            ..new
        };
        assert_eq!(
            passed.render(),
            "is left to the kernel: its destination is in no group's prefixes\n"
        );
        insta::assert_snapshot!(json(&passed).expect("JSON"), @r#"
        {
          "group": null,
          "tunnel": null,
          "reason": "not_steered",
          "existing": false,
          "entry": null
        }
        "#);
    }
}
