//! The daemon and whatever else goes on: other starts, other lock holders, pins that vanish.

use std::fs::{self, File};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::fcntl::{Flock, FlockArg};
use nix::net::if_::if_nametoindex;
use nix::sys::signal::Signal;
use steer_common::abi::Settings;
use steer_tests::lab::wait;
use steer_tests::steerctl::{FAR, Gateway, Outcome, Running, Sender, tcx_programs};
use steer_user::datapath::{maps::Maps, pins::PinDir};

use crate::fixture::{is_as_before, steer, test};

const SOON: Duration = Duration::from_secs(30);

/// Makes `wg1` anew, and waits until the daemon has attached it.
fn follows(gateway: &Gateway) -> Result<()> {
    gateway.ip(&["link", "del", "wg1"])?;
    gateway.add_tunnel("wg1")?;
    wait::until("a program on wg1", SOON, || {
        Ok((!tcx_programs(gateway.host(), "wg1")?.is_empty()).then_some(()))
    })?;
    wait::until("wg1 up", SOON, || {
        Ok((gateway.tunnel("wg1")?["health"] == "up").then_some(()))
    })
}

fn daemon(gateway: &Gateway) -> Result<Running> {
    gateway.run(&steer("run", &["--attach", "tcx"])[1..])
}

test!(an_attach_beside_the_daemon, |name| {
    let gateway = Gateway::up(name, 2)?;
    let before = gateway.traces()?;
    let mut running = daemon(&gateway)?;
    gateway.done(&steer("attach", &["--attach", "tcx"]))?;
    follows(&gateway)?;
    // Other programs than those that the daemon has.
    gateway.done(&steer("attach", &["--attach", "tcx", "--hook", "egress"]))?;
    follows(&gateway)?;
    assert!(running.is_alive()?);
    running.stop()?;
    is_as_before(&gateway, &before)
});

test!(a_start_beside_the_daemon_that_fails, |name| {
    let gateway = Gateway::up(name, 3)?;
    let before = gateway.traces()?;
    let mut running = daemon(&gateway)?;
    // By then the other programs are attached.
    let number = gateway.host().within(|| Ok(if_nametoindex("wg2")?))?;
    let in_the_way = gateway.pin(&format!("egress_{number}"));
    fs::create_dir(&in_the_way)?;
    let args = steer("run", &["--attach", "tcx", "--tunnel", "wg2"]);
    assert_eq!(gateway.steerctl(&args)?.code, 1);
    fs::remove_dir(&in_the_way)?;
    follows(&gateway)?;
    assert!(running.is_alive()?);
    running.stop()?;
    is_as_before(&gateway, &before)
});

// One that was killed after it had taken over, and before it had become the daemon.
test!(a_start_beside_the_daemon_that_is_killed, |name| {
    let gateway = Gateway::up(name, 2)?;
    let before = gateway.traces()?;
    let mut running = daemon(&gateway)?;
    let mut maps = Maps::open(&PinDir::new(gateway.pin_dir()))?;
    let settings = maps.settings()?;
    maps.set_settings(&Settings {
        daemon: settings.daemon.wrapping_add(1),
        ..settings
    })?;
    running.says("the steerctl that took over is gone")?;
    follows(&gateway)?;
    running.stop()?;
    is_as_before(&gateway, &before)
});

test!(somebody_else_has_the_write_lock, |name| {
    let gateway = Gateway::up(name, 2)?;
    let mut running = daemon(&gateway)?;
    let lock = Flock::lock(File::open(gateway.dir())?, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .context("the write lock")?;
    let me = format!("pid {} (", std::process::id());
    let mut waits = Running::start(gateway.command().args(["disable", "wg0"]))?;
    waits.says("waiting for ")?;
    waits.said(&me)?;
    // It cannot detach, says so, and does not stay for ever.
    running.signal(Signal::SIGTERM)?;
    running.says(" holds the write lock")?;
    running.said(&me)?;
    assert_eq!(running.ended()?.code(), Some(1));
    drop(lock);
    assert!(waits.ended()?.success());
    assert_eq!(gateway.tunnel("wg0")?["admin"], "disabled");
    gateway.done(&["detach"])?;
    Ok(())
});

test!(pins_that_are_removed_by_hand, |name| {
    let gateway = Gateway::up(name, 2)?;
    let before = gateway.traces()?;
    for attach in ["tcx", "clsact"] {
        let args = steer("run", &["--attach", attach]);
        let mut running = gateway.run(&args[1..])?;
        fs::remove_file(gateway.pin("tunnel_health"))?;
        running.says("pins of steer are missing, tunnel_health for one")?;
        assert_eq!(running.ended()?.code(), Some(1));
        let refused = gateway.steerctl(&["status"])?;
        assert_eq!(refused.code, 1);
        let missing = "pins of steer are missing, tunnel_health for one";
        assert!(refused.stderr.contains(missing), "{refused:?}");
        // A start begins anew, and so does one after everything was removed.
        let again = gateway.run(&args[1..])?;
        fs::remove_file(gateway.pin("tunnel_health"))?;
        drop(again);
        let removed = gateway.done(&["detach"])?;
        assert!(
            removed.starts_with("removed what was left in "),
            "{removed}"
        );
        is_as_before(&gateway, &before)?;
    }
    Ok(())
});

test!(detach_from_another_namespace, |name| {
    let gateway = Gateway::up(name, 2)?;
    let args = steer("run", &["--attach", "clsact"]);
    let mut running = gateway.run(&args[1..])?;
    let steering = gateway.traces()?;
    let mut elsewhere = std::process::Command::new(gateway.program());
    elsewhere
        .args(["--netns", gateway.client().netns(), "--pin-dir"])
        .arg(gateway.pin_dir())
        .arg("detach");
    let outcome = Outcome::of(&mut elsewhere)?;
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(
        outcome
            .stderr
            .contains("steers in another network namespace"),
        "{outcome:?}"
    );
    assert!(running.is_alive()?, "the daemon");
    assert_eq!(gateway.traces()?, steering);
    running.stop()?;
    Ok(())
});

test!(flows_stay_when_every_tunnel_is_down, |name| {
    let gateway = Gateway::up(name, 2)?;
    let running = daemon(&gateway)?;
    let mut sender = Sender::new(gateway.client(), 1)?;
    sender.round()?;
    let port = sender.ports()?[0];
    let explained = |port: u16| gateway.json(&["explain", "udp", &format!("10.1.0.2:{port}"), FAR]);
    let tunnel = wait::until("an entry", SOON, || {
        let flow = explained(port)?;
        Ok((flow["existing"] == true).then(|| flow["tunnel"].clone()))
    })?;
    for wg in ["wg0", "wg1"] {
        gateway.ip(&["link", "set", wg, "down"])?;
        wait::until(wg, SOON, || {
            Ok((gateway.tunnel(wg)?["health"] == "down").then_some(()))
        })?;
    }
    let flow = explained(port)?;
    assert_eq!(
        (&flow["reason"], &flow["tunnel"]),
        (&"flow_table".into(), &tunnel),
        "{flow}"
    );
    // A new one goes nowhere.
    assert_eq!(explained(port ^ 1)?["reason"], "no_tunnel");
    running.stop()?;
    Ok(())
});
