//! From `run` to `detach`: what stays, what goes, what is adopted.

use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;
use serde_json::Value;
use steer_tests::lab::{attach_modes, wait};
use steer_tests::steerctl::{Flood, Gateway, Reader, Running, Sender, links};

use crate::fixture::{flows, is_as_before, readers, seen, steer, test, total};

const READY: &str = "ready default: 10.2.0.0/16 over wg0=1@0 wg1=1@1 from lan0 (ingress, ";

test!(run_says_ready_once_and_cleans_up, |name| {
    let gateway = Gateway::up(name, 2)?;
    let before = gateway.traces()?;
    let signals = [Signal::SIGTERM, Signal::SIGINT];
    for (attach, signal) in attach_modes().iter().copied().zip(signals) {
        let running = gateway.run(&steer("run", &["--attach", attach])[1..])?;
        assert_ne!(gateway.traces()?, before);
        let lines = running.stop_by(signal)?;
        assert_eq!(lines, [format!("{READY}{attach})")]);
        is_as_before(&gateway, &before)?;
    }
    Ok(())
});

test!(keep_keeps, |name| {
    let gateway = Gateway::up(name, 2)?;
    let before = gateway.traces()?;
    let running = gateway.run(&steer("run", &["--keep"])[1..])?;
    let steering = gateway.traces()?;
    running.stop()?;
    assert_eq!(gateway.traces()?, steering);
    gateway.done(&["detach"])?;
    is_as_before(&gateway, &before)
});

test!(detach_can_be_repeated, |name| {
    let gateway = Gateway::up(name, 2)?;
    let before = gateway.traces()?;
    for &attach in attach_modes() {
        gateway.done(&steer("attach", &["--attach", attach]))?;
        let report = gateway.json(&["detach"])?;
        assert_eq!(
            report["hooks"].as_array().map(Vec::len),
            Some(5),
            "{report}"
        );
        is_as_before(&gateway, &before)?;
        gateway.done(&["detach"])?;
        is_as_before(&gateway, &before)?;
    }
    Ok(())
});

test!(detach_ends_the_daemon, |name| {
    let gateway = Gateway::up(name, 2)?;
    let before = gateway.traces()?;
    let mut running = gateway.run(&steer("run", &[])[1..])?;
    gateway.done(&["detach"])?;
    assert!(running.ended()?.success());
    is_as_before(&gateway, &before)
});

/// Kills a start at some time, then goes on from there.
fn killed_starts(name: &str, attach: &str) -> Result<()> {
    let gateway = Gateway::up(name, 2)?;
    let before = gateway.traces()?;
    let args = steer("run", &["--attach", attach]);
    for attempt in 0..30_u64 {
        let running = Running::start(gateway.command().args(&args))?;
        // The point in its life at which it dies.
        wait::pause(Duration::from_millis(attempt * 20))?;
        running.kill()?;
        if attempt % 3 != 0 {
            let again = gateway.run(&args[1..])?;
            assert_eq!(
                gateway.json(&["status"])?["groups"][0]["hooks"]
                    .as_array()
                    .map(Vec::len),
                Some(5)
            );
            if attempt % 3 == 1 {
                again.stop()?;
            } else {
                again.kill()?;
            }
        }
        gateway.done(&["detach"])?;
        is_as_before(&gateway, &before)?;
    }
    Ok(())
}

test!(a_start_killed_anywhere, |name| killed_starts(name, "tcx"));
test!(a_start_killed_anywhere_on_clsact, |name| killed_starts(
    name, "clsact"
));

test!(what_a_killed_loader_left_is_adopted, |name| {
    let gateway = Gateway::up(name, 3)?;
    let args = [
        "run",
        "--iface",
        "lan0",
        "--tunnel",
        "wg0=3",
        "--tunnel",
        "wg1=2@40",
        "--tunnel",
        "wg2",
        "--prefix",
        "10.2.0.0/16",
    ];
    let running = gateway.run(&args[1..])?;
    gateway.done(&["disable", "wg2"])?;
    gateway.done(&["weights", "wg0=5"])?;
    let mut sender = Sender::new(gateway.client(), 50)?;
    sender.round()?;
    let flows_before = wait::until("50 flows", Duration::from_secs(5), || {
        Ok(Some(flows(&gateway)?).filter(|flows| flows.len() == 50))
    })?;
    let status = kept(gateway.json(&["status"])?);
    running.kill()?;

    assert_eq!(kept(gateway.json(&["status"])?), status);
    // Without a word, and with the same tunnels in another order: what was given before is kept.
    let mut permuted = vec!["--iface", "lan0", "--prefix", "10.2.0.0/16"];
    permuted.extend(["--tunnel", "wg2", "--tunnel", "wg0", "--tunnel", "wg1"]);
    for args in [&[][..], &permuted] {
        let running = gateway.run(args)?;
        assert_eq!(kept(gateway.json(&["status"])?), status, "run {args:?}");
        assert_eq!(flows(&gateway)?, flows_before, "run {args:?}");
        running.kill()?;
    }
    gateway.done(&["detach"])?;
    Ok(())
});

/// What must survive: everything but counters, the ids of programs, and the epoch, by which every start has
/// flows checked again.
fn kept(mut status: Value) -> Value {
    status["groups"][0]["epoch"].take();
    for hook in status["groups"][0]["hooks"]
        .as_array_mut()
        .into_iter()
        .flatten()
    {
        hook["program_id"].take();
    }
    // Neighbour discovery comes and goes.
    status["passed"].take();
    status
}

/// Another `run` takes over under traffic: nobody notices but the old one, which ends.
fn replaced_under_traffic(name: &str, attach: &str) -> Result<()> {
    let gateway = Gateway::up(name, 2)?;
    let tunnels = readers(&gateway, 2)?;
    let args = steer("run", &["--attach", attach]);
    let mut running = gateway.run(&args[1..])?;
    let mut sender = Sender::new(gateway.client(), 40)?;
    sender.round()?;
    wait::until(
        "every flow's first datagram",
        Duration::from_secs(5),
        || Ok((total(&tunnels) == 40).then_some(())),
    )?;
    let ports_before: Vec<_> = tunnels.iter().map(|tunnel| tunnel.seen().ports()).collect();
    let flood = Flood::start(sender, 2_000);
    for _ in 0..3 {
        let links_before = links(&gateway.pin_dir())?;
        let programs_before = programs(&gateway)?;
        let next = gateway.run(&args[1..])?;
        assert!(running.ended()?.success(), "the old one");
        running = next;
        let links_now = links(&gateway.pin_dir())?;
        let ids = |links: &[steer_tests::steerctl::Link]| {
            links.iter().map(|link| link.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(&links_now), ids(&links_before), "links");
        for (old, new) in programs_before.iter().zip(programs(&gateway)?) {
            assert_ne!(*old, new, "program");
        }
    }
    let sent = flood.stop()?.sent();
    let what = format!("all of {sent} datagrams");
    let arrived = wait::until(&what, Duration::from_secs(5), || {
        Ok((u64::try_from(total(&tunnels))? == sent).then_some(()))
    });
    println!("{sent} sent, {} arrived", total(&tunnels));
    arrived?;
    assert_eq!(seen(&tunnels).doubles, 0);
    let ports: Vec<_> = tunnels.iter().map(|tunnel| tunnel.seen().ports()).collect();
    assert_eq!(ports, ports_before, "no flow moved");
    assert!(running.is_alive()?);
    running.stop()?;
    Ok(())
}

/// The ids of the programs, as `status` tells them.
fn programs(gateway: &Gateway) -> Result<Vec<Value>> {
    let status = gateway.json(&["status"])?;
    let hooks = status["groups"][0]["hooks"].as_array().cloned();
    Ok(hooks
        .into_iter()
        .flatten()
        .map(|hook| hook["program_id"].clone())
        .collect())
}

test!(replaced_in_place, |name| replaced_under_traffic(
    name, "tcx"
));
test!(replaced_in_place_on_clsact, |name| replaced_under_traffic(
    name, "clsact"
));

test!(packets_flow_without_the_loader, |name| {
    let gateway = Gateway::up(name, 1)?;
    let tunnel = Reader::open(gateway.host(), "wg0")?;
    let args = [
        "--iface",
        "lan0",
        "--tunnel",
        "wg0",
        "--prefix",
        "10.2.0.0/16",
    ];
    let flood = |running: Running| -> Result<u64> {
        let flood = Flood::start(Sender::new(gateway.client(), 8)?, 2_000);
        wait::until("datagrams", Duration::from_secs(5), || {
            Ok((tunnel.count() > 400).then_some(()))
        })?;
        running.kill()?;
        let so_far = tunnel.count();
        wait::until("datagrams", Duration::from_secs(5), || {
            Ok((tunnel.count() > so_far + 1_000).then_some(()))
        })?;
        Ok(flood.stop()?.sent())
    };
    let sent = flood(gateway.run(&args)?)?;
    wait::until("the rest", Duration::from_secs(5), || {
        Ok((u64::try_from(tunnel.count())? == sent).then_some(()))
    })?;
    gateway.done(&["detach"])?;
    Ok(())
});
