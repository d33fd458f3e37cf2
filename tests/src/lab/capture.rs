//! Whole packets, as they were seen on devices of a host.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;

use super::icmp::IcmpError;
use super::listener::{Listener, Sighting};
use super::packet::{Conversation, Packet};
use super::paths::Paths;
use super::{Host, Lab, Side, tunnel_name, wait};

/// The longest packet, merged or not.
const SNAP_BYTES: usize = 65_536;

/// A packet that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// Number of the device: of the tunnel, with [`Capture::tunnels`].
    pub device: usize,
    /// Sent by the host, not received.
    pub outgoing: bool,
    /// The packet from its IP header on.
    pub bytes: Vec<u8>,
}

impl Captured {
    /// Its headers, if it is an IP packet.
    pub fn packet(&self) -> Option<Packet<'_>> {
        Packet::parse(&self.bytes)
    }

    /// The error that it is, if it is one.
    pub fn error(&self) -> Option<IcmpError> {
        IcmpError::of(&self.packet()?)
    }

    /// The MSS that it announces, if it is a SYN or SYN-ACK.
    pub fn mss(&self) -> Option<u16> {
        self.packet()?.mss()
    }
}

/// Packet sockets that keep every packet.
#[derive(Debug)]
pub struct Capture {
    listener: Listener<Vec<Captured>>,
}

impl Capture {
    /// Starts to capture on these devices of a host.
    pub fn start(host: &Host, devices: &[&str]) -> Result<Self> {
        let devices: Vec<_> = devices.iter().map(ToString::to_string).collect();
        let listener = Listener::start(host, &devices, SNAP_BYTES, note)?;
        Ok(Self { listener })
    }

    /// Starts to capture on all tunnels of a gateway.
    pub fn tunnels(lab: &Lab, side: Side) -> Result<Self> {
        let names: Vec<_> = (0..lab.options().tunnels).map(tunnel_name).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        Self::start(lab.gateway(side), &names)
    }

    /// All packets since the start or the last `take` that passed before this call.
    pub fn take(&self) -> Result<Vec<Captured>> {
        self.listener.take()
    }

    /// Waits until `enough` gives a value of all packets that were captured from now on.
    pub fn until<T>(
        &self,
        what: &str,
        limit: Duration,
        mut enough: impl FnMut(&[Captured]) -> Option<T>,
    ) -> Result<T> {
        let mut all = Vec::new();
        wait::until(what, limit, || {
            all.extend(self.take()?);
            Ok(enough(&all))
        })
    }
}

fn note(packets: &mut Vec<Captured>, sighting: Sighting<'_>) {
    packets.push(Captured {
        device: sighting.device,
        outgoing: sighting.outgoing,
        bytes: sighting.bytes.to_vec(),
    });
}

/// The tunnels of each flow, with every fragment counted for the flow that its
/// first fragment names. For what was captured on gateway A's tunnels.
///
/// A fragment whose first one was not captured is counted for no flow; their number is the second
/// value.
pub fn paths(packets: &[Captured]) -> (HashMap<Conversation, Paths>, usize) {
    type Whole = (IpAddr, IpAddr, u32);
    let whole = |packet: &Packet<'_>| -> Option<Whole> {
        Some((packet.src, packet.dst, packet.fragment?.id))
    };
    let mut firsts = HashMap::new();
    for captured in packets {
        if let Some(packet) = captured.packet()
            && let (Some(whole), Some(flow)) = (whole(&packet), packet.flow())
        {
            firsts.insert(whole, flow);
        }
    }
    let mut flows: HashMap<Conversation, Paths> = HashMap::new();
    let mut orphans = 0;
    for captured in packets {
        let Some(packet) = captured.packet() else {
            continue;
        };
        let whole = whole(&packet);
        let flow = packet.flow().or_else(|| firsts.get(&whole?).copied());
        if let Some((protocol, src, dst)) = flow {
            let conversation = Conversation::at_a(protocol, src, dst, captured.outgoing);
            let paths = flows.entry(conversation).or_default();
            paths.count(captured.device, captured.outgoing);
        } else if whole.is_some() {
            orphans += 1;
        }
    }
    (flows, orphans)
}
