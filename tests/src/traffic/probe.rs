//! Single packets of our making from the client, and the ICMP errors that come back.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result};
use etherparse::{IpFragOffset, IpHeaders, Ipv4Header, Ipv6Header, PacketBuilder, ip_number};

use crate::lab::{Capture, Captured, Family, Fault, IcmpError, Lab, Side};

use super::inject::Injector;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// First source port of probes: below the client's ephemeral ones.
const FIRST_PORT: u16 = 20_000;
/// A port that nobody listens to.
pub const CLOSED_PORT: u16 = 33_434;

/// A UDP packet, whole and right.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    /// Sender.
    pub src: SocketAddr,
    /// Destination.
    pub dst: SocketAddr,
    /// TTL or hop limit.
    pub hops: u8,
    /// Length with the IP header.
    pub length: u16,
    /// DF, for IPv4.
    pub dont_fragment: bool,
}

impl Probe {
    /// A short packet from the client to the server, of a flow that this lab did not have before.
    pub fn new(lab: &Lab, family: Family, port: u16) -> Self {
        let source = FIRST_PORT + u16::try_from(lab.next_number() % 10_000).expect("below 10,000");
        Self {
            src: (Side::A.host(family), source).into(),
            dst: (Side::B.host(family), port).into(),
            hops: 64,
            length: 100,
            dont_fragment: true,
        }
    }

    /// The other way.
    #[must_use]
    pub fn reversed(mut self) -> Self {
        std::mem::swap(&mut self.src, &mut self.dst);
        self
    }

    /// With another TTL or hop limit.
    #[must_use]
    pub fn hops(mut self, hops: u8) -> Self {
        self.hops = hops;
        self
    }

    /// With another length.
    #[must_use]
    pub fn length(mut self, length: u16) -> Self {
        self.length = length;
        self
    }

    /// The packet from its IP header on.
    pub fn bytes(&self) -> Vec<u8> {
        let ip = match (self.src.ip(), self.dst.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let mut header =
                    Ipv4Header::new(0, self.hops, ip_number::UDP, src.octets(), dst.octets())
                        .expect("an empty packet is not too long");
                header.dont_fragment = self.dont_fragment;
                header.identification = self.src.port();
                header.fragment_offset = IpFragOffset::ZERO;
                IpHeaders::Ipv4(header, etherparse::Ipv4Extensions::default())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let header = Ipv6Header {
                    hop_limit: self.hops,
                    source: source.octets(),
                    destination: destination.octets(),
                    next_header: ip_number::UDP,
                    ..Ipv6Header::default()
                };
                IpHeaders::Ipv6(header, etherparse::Ipv6Extensions::default())
            }
            _ => panic!("{self:?}: of two families"),
        };
        let headers = ip.header_len() + 8;
        let payload = vec![0x5a; usize::from(self.length) - headers];
        let mut bytes = Vec::with_capacity(self.length.into());
        PacketBuilder::ip(ip)
            .udp(self.src.port(), self.dst.port())
            .write(&mut bytes, &payload)
            .expect("a vector takes everything");
        bytes
    }

    /// Whether an error reports on this packet.
    pub fn is_subject_of(&self, error: &IcmpError) -> bool {
        (error.src, error.dst) == (self.src, self.dst)
    }

    /// Whether a captured packet is this one, wherever it was seen.
    pub fn is(&self, captured: &Captured) -> bool {
        let flow = captured.packet().and_then(|packet| packet.flow());
        flow.is_some_and(|(_, src, dst)| (src, dst) == (self.src, self.dst))
    }
}

/// Sends packets from the client to gateway A and hears what the client gets.
#[derive(Debug)]
pub struct Prober {
    injector: Injector,
    heard: Capture,
}

impl Prober {
    /// On the client's LAN device.
    pub fn start(lab: &Lab) -> Result<Self> {
        let gateway = lab.gateway(Side::A).mac("lan0")?;
        Ok(Self {
            injector: Injector::packets(lab.client(), "lan0", &gateway)?,
            heard: Capture::start(lab.client(), &["lan0"])?,
        })
    }

    /// Sends a probe.
    pub fn send(&self, probe: &Probe) -> Result<()> {
        self.injector.send(&probe.bytes())
    }

    /// Sends the probes; gives the first error about each, in the probes' order,
    /// when there is one for each.
    pub fn errors(&self, probes: &[Probe]) -> Result<Vec<IcmpError>> {
        self.heard.take()?;
        for probe in probes {
            self.send(probe)?;
        }
        let what = format!("{} ICMP errors", probes.len());
        self.heard.until(&what, PATIENCE, |packets| {
            let errors: Vec<_> = packets.iter().filter_map(Captured::error).collect();
            let about = |probe: &Probe| errors.iter().find(|error| probe.is_subject_of(error));
            probes.iter().map(|probe| about(probe).copied()).collect()
        })
    }

    /// Who answers on the way to the server's closed port, hop by hop; the last
    /// one is the server.
    pub fn route(&self, lab: &Lab, family: Family) -> Result<Vec<(IpAddr, Fault)>> {
        let first = Probe::new(lab, family, CLOSED_PORT);
        let mut route = Vec::new();
        for hops in 1..8 {
            let [error] = self
                .errors(&[first.hops(hops)])
                .with_context(|| format!("hop {hops}"))?[..]
            else {
                unreachable!("one probe, one error");
            };
            route.push((error.from, error.fault));
            if error.fault == Fault::PortUnreachable {
                break;
            }
        }
        Ok(route)
    }

    /// ICMP errors that the client got since the last look.
    pub fn heard(&self) -> Result<BTreeSet<IcmpError>> {
        let packets = self.heard.take()?;
        Ok(packets.iter().filter_map(Captured::error).collect())
    }
}
