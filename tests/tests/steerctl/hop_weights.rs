//! Weights that routes give, and those of the operator: a tunnel's weight is their product.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use steer_tests::lab::wait;
use steer_tests::steerctl::{Gateway, Sender};

use crate::fixture::{all_refused, flows, test};

const FLOWS: usize = 120;
const LIMIT: Duration = Duration::from_secs(10);

/// How many flows `wg0` and `wg1` have, once there are so many.
fn counts(gateway: &Gateway, all: usize) -> Result<(usize, usize)> {
    wait::until(&format!("{all} flows"), LIMIT, || {
        let flows = flows(gateway)?;
        let on = |name: &str| flows.values().filter(|(on, _)| on == name).count();
        Ok((flows.len() == all).then(|| (on("wg0"), on("wg1"))))
    })
}

/// Prefixes that are steered, once there are so many.
fn prefixes(gateway: &Gateway, count: usize) -> Result<()> {
    wait::until(&format!("{count} prefixes"), LIMIT, || {
        let status = gateway.json(&["status"])?;
        let prefixes = status["groups"][0]["prefixes"].as_array();
        Ok(prefixes
            .is_some_and(|found| found.len() == count)
            .then_some(()))
    })
}

test!(weights_of_routes_and_of_the_operator, |name| {
    let gateway = Gateway::up(name, 2)?;
    let hops = [
        "nexthop", "dev", "wg0", "weight", "3", "nexthop", "dev", "wg1", "weight", "1",
    ];
    gateway.ip(&[&["route", "add", "10.2.0.0/16"], &hops[..]].concat())?;
    let running = gateway.run(&[
        "--iface",
        "lan0",
        "--tunnel",
        "wg0",
        "--tunnel",
        "wg1",
        "--follow-routes",
        "--seed",
        "7",
    ])?;
    prefixes(&gateway, 1)?;
    let mut first = Sender::new(gateway.client(), FLOWS)?;
    first.round()?;
    let (on_wg0, _) = counts(&gateway, FLOWS)?;
    // 90 of 120 by the weights of the route.
    ensure!((72..108).contains(&on_wg0), "{on_wg0} of {FLOWS}");

    // 3 × 1 against 1 × 9: new flows go by the product, live ones stay.
    let report = gateway.json(&["weights", "wg1=9"])?;
    assert_eq!(report["live_flows_moved"], 0, "{report}");
    let mut second = Sender::new(gateway.client(), FLOWS)?;
    second.round()?;
    let (all_on_wg0, _) = counts(&gateway, 2 * FLOWS)?;
    let new_on_wg0 = all_on_wg0.checked_sub(on_wg0).context("none left")?;
    ensure!((15..50).contains(&new_on_wg0), "{new_on_wg0} of {FLOWS}");

    // Exactly a quarter after a rebalance, and as many moves as that takes.
    let surplus = all_on_wg0 - FLOWS / 2;
    let rehearsal = gateway.json(&["weights", "--rebalance", "--dry-run"])?;
    assert_eq!(rehearsal["live_flows_moved"], surplus, "{rehearsal}");
    let report = gateway.json(&["weights", "--rebalance"])?;
    assert_eq!(report["live_flows_moved"], surplus, "{report}");
    assert_eq!(
        counts(&gateway, 2 * FLOWS)?,
        (FLOWS / 2, 2 * FLOWS - FLOWS / 2)
    );

    // A drain takes the tunnel out of the groups of routes, too.
    gateway.done(&["drain", "wg1", "--wait", "--timeout", "0s"])?;
    assert_eq!(counts(&gateway, 2 * FLOWS)?, (2 * FLOWS, 0));
    let mut third = Sender::new(gateway.client(), FLOWS)?;
    third.round()?;
    assert_eq!(counts(&gateway, 3 * FLOWS)?, (3 * FLOWS, 0));
    running.stop().map(drop)
});

test!(the_only_tunnel_of_a_prefix, |name| {
    const LIVE: usize = 20;
    let gateway = Gateway::up(name, 2)?;
    gateway.ip(&["route", "add", "10.2.0.0/16", "dev", "wg1"])?;
    gateway.ip(&[
        "route",
        "add",
        "10.3.0.0/16",
        "nexthop",
        "dev",
        "wg0",
        "nexthop",
        "dev",
        "wg1",
    ])?;
    let running = gateway.run(&[
        "--iface",
        "lan0",
        "--tunnel",
        "wg0",
        "--tunnel",
        "wg1",
        "--follow-routes",
    ])?;
    prefixes(&gateway, 2)?;
    // Shares by what routes lead to, not by the weights alone.
    let shares = |name: &str| -> Result<[Option<f64>; 3]> {
        let tunnel = gateway.tunnel(name)?;
        Ok(["share_min", "share", "share_max"].map(|key| tunnel[key].as_f64()))
    };
    assert_eq!(shares("wg0")?, [Some(0.0), Some(0.25), Some(0.5)]);
    assert_eq!(shares("wg1")?, [Some(0.5), Some(0.75), Some(1.0)]);
    let status = gateway.done(&["status"])?;
    assert!(status.contains("  0.0 to 50.0 %  active"), "{status}");

    let mut sender = Sender::new(gateway.client(), LIVE)?;
    sender.round()?;
    assert_eq!(counts(&gateway, LIVE)?, (0, LIVE));
    let last = "tunnel wg1: is the last that takes new flows to 10.2.0.0/16";
    let hint = Some("drain wg1 --force leaves those to the kernel");
    all_refused(
        &gateway,
        &[
            ("drain wg1", 1, last, hint),
            ("drain wg1 --dry-run", 1, last, hint),
            ("drain wg1 --wait --timeout 1s", 1, last, hint),
        ],
    )?;
    gateway.done(&["drain", "wg0"])?;
    gateway.done(&["undrain", "wg0"])?;

    let report = gateway.json(&["disable", "wg1", "--dry-run"])?;
    assert_eq!(report["live_flows_moved"], 0, "{report}");
    assert_eq!(report["live_flows_to_kernel"], LIVE, "{report}");
    let said = gateway.done(&["disable", "wg1", "--dry-run"])?;
    assert!(
        said.contains(
            "no tunnel can get new flows to 10.2.0.0/16; their packets are left to the kernel"
        ),
        "{said}"
    );
    let drain = ["drain", "wg1", "--force", "--wait", "--timeout", "0s"];
    let outcome = gateway.steerctl(&drain)?;
    let hint = "20 can go by no other tunnel; steerctl disable wg1 leaves to the kernel what can go by no other";
    assert_eq!(
        (outcome.code, outcome.stderr),
        (
            1,
            format!(
                "steerctl: tunnel wg1: 20 flows are still on it, and cannot be moved from here\nhint: {hint}\n"
            )
        )
    );
    let status = gateway.done(&["status"])?;
    assert!(
        status.contains("1 prefix over wg1=1: none takes new flows, they are left to the kernel"),
        "{status}"
    );
    running.stop().map(drop)
});
