//! Every kind of device as the LAN side of a gateway: the same connections
//! from the same client, under the kernel alone and under steer.

use std::time::Duration;

use anyhow::Result;
use steer_tests::lab::{Family, Lan, Observer, Paths, Side, firewall};
use steer_tests::scenario::{Scene, Way};
use steer_tests::traffic::{End, transfer};

/// Enough that two tunnels both get some.
const CONNECTIONS: usize = 8;
/// What each carries each way: full packets, and errors that say what is full.
const BYTES: usize = 50_000;
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
const LIMIT: Duration = Duration::from_secs(10);

mod kinds {
    use super::{Lan, Result, Way, connections};

    pub(crate) fn cable(way: Way) -> Result<()> {
        connections(way, None)
    }
    pub(crate) fn bridge(way: Way) -> Result<()> {
        connections(way, Some(Lan::Bridge))
    }
    pub(crate) fn macvlan(way: Way) -> Result<()> {
        connections(way, Some(Lan::Macvlan))
    }
    pub(crate) fn vlan(way: Way) -> Result<()> {
        connections(way, Some(Lan::Vlan))
    }
    pub(crate) fn trunk(way: Way) -> Result<()> {
        connections(way, Some(Lan::Trunk))
    }
    pub(crate) fn bond(way: Way) -> Result<()> {
        connections(way, Some(Lan::Bond))
    }
    pub(crate) fn tun(way: Way) -> Result<()> {
        connections(way, Some(Lan::Tun))
    }
    pub(crate) fn two(way: Way) -> Result<()> {
        connections(way, Some(Lan::Two))
    }
}

steer_tests::ways! {
    cable: crate::kinds::cable, kernel ingress egress mark;
    bridge: crate::kinds::bridge, kernel ingress mark;
    macvlan: crate::kinds::macvlan, kernel ingress mark;
    vlan: crate::kinds::vlan, kernel ingress mark;
    trunk: crate::kinds::trunk, kernel ingress mark;
    bond: crate::kinds::bond, kernel ingress mark;
    tun: crate::kinds::tun, kernel ingress mark;
    two_devices: crate::kinds::two, kernel ingress egress mark;
}

/// Connections from each of the client's addresses complete, each on one
/// tunnel; at ingress, the gateway's kernel forwards next to nothing of them.
fn connections(way: Way, lan: Option<Lan>) -> Result<()> {
    let mut scene = Scene::unsteered(2)?;
    let gateway = scene.lab.gateway(Side::A).clone();
    let changed = lan.map(|lan| scene.lab.change_lan(lan)).transpose()?;
    let (devices, clients) = match &changed {
        Some(changed) => (changed.devices.clone(), changed.clients.clone()),
        None => (vec!["lan0"], FAMILIES.map(|f| Side::A.host(f)).into()),
    };
    scene.steer(way, |side, setup| match side {
        Side::A => setup.lan(&devices),
        Side::B => setup,
    })?;
    firewall::count_forwarded(&gateway)?;

    let observer = Observer::start(&scene.lab)?;
    let mut used = Vec::new();
    let mut packets = 0;
    for address in clients {
        let family = FAMILIES[usize::from(address.is_ipv6())];
        for n in 0..CONNECTIONS {
            let from = End::any_port(scene.lab.client(), address);
            let to = End::any_port(scene.lab.server(), Side::B.host(family));
            let done = transfer(from, to, BYTES, LIMIT)?;
            assert!(done.is_complete(), "{address} {n}: {done:?}");
            let seen = observer.take()?;
            let paths = seen.paths(&done.conversation(Side::A)).cloned();
            let paths = paths.unwrap_or_default();
            assert!(paths.symmetric(), "{address} {n}: {paths:?}");
            used.extend(Paths::only_tunnel(&paths));
            packets += paths.forward.values().sum::<u64>();
            packets += paths.reverse.values().sum::<u64>();
        }
    }
    scene.assert_spread(used);

    let forwarded = firewall::forwarded(&gateway)?;
    println!("{way:?}: {packets} packets in the tunnels, {forwarded} forwarded by the kernel");
    if way == Way::Ingress {
        // The first ones, until addresses are resolved, and those that are too big.
        assert!(forwarded < packets / 10, "{forwarded} of {packets} packets");
    } else {
        // It counts merged packets.
        assert!(forwarded > packets / 4, "{forwarded} of {packets} packets");
    }
    Ok(())
}
