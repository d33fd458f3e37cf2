//! Strict reverse path filtering: a reply by another tunnel than the kernel's
//! own route would use is dropped.

use anyhow::Result;
use steer_tests::lab::{Family, Observer, Setup, Side, Steer};
use steer_tests::scenario::{self, Scene, Way};
use steer_tests::traffic::{burst, ping};

const STRICT: &str = "ipv4/conf/wg1/rp_filter";

/// Replies that come by a filtered tunnel do not arrive, and with loose filtering they do.
#[test]
fn strict_filtering_drops_replies() -> Result<()> {
    scenario::run("strict_filtering_drops_replies", || {
        let scene = Scene::up(Way::Kernel, 2, |lab| {
            // The far gateway's kernel answers by the other tunnel.
            let route = ["route", "replace", "10.1.0.0/16", "dev", "wg1"];
            lab.gateway(Side::B).ip(&route)
        })?;
        let gateway = scene.lab.gateway(Side::A);
        let answered = |value| -> Result<usize> {
            gateway.sysctls(&[(STRICT, value)])?;
            let (from, to) = (Side::A.host(Family::V4), Side::B.host(Family::V4));
            let patience = std::time::Duration::from_millis(300);
            Ok(ping(scene.lab.client(), from, to, &[1, 2], patience)?.len())
        };
        assert_eq!(answered("1")?, 0);
        assert_eq!(answered("2")?, 2);
        Ok(())
    })
}

/// steer does not start where it would lose replies, says which setting is in
/// the way, and with `--fix` changes it for as long as it runs.
#[test]
fn strict_filtering_is_refused_or_fixed() -> Result<()> {
    scenario::run("strict_filtering_is_refused_or_fixed", || {
        let scene = Scene::up(Way::Kernel, 2, |_| Ok(()))?;
        let (lab, gateway) = (&scene.lab, scene.lab.gateway(Side::A));
        gateway.sysctls(&[(STRICT, "1")])?;
        for hook in ["ingress", "egress", "mark"] {
            let setup = Setup::new(&[1, 1]).args(&["--hook", hook]);
            let refusal = Steer::refusal(lab, Side::A, &setup)?;
            assert!(refusal.contains("net.ipv4.conf.wg1.rp_filter"), "{refusal}");
            assert!(refusal.contains("--fix"), "{refusal}");
            assert_eq!(gateway.sysctl(STRICT)?, "1", "by a refused start");

            let _far = Steer::start(lab, Side::B, &[1, 1])?;
            let mut near = Steer::start_as(lab, Side::A, &setup.args(&["--fix"]))?;
            assert_eq!(gateway.sysctl(STRICT)?, "2", "by --fix");
            let observer = Observer::start(lab)?;
            let flows = burst(lab, Family::V4, 100)?;
            let seen = observer.take()?;
            assert_eq!(seen.asymmetric(&flows.flows), [], "{hook}");
            assert_eq!(flows.shares(&seen)?.len(), 2, "{hook}: tunnels in use");
            near.stop()?;
            assert_eq!(gateway.sysctl(STRICT)?, "1", "after {hook}");
        }
        Ok(())
    })
}

/// The tunnel that the kernel's own route uses may filter as it likes.
#[test]
fn strict_filtering_of_the_routes_own_tunnel_is_none_of_steers_business() -> Result<()> {
    let name = "strict_filtering_of_the_routes_own_tunnel_is_none_of_steers_business";
    scenario::run(name, || {
        let scene = Scene::up(Way::Kernel, 2, |lab| {
            let own = "ipv4/conf/wg0/rp_filter";
            lab.gateway(Side::A).sysctls(&[(own, "1")])
        })?;
        let _near = Steer::start(&scene.lab, Side::A, &[1, 1])?;
        assert_eq!(burst(&scene.lab, Family::V4, 100)?.resent, 0);
        Ok(())
    })
}
