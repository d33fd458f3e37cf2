//! Programs of somebody else on the same devices, before and after steer's.

use std::net::{SocketAddr, UdpSocket};

use anyhow::{Context as _, Result};
use steer_tests::lab::{
    Family, Foreign, Lab, Observer, Place, Point, Setup, Side, Steer, attach_modes, tunnel_address,
};
use steer_tests::scenario::{Scene, Way};
use steer_tests::traffic::burst;

/// Flows that are steered: each a packet there and one back.
const STEERED: u64 = 200;
/// Packets to the gateway itself, which are not.
const PASSED: u64 = 100;
/// What else may be on the wire meanwhile: addresses being resolved.
const NOISE: u64 = 40;

/// Sends both kinds from the client. Gives the numbers of the tunnels that the steered ones used.
fn traffic(lab: &Lab, observer: &Observer, family: Family) -> Result<Vec<usize>> {
    observer.take()?;
    lab.client().within(|| {
        let to = SocketAddr::new(Side::A.gateway(family), 9);
        let socket = UdpSocket::bind((Side::A.host(family), 0))?;
        for _ in 0..PASSED {
            // The gateway answers that the port is closed, which shows in the next call.
            let _ = socket.send_to(b"discard", to);
        }
        Ok(())
    })?;
    let flows = burst(lab, family, usize::try_from(STEERED)?)?;
    assert_eq!(flows.resent, 0);
    Ok(flows.shares(&observer.take()?)?.into_keys().collect())
}

/// Asserts what a program counted of one round of [`traffic`].
fn assert_saw(count: u64, wanted: u64, what: &str) {
    let range = wanted..=wanted + NOISE;
    assert!(range.contains(&count), "{what}: saw {count}, not {wanted}");
}

/// A program on the LAN device: before steer's it sees everything, after it what steer let pass.
pub(crate) fn on_the_lan(way: Way) -> Result<()> {
    let scene = Scene::up(Way::Kernel, 2, |_| Ok(()))?;
    let (lab, gateway) = (&scene.lab, scene.lab.gateway(Side::A));
    let observer = Observer::start(lab)?;
    let all = STEERED + PASSED;
    // What steer redirects, no later program sees; what it marks, all do.
    let rest = if way == Way::Ingress { PASSED } else { all };
    let used: Vec<_> = (0..way.used(2)).collect();
    let there = Foreign::attach(gateway, "lan0", Point::Ingress, Place::First)?;
    let mut before = 0;
    let mut saw = |wanted, what: &str| -> Result<()> {
        let count = there.count()?;
        assert_saw(count - before, wanted, what);
        before = count;
        Ok(())
    };
    for family in [Family::V4, Family::V6] {
        let Some(hook) = way.hook() else {
            assert_eq!(traffic(lab, &observer, family)?, used);
            saw(all, "without steer")?;
            continue;
        };
        for (order, wanted) in [("last", all), ("first", rest)] {
            let setup = Setup::new(&[1, 1]).args(&["--hook", hook, "--order", order]);
            let mut steer = Steer::start_as(lab, Side::A, &setup)?;
            assert_eq!(traffic(lab, &observer, family)?, used, "--order {order}");
            saw(wanted, &format!("--order {order}"))?;

            // One that comes later chooses its own place.
            let early = Foreign::attach(gateway, "lan0", Point::Ingress, Place::First)?;
            let late = Foreign::attach(gateway, "lan0", Point::Ingress, Place::Last)?;
            assert_eq!(traffic(lab, &observer, family)?, used, "with three");
            saw(wanted, "with three")?;
            assert_saw(early.count()?, all, "put before steer");
            assert_saw(late.count()?, rest, "put after steer");
            steer.stop()?;
            assert_eq!(traffic(lab, &observer, family)?, [0], "without steer again");
            saw(all, "without steer again")?;
        }
    }
    Ok(())
}

/// A filter on the LAN device, which is no TCX program: behind all of those, and among
/// filters where its priority says.
pub(crate) fn filter_on_the_lan(way: Way) -> Result<()> {
    let scene = Scene::up(Way::Kernel, 2, |_| Ok(()))?;
    let (lab, gateway) = (&scene.lab, scene.lab.gateway(Side::A));
    let observer = Observer::start(lab)?;
    let bpffs = lab.pin_dir(Side::A);
    let bpffs = bpffs.parent().context("pins are in a bpffs")?;
    let filter = Foreign::filter(gateway, "lan0", 1_000, bpffs)?;
    let all = STEERED + PASSED;
    let rest = if way == Way::Ingress { PASSED } else { all };
    let used: Vec<_> = (0..way.used(2)).collect();
    let mut before = 0;
    let mut saw = |wanted, what: &str| -> Result<()> {
        let count = filter.count()?;
        assert_saw(count - before, wanted, what);
        before = count;
        Ok(())
    };
    for family in [Family::V4, Family::V6] {
        assert_eq!(traffic(lab, &observer, family)?, [0]);
        saw(all, "without steer")?;
        let Some(hook) = way.hook() else { continue };
        for (attach, order, wanted) in [
            ("tcx", "last", rest),
            ("clsact", "first", rest),
            ("clsact", "last", all),
        ] {
            if !attach_modes().contains(&attach) {
                continue;
            }
            let what = format!("--attach {attach} --order {order}");
            let args = ["--hook", hook, "--attach", attach, "--order", order];
            let setup = Setup::new(&[1, 1]).args(&args);
            let mut steer = Steer::start_as(lab, Side::A, &setup)?;
            assert_eq!(traffic(lab, &observer, family)?, used, "{what}");
            saw(wanted, &what)?;
            steer.stop()?;
            assert_eq!(traffic(lab, &observer, family)?, [0], "after {what}");
            saw(all, "without steer again")?;
        }
    }
    Ok(())
}

/// A program on a tunnel's egress, after steer's: it sees what leaves by the
/// tunnel; one on its ingress, what comes.
pub(crate) fn on_a_tunnel(way: Way) -> Result<()> {
    let scene = Scene::up_as(
        way,
        2,
        |_| Ok(()),
        |_, setup| setup.args(&["--order", "first"]),
    )?;
    let (lab, gateway) = (&scene.lab, scene.lab.gateway(Side::A));
    let observer = Observer::start(lab)?;
    let attach = |point| Foreign::attach(gateway, "wg0", point, Place::Last);
    for family in [Family::V4, Family::V6] {
        // A cold neighbour or tunnel must not count as loss.
        burst(lab, family, 16)?;
        let (out, into) = (attach(Point::Egress)?, attach(Point::Ingress)?);
        observer.take()?;
        let flows = burst(lab, family, usize::try_from(STEERED)?)?;
        let seen = observer.take()?;
        scene.assert_spread(flows.shares(&seen)?.into_keys());
        let own = u64::try_from(seen.count_on(0))?;
        assert_saw(out.count()?, own, "egress of wg0");
        // What the return path hands to the LAN itself ends before it.
        let wanted = if way == Way::Ingress { 0 } else { own };
        assert_saw(into.count()?, wanted, "ingress of wg0");
        assert!(gateway.reaches(tunnel_address(Side::B, 0, family))?);
    }
    Ok(())
}
