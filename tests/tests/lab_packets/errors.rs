//! ICMP errors: who sends them, and which way they take.

use std::net::IpAddr;

use anyhow::Result;
use steer_tests::lab::{Capture, Family, Fault, IcmpError, Side, tunnel_address};
use steer_tests::scenario::{Scene, Way};
use steer_tests::traffic::{CLOSED_PORT, Probe, Prober};

/// A trace through both gateways names each of them and then the server.
///
/// The near gateway answers from its address on the LAN; the far one, like any router, from the
/// address that it would send from to the client: that of `wg0`, which its route uses.
pub(crate) fn every_hop_answers(way: Way) -> Result<()> {
    let scene = Scene::up(way, 2, |_| Ok(()))?;
    let prober = Prober::start(&scene.lab)?;
    for family in [Family::V4, Family::V6] {
        let wanted: [(IpAddr, Fault); 3] = [
            (Side::A.gateway(family), Fault::TimeExceeded),
            (tunnel_address(Side::B, 0, family), Fault::TimeExceeded),
            (Side::B.host(family), Fault::PortUnreachable),
        ];
        // Each trace is another flow: some of them on the other tunnel.
        for _ in 0..6 {
            assert_eq!(prober.route(&scene.lab, family)?, wanted, "{family}");
        }
    }
    Ok(())
}

/// The server's answer that a port is closed comes by the tunnel of the packet that it is about.
pub(crate) fn follow_their_flow(way: Way) -> Result<()> {
    let scene = Scene::up(way, 2, |_| Ok(()))?;
    let prober = Prober::start(&scene.lab)?;
    let tunnels = Capture::tunnels(&scene.lab, Side::A)?;
    for family in [Family::V4, Family::V6] {
        tunnels.take()?;
        let probes: Vec<_> = (0..16)
            .map(|_| Probe::new(&scene.lab, family, CLOSED_PORT))
            .collect();
        for error in prober.errors(&probes)? {
            assert_eq!(error.fault, Fault::PortUnreachable, "{family}");
            assert_eq!(error.from, Side::B.host(family));
        }
        let seen = tunnels.take()?;
        let mut used = Vec::new();
        for probe in &probes {
            let there: Vec<_> = seen.iter().filter(|packet| probe.is(packet)).collect();
            let is_answer = |error: &IcmpError| probe.is_subject_of(error);
            let back: Vec<_> = seen
                .iter()
                .filter(|captured| captured.error().as_ref().is_some_and(is_answer))
                .collect();
            assert_eq!((there.len(), back.len()), (1, 1), "{family}: {probe:?}");
            assert_eq!(there[0].device, back[0].device, "{family}: {probe:?}");
            used.push(there[0].device);
        }
        scene.assert_spread(used);
    }
    Ok(())
}
