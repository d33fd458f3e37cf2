//! ICMP errors: who sends them, and which way they take.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::Result;
use steer_tests::lab::{Capture, Family, Fault, IcmpError, Side, tunnel_address};
use steer_tests::scenario::{Scene, Way};
use steer_tests::traffic::{CLOSED_PORT, Probe, Prober};

/// A trace through both gateways names each of them and then the server.
///
/// The near gateway answers from its address on the LAN. The far one, as any Linux router: over IPv4
/// from the address of the tunnel that its route to the client uses; over IPv6 from that of the
/// tunnel by which the packet came, which is also the only one that takes this address.
pub(crate) fn every_hop_answers(way: Way) -> Result<()> {
    let scene = Scene::up(way, 2, |_| Ok(()))?;
    let prober = Prober::start(&scene.lab)?;
    let tunnels = Capture::tunnels(&scene.lab, Side::A)?;
    for family in [Family::V4, Family::V6] {
        let mut used = Vec::new();
        // Each trace is another flow.
        for _ in 0..8 {
            tunnels.take()?;
            let route = prober.route(&scene.lab, family)?;
            let on: BTreeSet<_> = tunnels
                .take()?
                .iter()
                .filter(|captured| {
                    let flow = captured.packet().and_then(|packet| packet.flow());
                    flow.is_some_and(|(_, _, dst)| dst.port() == CLOSED_PORT)
                })
                .map(|captured| captured.device)
                .collect();
            assert_eq!(on.len(), 1, "{family}: one trace on {on:?}");
            used.extend(&on);
            let far = match family {
                Family::V4 => tunnel_address(Side::B, 0, family),
                Family::V6 => tunnel_address(Side::B, used[used.len() - 1], family),
            };
            let wanted: [(IpAddr, Fault); 3] = [
                (Side::A.gateway(family), Fault::TimeExceeded),
                (far, Fault::TimeExceeded),
                (Side::B.host(family), Fault::PortUnreachable),
            ];
            assert_eq!(route, wanted, "{family}");
        }
        scene.assert_spread(used);
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
