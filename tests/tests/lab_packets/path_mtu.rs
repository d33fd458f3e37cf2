//! Path MTU: discovery and clamping.

use std::time::Duration;

use anyhow::{Context as _, Result};
use steer_tests::lab::{
    Capture, Captured, Family, Fault, IcmpError, Lab, Setup, Side, TUNNEL_MTU, firewall, paths,
};
use steer_tests::scenario::{Scene, Way};
use steer_tests::traffic::{ECHO_PORT, End, Probe, Prober, Transfer, transfer};

/// What a connection carries each way.
const BYTES: usize = 200_000;
/// Ten times what that takes through the shaped tunnels.
const LIMIT: Duration = Duration::from_secs(10);
/// Time in which nothing gets through a black hole.
const IN_VAIN: Duration = Duration::from_secs(1);
/// Headers of IP and TCP without options.
const fn headers(family: Family) -> u32 {
    match family {
        Family::V4 => 40,
        Family::V6 => 60,
    }
}

/// One connection from the client to the server.
fn connection(lab: &Lab, family: Family, limit: Duration) -> Result<Transfer> {
    let from = End::any_port(lab.client(), Side::A.host(family));
    let to = End::any_port(lab.server(), Side::B.host(family));
    transfer(from, to, BYTES, limit)
}

/// The two LANs, where errors and announced segment sizes arrive.
struct Lans {
    client: Capture,
    server: Capture,
}

impl Lans {
    fn watch(lab: &Lab) -> Result<Self> {
        Ok(Self {
            client: Capture::start(lab.client(), &["lan0"])?,
            server: Capture::start(lab.server(), &["lan0"])?,
        })
    }
}

/// Errors about a connection that were received.
fn too_big(packets: &[Captured], transfer: &Transfer) -> Vec<IcmpError> {
    let ends = [transfer.from, transfer.to];
    packets
        .iter()
        .filter(|captured| !captured.outgoing)
        .filter_map(Captured::error)
        .filter(|error| ends.contains(&error.src) && ends.contains(&error.dst))
        .collect()
}

/// Segments of 1,500 bytes do not fit; both ends are told so, by their gateways, and go on.
pub(crate) fn is_discovered(way: Way) -> Result<()> {
    let scene = Scene::up(way, 2, |_| Ok(()))?;
    let lans = Lans::watch(&scene.lab)?;
    for family in [Family::V4, Family::V6] {
        // One connection for each tunnel, or more: what one finds out, the next one knows.
        for n in 0..8 {
            let done = connection(&scene.lab, family, LIMIT)?;
            assert!(done.is_complete(), "{family} {n}: {done:?}");
            assert_eq!(done.path_mtus, [TUNNEL_MTU; 2], "{family} {n}");
            if n > 0 {
                continue;
            }
            for (side, lan) in [(Side::A, &lans.client), (Side::B, &lans.server)] {
                let errors = too_big(&lan.take()?, &done);
                assert!(!errors.is_empty(), "{family}: no error at {side:?}");
                for error in errors {
                    assert_eq!(error.from, side.gateway(family), "{family}");
                    assert_eq!(error.to, side.host(family), "{family}");
                    assert_eq!(error.fault, Fault::TooBig(TUNNEL_MTU), "{family}");
                }
            }
        }
    }
    Ok(())
}

/// Where no error arrives, connections work because both ends are told a smaller segment size: by
/// netfilter, or by steer where that is bypassed.
pub(crate) fn mss_is_clamped(way: Way) -> Result<()> {
    let with_rule = |lab: &Lab| {
        black_hole(lab)?;
        firewall::clamp_mss(lab.gateway(Side::A))
    };
    let scene = Scene::up(way, 2, with_rule)?;
    // Gateway A alone clamps, both directions.
    segments_are(&scene.lab, |family| TUNNEL_MTU - headers(family))
}

/// The same by steer's own doing, to a size that was asked for.
pub(crate) fn mss_is_clamped_to(way: Way) -> Result<()> {
    const MSS: u32 = 1_300;
    let asked = |side, setup: Setup| match side {
        Side::A => setup.args(&["--mss-clamp", &MSS.to_string()]),
        Side::B => setup,
    };
    let scene = Scene::up_as(way, 2, black_hole, asked)?;
    segments_are(&scene.lab, |_| MSS)
}

/// No host hears that a packet was too big.
fn black_hole(lab: &Lab) -> Result<()> {
    firewall::block_too_big(lab.client())?;
    firewall::block_too_big(lab.server())
}

/// Connections complete, and both ends are told segments of this size.
fn segments_are(lab: &Lab, wanted: impl Fn(Family) -> u32) -> Result<()> {
    let lans = Lans::watch(lab)?;
    for family in [Family::V4, Family::V6] {
        for n in 0..8 {
            let done = connection(lab, family, LIMIT)?;
            assert!(done.is_complete(), "{family} {n}: {done:?}");
        }
        let wanted = u16::try_from(wanted(family))?;
        for lan in [&lans.server, &lans.client] {
            let arrived: Vec<_> = lan
                .take()?
                .iter()
                .filter(|captured| !captured.outgoing)
                .filter_map(Captured::mss)
                .collect();
            assert_eq!(arrived, [wanted; 8], "{family}");
        }
    }
    Ok(())
}

/// The lab itself: without clamping, a connection without errors hangs.
#[test]
fn a_black_hole_is_one() -> Result<()> {
    steer_tests::scenario::run("a_black_hole_is_one", || {
        let scene = Scene::up(Way::Kernel, 1, black_hole)?;
        for family in [Family::V4, Family::V6] {
            let done = connection(&scene.lab, family, IN_VAIN)?;
            assert_eq!(done.arrived, [0, 0], "{family}");
        }
        Ok(())
    })
}

/// What fits into one tunnel only passes there; for the others the error names their MTU.
pub(crate) fn of_the_own_tunnel(way: Way) -> Result<()> {
    const MTUS: [u32; 2] = [TUNNEL_MTU, 1380];
    let scene = Scene::up(way, 2, |lab| lab.set_tunnel_mtu(1, MTUS[1]))?;
    let lab = &scene.lab;
    if way == Way::Kernel {
        // The kernel alone chooses by address: another one for wg1.
        return of_the_own_route(lab);
    }
    for family in [Family::V4, Family::V6] {
        let prober = Prober::start(lab)?;
        let tunnels = Capture::tunnels(lab, Side::A)?;
        // Small packets show the tunnel of each flow; no error says that their port is closed.
        let probes: Vec<_> = (0..32)
            .map(|_| Probe::new(lab, family, ECHO_PORT))
            .collect();
        for probe in &probes {
            prober.send(probe)?;
        }
        let own = tunnels.until("32 probes", LIMIT, |packets| {
            let tunnel = |probe: &Probe| {
                let packet = packets.iter().find(|captured| probe.is(captured))?;
                Some(packet.device)
            };
            probes.iter().map(tunnel).collect::<Option<Vec<_>>>()
        })?;
        scene.assert_spread(own.iter().copied());

        let large: Vec<_> = probes.iter().map(|probe| probe.length(1500)).collect();
        let errors = prober.errors(&large)?;
        for (error, tunnel) in errors.iter().zip(&own) {
            assert_eq!(error.fault, Fault::TooBig(MTUS[*tunnel]), "{family}");
            assert_eq!(error.from, Side::A.gateway(family));
        }

        // Between the two: it fits, or the error says how much does.
        tunnels.take()?;
        prober.heard()?;
        let on_small = |(probe, tunnel): (&Probe, &usize)| (*tunnel == 1).then_some(*probe);
        let middle: Vec<_> = probes.iter().map(|probe| probe.length(1400)).collect();
        let refused: Vec<_> = middle.iter().zip(&own).filter_map(on_small).collect();
        let fitting: Vec<_> = middle
            .iter()
            .filter(|probe| !refused.iter().any(|other| other.src == probe.src))
            .copied()
            .collect();
        for probe in &fitting {
            prober.send(probe)?;
        }
        for error in prober.errors(&refused)? {
            assert_eq!(error.fault, Fault::TooBig(MTUS[1]), "{family}");
        }
        let seen = tunnels.take()?;
        for probe in &fitting {
            let on: Vec<_> = seen.iter().filter(|packet| probe.is(packet)).collect();
            assert_eq!(on.len(), 1, "{family}: {probe:?}");
            assert_eq!(on[0].device, 0, "{family}: {probe:?}");
        }
        for probe in &refused {
            assert!(!seen.iter().any(|packet| probe.is(packet)), "{family}");
        }
    }
    connections_of_both_tunnels(lab, MTUS)
}

/// Connections complete, and each end in the end knows the MTU of the connection's own tunnel.
fn connections_of_both_tunnels(lab: &Lab, mtus: [u32; 2]) -> Result<()> {
    let tunnels = Capture::tunnels(lab, Side::A)?;
    for family in [Family::V4, Family::V6] {
        let mut seen = [false; 2];
        for n in 0..8 {
            // What the one before found out is forgotten.
            for host in [lab.client(), lab.server()] {
                host.ip(&["-4", "route", "flush", "cache"])?;
                host.ip(&["-6", "route", "flush", "cache"])?;
            }
            let done = connection(lab, family, LIMIT)?;
            assert!(done.is_complete(), "{family} {n}: {done:?}");
            let (flows, _) = paths(&tunnels.take()?);
            let tunnel = flows
                .get(&done.conversation(Side::A))
                .and_then(steer_tests::lab::Paths::only_tunnel)
                .context("on one tunnel")?;
            assert_eq!(done.path_mtus, [mtus[tunnel]; 2], "{family} on wg{tunnel}");
            seen[tunnel] = true;
        }
        assert_eq!(seen, [true; 2], "{family}: a tunnel without a connection");
    }
    Ok(())
}

/// What the kernel says of two routes with different MTUs.
fn of_the_own_route(lab: &Lab) -> Result<()> {
    let prober = Prober::start(lab)?;
    for (family, other) in [(Family::V4, "10.2.0.3"), (Family::V6, "fd00:2::3")] {
        lab.gateway(Side::A)
            .ip(&["route", "add", other, "dev", "wg1"])?;
        let by_wg0 = Probe::new(lab, family, 9).length(1500);
        let mut by_wg1 = Probe::new(lab, family, 9).length(1400);
        by_wg1.dst.set_ip(other.parse()?);
        let errors = prober.errors(&[by_wg0, by_wg1])?;
        let faults: Vec<_> = errors.iter().map(|error| error.fault).collect();
        assert_eq!(faults, [Fault::TooBig(TUNNEL_MTU), Fault::TooBig(1380)]);
        for error in errors {
            assert_eq!(error.from, Side::A.gateway(family));
        }
    }
    Ok(())
}
