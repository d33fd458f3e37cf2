//! Gateways that change addresses.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use steer_tests::lab::{
    Conversation, Family, Observer, Protocol, Seen, Side, firewall, tunnel_address,
};
use steer_tests::scenario::{Scene, Way};
use steer_tests::traffic::{ECHO_PORT, End, LiveFlows, LiveSpec, Server, burst, transfer};

use crate::life::{self, Life};

/// The gateway's port that leads to the echo behind it.
const FORWARDED: u16 = 8_080;

/// Each tunnel's connections have the tunnel's address. One that loses its
/// tunnel loses its address and with it its life; no other does.
pub(crate) fn masquerade(way: Way) -> Result<()> {
    let scene = Scene::up(way, 2, |lab| {
        firewall::masquerade(lab.gateway(Side::A), lab.options().tunnels)
    })?;
    let lab = &scene.lab;
    for family in [Family::V4, Family::V6] {
        let from = End::any_port(lab.client(), Side::A.host(family));
        let to = End::any_port(lab.server(), Side::B.host(family));
        let done = transfer(from, to, 200_000, Duration::from_secs(10))?;
        assert!(done.is_complete(), "{family}: {done:?}");

        let observer = Observer::start(lab)?;
        let live = LiveFlows::start(lab, LiveSpec::two_hundred(family))?;
        let flows = live.conversations();
        // Ports are kept: the client's own are unique.
        let life = Life {
            observer: &observer,
            flows: &flows,
            undo: &|seen| seen.as_from(Side::A.host(family)),
        };
        let seen = observer.window(&[], Duration::from_millis(500))?;
        // What is dead of the other family may still send.
        let of_family = |flow: &Conversation| flow.client.is_ipv4() == (family == Family::V4);
        for (flow, paths) in seen.flows().filter(|(flow, _)| of_family(flow)) {
            let tunnel = paths.only_tunnel();
            let address = tunnel.map(|k| tunnel_address(Side::A, k, family));
            assert_eq!(address, Some(flow.client.ip()), "{flow:?}: {paths:?}");
        }
        let mut affected = Vec::new();
        if let Some(steer) = scene.near() {
            affected = life.changes(steer)?.0;
            // New ones have the other tunnel's address, and work.
            observer.take()?;
            let new = burst(lab, family, 100)?;
            let shares = new.shares(&(life.undo)(&observer.take()?))?;
            assert_eq!(shares.into_iter().collect::<Vec<_>>(), [(0, 1.0)]);
        }
        life::end(&scene, live, &affected)?;
        if let Some(steer) = scene.near() {
            life::restore(steer)?;
        }
    }
    Ok(())
}

/// Connections from the far side to a port of the gateway arrive behind it,
/// and their answers go back on the tunnel by which they came.
pub(crate) fn port_forward(way: Way) -> Result<()> {
    let scene = Scene::up(way, 2, |lab| {
        let gateway = lab.gateway(Side::A);
        firewall::port_forward(gateway, FORWARDED, Side::A, ECHO_PORT)
    })?;
    let lab = &scene.lab;
    let _echo = Server::behind(lab, Side::A)?;
    for family in [Family::V4, Family::V6] {
        let observer = Observer::start(lab)?;
        let to = SocketAddr::new(Side::A.gateway(family), FORWARDED);
        let live = LiveFlows::between(lab, Side::B, to, LiveSpec::two_hundred(family))?;
        let flows = live.conversations();
        let life = Life {
            observer: &observer,
            flows: &flows,
            undo: &Seen::clone,
        };
        // The far gateway chooses the tunnel: what changes, changes there.
        if let Some(steer) = scene.far() {
            let (own, _) = life.changes(steer)?;
            let moved = life.window(&flows)?;
            assert_eq!(moved.split(&own, 0).0.len(), own.len(), "{family}");
            assert_eq!(moved.asymmetric(&flows), [], "{family}");
            life::restore(steer)?;
        }
        life::end(&scene, live, &[])?;

        to_own_addresses(&scene, &observer, family)?;
    }
    Ok(())
}

/// Both at once: connections that come in work, whatever else the tunnels' addresses are used for.
pub(crate) fn both(way: Way) -> Result<()> {
    let scene = Scene::up(way, 2, |lab| {
        let gateway = lab.gateway(Side::A);
        firewall::masquerade(gateway, lab.options().tunnels)?;
        firewall::port_forward(gateway, FORWARDED, Side::A, ECHO_PORT)
    })?;
    let lab = &scene.lab;
    let _echo = Server::behind(lab, Side::A)?;
    for family in [Family::V4, Family::V6] {
        let observer = Observer::start(lab)?;
        let to = SocketAddr::new(Side::A.gateway(family), FORWARDED);
        let live = LiveFlows::between(lab, Side::B, to, LiveSpec::two_hundred(family))?;
        let flows = live.conversations();
        let seen = observer.window(&flows, Duration::from_millis(500))?;
        life::end(&scene, live, &[])?;
        // The mark is of the connection as the LAN knows it: its answers may take another tunnel.
        assert!(seen.shows(&flows), "{family}");
        to_own_addresses(&scene, &observer, family)?;

        let new = burst(lab, family, 100)?;
        assert_eq!(new.resent, 0, "{family}: outwards");
    }
    Ok(())
}

/// To a tunnel's own address: by that tunnel, there and back. The kernel alone answers by `wg0` in
/// any case, and the far end then takes no answer from another tunnel's address.
fn to_own_addresses(scene: &Scene, observer: &Observer, family: Family) -> Result<()> {
    let lab = &scene.lab;
    for k in 0..scene.way.used(2) {
        let to = SocketAddr::new(tunnel_address(Side::A, k, family), FORWARDED);
        let spec = LiveSpec {
            tcp: 8,
            udp: 8,
            ..LiveSpec::two_hundred(family)
        };
        observer.take()?;
        let live = LiveFlows::between(lab, Side::B, to, spec)?;
        let flows = live.conversations();
        life::end(scene, live, &[])?;
        let seen = observer.take()?;
        assert_eq!(seen.asymmetric(&flows), [], "{family}: wg{k}");
        assert_eq!(
            seen.split(&flows, k).0.len(),
            flows.len(),
            "{family}: wg{k}"
        );
        assert!(flows.iter().any(|flow| flow.protocol == Protocol::Udp));
    }
    Ok(())
}
