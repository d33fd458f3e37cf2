//! Firewalls that know connections, on both gateways.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::Result;
use steer_tests::lab::{Capture, Family, Firewall, Lab, Observer, Seen, Setup, Side, Steer};
use steer_tests::scenario::{self, Scene, Way};
use steer_tests::traffic::{End, LiveFlows, LiveSpec, Probe, Prober, burst, transfer};

use crate::life::{self, Life};

/// An open port that nobody listens to yet.
const PORT: u16 = 7_500;
/// Packets that a firewall is to stop.
const FORBIDDEN: u16 = 16;

pub(crate) fn nft(way: Way) -> Result<()> {
    connections_live(way, Firewall::Nft)
}

pub(crate) fn iptables(way: Way) -> Result<()> {
    connections_live(way, Firewall::Iptables)
}

/// Both gateways filter; the near one lets nobody open a connection from outside.
fn filter(lab: &Lab, firewall: Firewall) -> Result<()> {
    firewall.stateful(lab.gateway(Side::A), &["lan0"])?;
    firewall.stateful(lab.gateway(Side::B), &["lan0", "wg*"])
}

fn connections_live(way: Way, firewall: Firewall) -> Result<()> {
    let scene = Scene::up(way, 2, |lab| filter(lab, firewall))?;
    let lab = &scene.lab;
    for family in [Family::V4, Family::V6] {
        assert_eq!(trespassers(lab, family)?, (0, 0), "{family}");

        // Errors belong to their connection: path MTU discovery works.
        let from = End::any_port(lab.client(), Side::A.host(family));
        let to = End {
            host: lab.server(),
            at: (Side::B.host(family), PORT).into(),
        };
        let done = transfer(from, to, 200_000, Duration::from_secs(10))?;
        assert!(done.is_complete(), "{family}: {done:?}");

        let observer = Observer::start(lab)?;
        let live = LiveFlows::start(lab, LiveSpec::two_hundred(family))?;
        let flows = live.conversations();
        let life = Life {
            observer: &observer,
            flows: &flows,
            undo: &Seen::clone,
        };
        if let Some(steer) = scene.near() {
            let (own, _) = life.changes(steer)?;
            let moved = life.window(&flows)?;
            assert_eq!(moved.count_on(1), 0, "{family}: on the disabled tunnel");
            assert_eq!(moved.split(&flows, 1).0, [], "{family}: in part");
            assert_eq!(moved.split(&own, 0).0.len(), own.len(), "{family}");
            life::restore(steer)?;
        } else {
            life.window(&flows)?;
        }
        life::end(&scene, live, &[])?;
    }
    Ok(())
}

/// How many packets got through that a firewall on gateway A is to stop: to
/// a port that is not open, as seen on the tunnels; and from outside, as seen at the client.
fn trespassers(lab: &Lab, family: Family) -> Result<(usize, usize)> {
    let tunnels = Capture::tunnels(lab, Side::A)?;
    let client = Capture::start(lab.client(), &["lan0"])?;
    let prober = Prober::start(lab)?;
    let probes: Vec<_> = (0..FORBIDDEN).map(|_| Probe::new(lab, family, 9)).collect();
    for probe in &probes {
        prober.send(probe)?;
    }
    let to = SocketAddr::new(Side::A.host(family), PORT);
    lab.server().within(|| {
        for _ in 0..FORBIDDEN {
            UdpSocket::bind((Side::B.host(family), 0))?.send_to(b"let me in", to)?;
        }
        Ok(())
    })?;
    // What came before these on any tunnel has arrived with them.
    burst(lab, family, 64)?;
    let out: BTreeSet<_> = tunnels
        .take()?
        .iter()
        .filter_map(|captured| probes.iter().position(|probe| probe.is(captured)))
        .collect();
    let is_stranger = |captured: &&steer_tests::lab::Captured| {
        let flow = captured.packet().and_then(|packet| packet.flow());
        flow.is_some_and(|(_, _, dst)| dst == to)
    };
    Ok((out.len(), client.take()?.iter().filter(is_stranger).count()))
}

/// The lab itself: without firewalls, what they are to stop gets through.
#[test]
fn without_firewalls_everything_passes() -> Result<()> {
    scenario::run("without_firewalls_everything_passes", || {
        let scene = Scene::up(Way::Kernel, 1, |_| Ok(()))?;
        for family in [Family::V4, Family::V6] {
            let all = usize::from(FORBIDDEN);
            assert_eq!(trespassers(&scene.lab, family)?, (all, all), "{family}");
        }
        Ok(())
    })
}

/// Where the firewall would see half of every connection, or none, the operator has to say so.
fn needs_the_operators_word(firewall: Firewall) -> Result<()> {
    let lab = scenario::lab(2)?;
    filter(&lab, firewall)?;
    let ingress = Setup::new(&[1, 1]).args(&["--hook", "ingress"]);
    let refusal = Steer::refusal(&lab, Side::A, &ingress)?;
    assert!(refusal.contains("--bypass-netfilter"), "{refusal}");
    let near = Steer::start_as(&lab, Side::A, &ingress.args(&["--bypass-netfilter"]))?;
    drop(near);
    Ok(())
}

#[test]
fn ingress_past_nft_needs_the_operators_word() -> Result<()> {
    scenario::run("ingress_past_nft_needs_the_operators_word", || {
        needs_the_operators_word(Firewall::Nft)
    })
}

#[test]
fn ingress_past_iptables_needs_the_operators_word() -> Result<()> {
    scenario::run("ingress_past_iptables_needs_the_operators_word", || {
        needs_the_operators_word(Firewall::Iptables)
    })
}
