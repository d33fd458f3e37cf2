//! `run` as a service: what the manager hears, what it needs to be allowed, and what a restart costs.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use steer_tests::lab::{attach_auto, wait};
use steer_tests::steerctl::{Flood, Gateway, Manager, Outcome, Refusal, Running, Sender};

use crate::fixture::{SOON, Site, arrive, one_group, ports, test};

/// The unit as it is packaged.
const UNIT: &str = include_str!("../../../packaging/systemd/steer.service");

/// What the unit lets the service do, as setpriv names it.
fn capabilities() -> Result<Vec<String>> {
    let line = UNIT
        .lines()
        .find_map(|line| line.strip_prefix("CapabilityBoundingSet="))
        .context("the unit bounds nothing")?;
    let name = |word: &str| word.trim_start_matches("CAP_").to_lowercase();
    Ok(line.split_whitespace().map(name).collect())
}

/// `steerctl` in the gateway's namespace, as root who has only these capabilities.
fn confined<'a>(gateway: &Gateway, capabilities: impl Iterator<Item = &'a str>) -> Command {
    let bounding = capabilities.fold("-all".to_owned(), |set, name| set + ",+" + name);
    let mut command = gateway.within_namespace("setpriv");
    command
        .args([
            "--bounding-set",
            &bounding,
            "--inh-caps=-all",
            "--no-new-privs",
        ])
        .arg(gateway.program())
        .arg("--pin-dir")
        .arg(gateway.pin_dir())
        .env_remove("RUST_LOG");
    command
}

/// A site with a bpffs, as systemd mounts one, and tunnels with addresses, so that they are probed.
fn probed(name: &str) -> Result<Site> {
    let text = one_group(&[("wg0", 1), ("wg1", 1)]).replace("probe = false\n", "");
    let site = Site::up(name, 2, &text)?;
    for k in 0..2 {
        let (address, device) = (format!("10.9.{k}.1/30"), format!("wg{k}"));
        site.gateway
            .ip(&["addr", "add", &address, "dev", &device])?;
    }
    let pins = site.gateway.pin_dir();
    std::fs::create_dir_all(&pins)?;
    let mounted = Command::new("mount")
        .args(["-t", "bpf", "bpf"])
        .arg(&pins)
        .status()?;
    anyhow::ensure!(mounted.success(), "mount: {mounted}");
    Ok(site)
}

/// Why setpriv is not there, if it is not.
fn lacks_setpriv() -> bool {
    Command::new("setpriv").arg("--version").output().is_err()
}

test!(with_just_the_capabilities_of_the_unit, |name| {
    if lacks_setpriv() {
        println!("SKIP {name}: needs setpriv (package util-linux)");
        return Ok(());
    }
    let site = probed(name)?;
    let gateway = &site.gateway;
    let manager = Manager::listen(gateway.dir())?;
    let before = gateway.traces()?;
    let _readers = site.readers(2)?;
    let capabilities = capabilities()?;
    let all = || capabilities.iter().map(String::as_str);
    // It needs each of them.
    for left_out in all() {
        let mut command = confined(gateway, all().filter(|name| *name != left_out));
        let outcome = Outcome::of(command.args(["run", "--config", site.file()]))?;
        outcome.refused(&Refusal {
            code: 1,
            message: &format!("not allowed: CAP_{} missing", left_out.to_uppercase()),
            hint: Some("run it as root: sudo steerctl …"),
        })?;
        assert_eq!(gateway.traces()?, before, "{left_out}");
    }

    // And no more: start, probes, another hook, reading again, end; and start again.
    for keep in [&["--keep"][..], &[]] {
        let mut command = confined(gateway, all());
        command.args(["run", "--config", site.file()]).args(keep);
        manager.hold(&mut command, Duration::from_secs(30));
        let running = Running::ready(&mut command)?;
        let lines = manager.hears("READY=1")?;
        let status = format!(
            "STATUS=ready default: 10.2.0.0/16 over wg0=1@0 wg1=1@1 from lan0 (ingress, {})",
            attach_auto()
        );
        assert!(lines.contains(&status), "{lines:?}");
        manager.hears("WATCHDOG=1")?;
        wait::until("answers to probes", SOON, || {
            let answers = |tunnel| Ok(gateway.tunnel(tunnel)?["rtt_ms"].is_number());
            let all: Result<Vec<bool>> = ["wg0", "wg1"].map(answers).into_iter().collect();
            Ok(all?.into_iter().all(|answers| answers).then_some(()))
        })?;

        let text = site.text()?;
        for hook in ["mark", "egress", "ingress"] {
            site.write(&format!(
                "hook = {hook:?}\n{}",
                text.replace("weight = 1", "weight = 2")
            ))?;
            running.signal(Signal::SIGHUP)?;
            let lines = manager.hears("RELOADING=1")?;
            assert!(
                lines.iter().any(|line| line.starts_with("MONOTONIC_USEC=")),
                "{lines:?}"
            );
            let lines = manager.hears("READY=1")?;
            assert!(
                lines.iter().any(|line| line.contains("wg0=2@0")),
                "{lines:?}"
            );
            assert!(lines.iter().any(|line| line.contains(hook)), "{lines:?}");
        }
        site.write("seed = \n")?;
        running.signal(Signal::SIGHUP)?;
        manager.hears("RELOADING=1")?;
        let lines = manager.hears("READY=1")?;
        assert!(
            lines
                .iter()
                .any(|line| line.starts_with("STATUS=configuration refused: ")),
            "{lines:?}"
        );
        site.write(&text)?;

        running.stop()?;
        let lines = manager.hears("STOPPING=1")?;
        let status = if keep.is_empty() {
            "STATUS=detaching"
        } else {
            "STATUS=stopped; packets keep being steered (--keep)"
        };
        assert!(lines.iter().any(|line| line == status), "{lines:?}");
        if keep.is_empty() {
            assert_eq!(gateway.traces()?, before);
        } else {
            assert_ne!(gateway.traces()?, before);
        }
    }
    Ok(())
});

/// Stopped and started as systemd does it, and killed: not one datagram is lost, and no flow moves.
fn restarted_under_traffic(name: &str, attach: &str) -> Result<()> {
    let site = Site::up(name, 3, &one_group(&[("wg0", 1), ("wg1", 2), ("wg2", 1)]))?;
    let gateway = &site.gateway;
    let readers = site.readers(3)?;
    let args = ["--keep", "--attach", attach];
    let mut running = site.run(&args)?;
    let mut sender = Sender::new(gateway.client(), 60)?;
    sender.round()?;
    arrive(&readers, 60)?;
    let placed = ports(&readers);
    let flood = Flood::start(sender, 3_000);
    for round in 0..6 {
        if round % 3 == 2 {
            running.kill()?;
        } else {
            running.stop()?;
        }
        running = site.run(&args)?;
    }
    let sent = flood.stop()?.sent();
    arrive(&readers, sent)?;
    println!("6 restarts, {sent} datagrams sent, all arrived, 0 of 60 flows moved");
    assert_eq!(ports(&readers), placed, "no flow moved");
    let doubles: u64 = readers.iter().map(|reader| reader.seen().doubles).sum();
    assert_eq!(doubles, 0);
    running.stop()?;
    gateway.done(&["detach"]).map(drop)
}

test!(restarts_lose_nothing, |name| restarted_under_traffic(
    name, "tcx"
));
test!(restarts_lose_nothing_on_clsact, |name| {
    restarted_under_traffic(name, "clsact")
});
