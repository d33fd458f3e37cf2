//! One configuration: a gateway in a namespace of its own, its source and its sinks.

use anyhow::{Context as _, Result, ensure};
use aya::Ebpf;
use steer_common::bench::programs;

use super::{
    Scenario, object,
    peers::{self, Peer, Remote},
    scenario::Traffic,
    sinks::Sinks,
    source::{Fate, Source},
};
use crate::{
    lab::Host,
    steerctl::{Gateway, Running},
};

/// What the gateway itself may send into a device meanwhile: multicast of IPv6 at its start.
const NOISE: u64 = 4;
/// A device may carry so many times its even share: 16 of 1,000 flows are 64 tunnels' share, and chance's.
const UNEVEN: u64 = 3;
/// Where what comes out of the tunnels ends: a LAN device that is a sink.
const LAN: &str = "lan1";
/// Where it ends to measure the source alone; the device behind the tunnels' in number.
const NOWHERE: &str = "none0";

/// A gateway on which one system forwards.
pub(super) struct Site {
    peer: Peer,
    scenario: Scenario,
    // Before the gateway: what they hold lives in the gateway's namespace.
    source: Source,
    sinks: Sinks,
    _steer: Option<Running>,
    _programs: Vec<Ebpf>,
    gateway: Gateway,
}

impl Site {
    /// Builds it. Other sites are not touched, and have other numbers.
    pub(super) fn build(number: usize, peer: Peer, scenario: &Scenario) -> Result<Self> {
        let gateway = Gateway::up(
            &format!("bench{number}"),
            usize::try_from(scenario.tunnels)?,
        )?;
        let host = gateway.host();
        let remote = scenario.remote();
        let learns = scenario.traffic == Traffic::Learned;
        gateway.ip(&["addr", "add", "fd00:1::1/64", "nodad", "dev", "lan0"])?;
        let mut devices = remote.tunnels.clone();
        if learns {
            add_lan(&gateway)?;
            devices.push(LAN.to_owned());
        }
        forwards(host, &devices)?;
        let sinks = Sinks::attach(host, &devices)?;
        let mut programs = Vec::new();
        if learns {
            programs.push(object::attach(host, programs::HOP, &["lan0"], "wg0", 1)?);
            programs.push(object::attach(
                host,
                programs::DROP,
                &[NOWHERE],
                NOWHERE,
                1,
            )?);
        }
        if learns && peer == Peer::Bare {
            let tunnels: Vec<_> = remote.tunnels.iter().map(String::as_str).collect();
            programs.push(peers::redirect(host, &tunnels, LAN)?);
        } else {
            programs.extend(peer.set_up(host, &remote, scenario.flow_table())?);
        }
        let lan = if learns { LAN } else { "lan0" };
        let steer = match peer.hook() {
            Some(hook) => Some(steer(&gateway, scenario, &remote, hook, lan)?),
            None => None,
        };
        let source = Source::attach(host, scenario)?;
        Ok(Self {
            peer,
            scenario: *scenario,
            source,
            sinks,
            _steer: steer,
            _programs: programs,
            gateway,
        })
    }

    /// The system that forwards.
    pub(super) fn peer(&self) -> Peer {
        self.peer
    }

    /// Sends so many packets, all of which must arrive; nanoseconds of CPU per packet, with the
    /// source's own.
    pub(super) fn forward(&self, packets: u32) -> Result<f64> {
        let before = self.sinks.taken()?;
        let took = self.source.send(packets, Fate::Forwarded)?;
        let after = self.sinks.taken()?;
        let taken: Vec<u64> = after.iter().zip(&before).map(|(a, b)| a - b).collect();
        let arrived: u64 = taken.iter().sum();
        let sent = u64::from(packets);
        let most = sent + NOISE * u64::from(self.scenario.tunnels);
        ensure!(
            (sent..=most).contains(&arrived),
            "{}: {arrived} of {sent} packets arrived; a system that loses packets is not measured",
            self.peer
        );
        let used = taken.iter().filter(|count| **count > NOISE).count();
        let expected = self.devices_used();
        let most = taken.iter().max().copied().unwrap_or(0);
        ensure!(
            u32::try_from(used)? == expected && most * u64::from(expected) <= sent * UNEVEN,
            "{}: {expected} devices should have carried the packets alike: {taken:?}",
            self.peer,
        );
        Ok(per_packet(took, packets))
    }

    /// How many sinks get packets.
    fn devices_used(&self) -> u32 {
        let Scenario { traffic, flows, .. } = self.scenario;
        if traffic == Traffic::Steered && self.peer.spreads() && flows >= 1_000 {
            self.scenario.tunnels
        } else {
            1
        }
    }

    /// Nanoseconds of CPU per packet that are not the gateway's: to make it, and to bring it to a tunnel from
    /// which it is to come. What a driver costs to bring it to a device remains the gateway's.
    pub(super) fn source_alone(&self, packets: u32) -> Result<f64> {
        let cost = |fate| Ok(per_packet(self.source.send(packets, fate)?, packets));
        let made: Result<f64> = cost(Fate::LostAtSource);
        if self.scenario.traffic != Traffic::Learned {
            return made;
        }
        let brought = cost(Fate::LostInTunnel)? - cost(Fate::LostOnLan)?;
        Ok(made? + brought.max(0.0))
    }

    /// Every flow has its packets behind it: entries exist, caches are warm. If it is steer that forwards, it
    /// must have seen them all, and known them for what they are.
    pub(super) fn warm_up(&self, packets: u32) -> Result<()> {
        self.forward(packets).context("the first packets")?;
        if self.peer.hook().is_none() {
            return Ok(());
        }
        let status = self.gateway.json(&["status"])?;
        let tunnels = status["groups"][0]["tunnels"].as_array();
        let sum = |counter: &str| -> u64 {
            let all = tunnels.into_iter().flatten();
            all.filter_map(|tunnel| tunnel[counter].as_u64()).sum()
        };
        let seen = match self.scenario.traffic {
            Traffic::Steered => sum("tx_packets"),
            Traffic::Learned => sum("rx_packets"),
            Traffic::Passed => status["passed"]["not_steered"].as_u64().unwrap_or(0),
        };
        ensure!(
            seen >= packets.into(),
            "{}: has seen {seen} of the first {packets} packets",
            self.peer
        );
        Ok(())
    }
}

fn per_packet(took: std::time::Duration, packets: u32) -> f64 {
    took.as_secs_f64() * 1e9 / f64::from(packets)
}

/// Makes the devices that packets out of the tunnels end at; their numbers follow the tunnels'.
fn add_lan(gateway: &Gateway) -> Result<()> {
    for name in [NOWHERE, LAN] {
        gateway.add_tunnel(name)?;
    }
    gateway.ip(&["addr", "add", "10.4.0.1/24", "dev", LAN])?;
    gateway.ip(&["addr", "add", "fd00:4::1/64", "nodad", "dev", LAN])
}

/// Lets the kernel forward, without looking at where packets come from.
fn forwards(host: &Host, devices: &[String]) -> Result<()> {
    host.sysctls(&[
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/lan0/rp_filter", "0"),
        ("ipv4/ip_forward", "1"),
        ("ipv6/conf/all/forwarding", "1"),
    ])?;
    devices
        .iter()
        .try_for_each(|name| host.sysctls(&[(&format!("ipv4/conf/{name}/rp_filter"), "0")]))
}

/// `steerctl run` over all tunnels.
fn steer(
    gateway: &Gateway,
    scenario: &Scenario,
    remote: &Remote,
    hook: &str,
    lan: &str,
) -> Result<Running> {
    let mut args = vec![
        format!("--iface={lan}"),
        format!("--hook={hook}"),
        format!("--max-flows={}", scenario.flow_table()),
        "--no-probe".to_owned(),
    ];
    args.extend(remote.tunnels.iter().map(|name| format!("--tunnel={name}")));
    let prefixes = remote.prefixes.iter();
    args.extend(prefixes.map(|prefix| format!("--prefix={prefix}")));
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    gateway.run(&args)
}
