//! What is pinned, who looks after it, and what this process may do.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use steer_tests::lab::attach_modes;
use steer_tests::steerctl::{Gateway, Outcome, Running, has};

use crate::patient::{Finding, Patient, findings_of, test};

test!(a_daemon_is_missed, |name| {
    let patient = Patient::unsteered(name)?;
    let running = patient
        .gateway
        .run(&[crate::patient::STEER, &["--keep"]].concat())?;
    patient.examine()?;
    // It is gone when its files are, before this test has taken leave of it.
    let pid = running.pid();
    let kill =
        format!("kill -9 {pid}; until grep -q '^State:.Z' /proc/{pid}/status; do sleep 0.01; done");
    let fault = patient.warns("daemon", "daemon", "no steerctl run is there", &kill)?;
    drop(running);
    let args: Vec<_> = fault
        .fix
        .split(' ')
        .skip(1)
        .map(ToOwned::to_owned)
        .collect();
    let mut command = patient.gateway.command();
    command.args(&args);
    let running = Running::ready(&mut command)?;
    fault.undone("true")?;
    running.kill()
});

/// Says that the pins are of another layout; `None` where there is no bpftool.
fn set_layout(gateway: &Gateway, version: u8) -> String {
    let settings = gateway.pin("settings");
    let rest = " 0".repeat(size_of::<steer_common::abi::Settings>() - 1);
    let settings = settings.display();
    format!("bpftool map update pinned {settings} key 0 0 0 0 value {version}{rest}")
}

test!(pins_that_cannot_be_used, |name| {
    if !has(name, &["bpftool"]) {
        return Ok(());
    }
    for attach in attach_modes() {
        unusable_pins(name, attach)?;
    }
    Ok(())
});

fn unusable_pins(name: &str, attach: &str) -> Result<()> {
    let attach = ["--attach", attach];
    let patient = Patient::steered(name, &attach)?;
    let unfinished = set_layout(&patient.gateway, 0);
    patient
        .fails(
            "pins",
            "pins",
            "left by a start that did not finish",
            &unfinished,
        )?
        .cured()?;
    patient.attach(&attach)?;
    let other = set_layout(&patient.gateway, 77);
    patient
        .fails("pins", "pins", "pinned by steer with map layout 77", &other)?
        .undone("steerctl detach")?;
    patient.attach(&attach)?;
    let flows = patient.gateway.pin("flows");
    let flows = flows.display();
    let other =
        format!("rm {flows}; bpftool map create {flows} type hash key 8 value 8 entries 4 name x");
    patient
        .fails(
            "pins",
            "pins",
            "the key's size is 8, this steer needs 40",
            &other,
        )?
        .undone(&format!("rm {flows}; steerctl detach"))?;
    // Nothing of it is in the way of the next one.
    patient.attach(&attach)
}

test!(pins_of_another_namespace, |name| {
    let patient = Patient::steered(name, &[])?;
    let mut command = Command::new(patient.gateway.program());
    command
        .args([
            "--netns",
            patient.gateway.client().netns(),
            "doctor",
            "--json",
            "--pin-dir",
        ])
        .arg(patient.gateway.pin_dir());
    let findings = findings_of(&Outcome::of(&mut command)?)?;
    let pins = findings.iter().find(|finding| finding.check == "pins");
    let pins = pins.context("no line")?;
    assert_eq!(pins.level, "fail");
    assert!(
        pins.message
            .ends_with(": steers in another network namespace"),
        "{pins:?}"
    );
    assert!(
        pins.fix.as_ref().is_some_and(|fix| fix.contains("--netns")),
        "{pins:?}"
    );
    Ok(())
});

/// What the doctor says, without some capabilities.
fn told(patient: &Patient, without: Option<&str>) -> Result<Vec<Finding>> {
    let mut command = if let Some(capabilities) = without {
        let mut command = patient.gateway.within_namespace("setpriv");
        command
            .args(["--bounding-set", capabilities, "--inh-caps", capabilities])
            .arg(patient.gateway.program());
        command
    } else {
        let program = patient.gateway.program().to_str().context("a path")?;
        patient.gateway.within_namespace(program)
    };
    command
        .arg("--pin-dir")
        .arg(patient.gateway.pin_dir())
        .args(["doctor", "--json"]);
    findings_of(&Outcome::of(&mut command)?)
}

fn level<'a>(findings: &'a [Finding], check: &str) -> Option<&'a str> {
    let of_check = findings.iter().filter(|finding| finding.check == check);
    of_check.map(|finding| finding.level.as_str()).next()
}

test!(without_capabilities, |name| {
    if !has(name, &["setpriv"]) {
        return Ok(());
    }
    let patient = Patient::unsteered(name)?;
    let before = patient.gateway.traces()?;
    let all = told(&patient, None)?;
    assert_eq!(level(&all, "capabilities"), Some("ok"));
    assert_eq!(level(&all, "bpffs"), Some("ok"));
    assert_eq!(level(&all, "netfilter"), Some("ok"));
    assert_eq!(level(&all, "programs"), Some("ok"));
    assert_eq!(
        level(&all, "discovery"),
        Some("fail"),
        "there is no WireGuard device"
    );
    let none = told(&patient, Some("-all"))?;
    assert_eq!(level(&none, "capabilities"), Some("fail"));
    assert_eq!(
        level(&none, "netfilter"),
        Some("warn"),
        "its rules cannot be read"
    );
    assert_eq!(level(&none, "programs"), None, "not tried");
    assert_eq!(level(&none, "discovery"), None, "WireGuard tells nothing");
    let no_mount = told(&patient, Some("-sys_admin"))?;
    assert_eq!(level(&no_mount, "capabilities"), Some("ok"));
    assert_eq!(level(&no_mount, "bpffs"), Some("fail"));
    assert_eq!(
        patient.gateway.traces()?,
        before,
        "the doctor leaves nothing"
    );
    Ok(())
});

test!(a_pin_directory_that_cannot_be, |name| {
    let patient = Patient::unsteered(name)?;
    let pins = patient.gateway.pin_dir();
    let pins = pins.display();
    patient
        .fails(
            "bpffs",
            "bpffs",
            "not a directory",
            &format!("touch {pins}"),
        )?
        .undone(&format!("rm {pins}"))?;
    patient
        .fails(
            "bpffs",
            "bpffs",
            "there is something else in it",
            &format!("mkdir {pins}; touch {pins}/file"),
        )?
        .undone(&format!("rm -r {pins}"))
});

test!(the_report_for_people, |name| {
    let patient = Patient::steered(name, &[])?;
    patient.sh("ip link set wg1 mtu 1300; sysctl -qw net.ipv4.ip_forward=0")?;
    let outcome = Outcome::of(patient.gateway.command().arg("doctor"))?;
    assert_eq!((outcome.code, outcome.stderr.as_str()), (1, ""));
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    let heading = lines
        .iter()
        .position(|line| *line == "mtu")
        .context("no heading")?;
    // Columns are as wide as the kernel's release, at least.
    let words: Vec<_> = lines[heading + 1].split_whitespace().collect();
    ensure!(
        lines[heading + 1].starts_with("  fail  ")
            && words
                .join(" ")
                .starts_with("fail group default the tunnels' MTUs differ"),
        "{lines:#?}"
    );
    ensure!(
        lines[heading + 2].trim() == "fix: ip link set wg0 mtu 1300",
        "{lines:#?}"
    );
    ensure!(lines[heading + 3].starts_with("  ok    "), "{lines:#?}");
    let last = lines.last().context("no lines")?;
    ensure!(
        last.ends_with(" ok, 2 warn, 1 fail"),
        "no daemon, no forwarding: {last}"
    );
    Ok(())
});
