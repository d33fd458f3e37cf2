//! The probes themselves: by which tunnel they leave, and what steer makes of them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;
use steer_tests::lab::{Capture, Family, Side, tunnel_address, wait};
use steer_tests::scenario::watch::{PATIENCE, is_probe, until_answering, until_health, until_used};
use steer_tests::scenario::{Scene, Way};

/// Probes of each tunnel: a far end's address in the tunnel, and one among the steered prefixes.
pub(crate) fn never_steered(way: Way) -> Result<()> {
    let beyond = Side::B.gateway(Family::V4);
    let scene = Scene::up_as(
        way,
        3,
        |_| Ok(()),
        |side, setup| match side {
            Side::A => {
                let six = tunnel_address(Side::B, 1, Family::V6);
                setup
                    .args(&["--probe-target", &format!("wg1={six}")])
                    .args(&["--probe-target", &format!("wg2={beyond}")])
            }
            Side::B => setup,
        },
    )?;
    let near = scene.near().expect("steer runs");
    until_answering(near, &["wg0", "wg1", "wg2"])?;
    let capture = Capture::tunnels(&scene.lab, Side::A)?;
    let asked = |what: &str| -> Result<()> {
        let wanted: BTreeSet<(usize, IpAddr)> = [
            (0, tunnel_address(Side::B, 0, Family::V4)),
            (1, tunnel_address(Side::B, 1, Family::V6)),
            (2, beyond),
        ]
        .into();
        capture.take()?;
        let mut seen = BTreeSet::new();
        wait::until(&format!("probes, {what}"), PATIENCE, || {
            for captured in capture.take()?.iter().filter(|captured| is_probe(captured)) {
                let packet = captured.packet().expect("a probe");
                let ours = tunnel_address(Side::A, captured.device, family_of(packet.dst));
                assert_eq!(packet.src, ours, "{what}: by another tunnel");
                seen.insert((captured.device, packet.dst));
            }
            Ok((seen.len() >= wanted.len()).then_some(()))
        })?;
        assert_eq!(seen, wanted, "{what}");
        Ok(())
    };
    asked("all up")?;
    // Down in the maps, and asked through all the same.
    scene.lab.cut_tunnel(1)?;
    scene.lab.cut_tunnel(2)?;
    for tunnel in ["wg1", "wg2"] {
        until_health(near, tunnel, "down")?;
    }
    asked("two down")?;
    scene.lab.restore_tunnel(1)?;
    scene.lab.restore_tunnel(2)?;
    for tunnel in ["wg1", "wg2"] {
        until_used(near, tunnel)?;
    }
    // Only what is among the prefixes can be a flow, and it stays where it is.
    for flow in near.flows()? {
        assert_eq!(
            (flow.dst_addr, flow.tunnel.as_deref()),
            (beyond, Some("wg2")),
            "{flow:?}"
        );
    }
    rate(&capture)
}

/// Five in a second, not more.
fn rate(capture: &Capture) -> Result<()> {
    capture.take()?;
    wait::pause(Duration::from_secs(1))?;
    let mut sent = [0; 3];
    for captured in capture.take()?.iter().filter(|captured| is_probe(captured)) {
        sent[captured.device] += 1;
    }
    assert!(
        sent.iter().all(|sent| (3..=7).contains(sent)),
        "{sent:?} in a second"
    );
    Ok(())
}

fn family_of(address: IpAddr) -> Family {
    if address.is_ipv4() {
        Family::V4
    } else {
        Family::V6
    }
}
