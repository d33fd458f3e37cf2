//! Routes that cannot be followed as they are, or lead elsewhere.

use std::time::Duration;

use anyhow::{Context as _, Result};
use steer_common::abi::PREFIXES_MAX;
use steer_tests::both_families;
use steer_tests::lab::{Family, Lab, Side, wait};
use steer_tests::scenario;
use steer_tests::traffic::ping;

use crate::routes::{Ip, PATIENCE, by_device, followed, following, ip, network, until_sets};

/// Whether the server answers the client.
fn is_answered(lab: &Lab, family: Family) -> Result<bool> {
    let (from, to) = (Side::A.host(family), Side::B.host(family));
    let answered = ping(lab.client(), from, to, &[7], Duration::from_millis(300))?;
    Ok(!answered.is_empty())
}

// What the kernel drops or refuses, steer does not carry past it.
both_families!(blackholes, |family| {
    let f = following(2, &[])?;
    let address = Side::B.host(family);
    let net = network(family);
    assert!(is_answered(&f.lab, family)?);
    for kind in ["blackhole", "unreachable", "prohibit"] {
        ip(&f.lab, &format!("route add {kind} {address}"))?;
        wait::until(&format!("{kind}: a hole"), PATIENCE, || {
            Ok((followed(&f.near)?.holes == 1).then_some(()))
        })?;
        assert!(!is_answered(&f.lab, family)?, "{kind}");
        ip(&f.lab, &format!("route del {kind} {address}"))?;
        wait::until(&format!("{kind}: no hole"), PATIENCE, || {
            Ok((followed(&f.near)?.holes == 0).then_some(()))
        })?;
        assert!(is_answered(&f.lab, family)?, "after {kind}");
    }
    // As a whole.
    ip(&f.lab, &format!("route del {net}"))?;
    ip(&f.lab, &format!("route add blackhole {net}"))?;
    until_sets(&f.near, &["1: wg0=1"])?;
    assert!(!is_answered(&f.lab, family)?);
    Ok(())
});

#[test]
fn default_routes_and_endpoints() -> Result<()> {
    scenario::run("default_routes_and_endpoints", || {
        let f = following(2, &[])?;
        let two = by_device(&[(0, 1), (1, 1)]);
        ip(&f.lab, &format!("route add default {two}"))?;
        wait::until("a word on the default route", PATIENCE, || {
            let is_told = f
                .near
                .log()
                .contains("0.0.0.0/0: the default route cannot be steered: left to the kernel");
            Ok(is_told.then_some(()))
        })?;
        assert_eq!(followed(&f.near)?.sets(), ["2: wg0=1"]);
        // The addresses that the tunnels' encrypted packets go to, in a prefix of their own.
        ip(&f.lab, &format!("route add 172.16.0.0/12 {two}"))?;
        ip(&f.lab, "route add 172.31.0.2/32 dev ul0")?;
        ip(&f.lab, "route add 172.31.1.0/25 dev ul1")?;
        until_sets(&f.near, &["2: wg0=1", "1: wg0=1 wg1=1"])?;
        let routes = followed(&f.near)?;
        assert!(routes.holes >= 2, "{routes:?}");
        for k in 0..2 {
            f.lab.warm_up(k)?;
        }
        assert!(is_answered(&f.lab, Family::V4)?);
        Ok(())
    })
}

/// What there is no room for is left to the kernel; what goes makes room.
#[test]
fn more_prefixes_than_room() -> Result<()> {
    scenario::run("more_prefixes_than_room", || {
        let f = following(2, &[])?;
        let mut ip = Ip::start(&f.lab)?;
        let count = PREFIXES_MAX + 100;
        let lines = |verb: &str| {
            let line =
                |n: usize| format!("route {verb} 10.{}.{}.0/24 dev wg1", 100 + n / 256, n % 256);
            (0..count).map(line).collect::<Vec<_>>().join("\n")
        };
        ip.say(&lines("add"))?;
        // In the order of their addresses, IPv4 first.
        until_sets(
            &f.near,
            &["1: wg0=1", &format!("{}: wg1=1", PREFIXES_MAX - 1)],
        )?;
        let told =
            format!("all groups together have at most {PREFIXES_MAX} prefixes: left to the kernel");
        assert!(f.near.log().contains(&told), "{}", f.near.log());
        // Of smaller addresses, so another one goes for it.
        ip.say("route add 10.3.0.0/16 dev wg0")?;
        until_sets(
            &f.near,
            &["2: wg0=1", &format!("{}: wg1=1", PREFIXES_MAX - 2)],
        )?;
        ip.say(&lines("del"))?;
        ip.end()?;
        until_sets(&f.near, &["3: wg0=1"])?;
        assert!(!f.near.log().contains("failed"), "{}", f.near.log());
        Ok(())
    })
}

/// 70 different choices, and 63 groups for them.
#[test]
fn more_choices_than_groups() -> Result<()> {
    scenario::run("more_choices_than_groups", || {
        let f = following(2, &[])?;
        let mut ip = Ip::start(&f.lab)?;
        for n in 1..=70 {
            let hops = by_device(&[(0, n), (1, 101)]);
            ip.say(&format!("route add 10.2.{n}.0/24 {hops}"))?;
        }
        wait::until("63 choices", PATIENCE, || {
            Ok((followed(&f.near)?.sets.len() == 63).then_some(()))
        })?;
        let told =
            "its choice of tunnels would need another group, and there are 64: left to the kernel";
        wait::until("a word on the rest", PATIENCE, || {
            Ok(f.near.log().contains(told).then_some(()))
        })?;
        // Both networks by wg0 are one of them.
        let routes = followed(&f.near)?;
        assert_eq!(
            (routes.prefixes, routes.holes),
            (2 + 62, 8),
            "the rest is left to the kernel"
        );
        assert!(is_answered(&f.lab, Family::V4)?);
        // Some go, and there is room for the rest.
        for n in 1..=20 {
            ip.say(&format!("route del 10.2.{n}.0/24"))?;
        }
        let mut last = None;
        wait::until("room for all", PATIENCE, || {
            let routes = followed(&f.near)?;
            let now = (routes.sets.len(), routes.prefixes, routes.holes);
            last = Some(now);
            Ok((now == (51, 52, 0)).then_some(()))
        })
        .with_context(|| format!("{last:?}; steer says:\n{}", f.near.log()))?;
        ip.end()
    })
}
