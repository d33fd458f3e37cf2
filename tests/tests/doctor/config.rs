//! The configuration file, tiers and followed routes.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use steer_tests::lab::wait;
use steer_tests::steerctl::{Outcome, Running};

use crate::patient::{Finding, Patient, findings_of, test};

/// Where a patient's configuration file is.
fn file(patient: &Patient) -> Result<String> {
    let path = patient.gateway.host().dir().join("steer.toml");
    Ok(path.to_str().context("a path")?.to_owned())
}

/// Writes it.
fn write(patient: &Patient, of_group: &str, tunnels: &[(&str, &str)]) -> Result<String> {
    let mut text = format!("[[group]]\nname = \"default\"\niface = [\"lan0\"]\n{of_group}\n");
    for (name, rest) in tunnels {
        text.extend(["[[group.tunnel]]\nname = \"", name, "\"\n", rest, "\n"]);
    }
    let path = file(patient)?;
    fs::write(&path, text)?;
    Ok(path)
}

const PREFIXES: &str = "prefixes = [\"10.2.0.0/16\", \"fd00:2::/64\"]";
const BOTH: [(&str, &str); 2] = [("wg0", "weight = 1"), ("wg1", "weight = 1")];

/// What a check says.
fn told(patient: &Patient, args: &[&str], check: &str) -> Result<Finding> {
    let mut command = patient.gateway.command();
    command.args(["doctor", "--json"]).args(args);
    let findings = findings_of(&Outcome::of(&mut command)?)?;
    let mut findings = findings.into_iter();
    findings
        .find(|finding| finding.check == check)
        .with_context(|| format!("no {check}"))
}

fn short(finding: &Finding) -> (&str, &str) {
    (&finding.level, &finding.message)
}

/// Starts to steer by the file.
fn run(patient: &Patient, path: &str) -> Result<Running> {
    let running = patient.gateway.run(&["--config", path])?;
    patient.examine()?;
    Ok(running)
}

test!(a_file_before_a_start, |name| {
    let patient = Patient::unsteered(name)?;
    let path = write(&patient, PREFIXES, &BOTH)?;
    let by_file = ["--config", path.as_str()];
    let finding = told(&patient, &by_file, "config")?;
    assert_eq!(short(&finding), ("ok", format!("{path} is valid").as_str()));
    let finding = told(&patient, &by_file, "discovery")?;
    assert_eq!(
        short(&finding),
        (
            "ok",
            "a start would steer 10.2.0.0/16 fd00:2::/64 over wg0 wg1"
        )
    );
    let wrong = [("wg0", "wieght = 1"), ("wg1", "tier = -1")];
    write(&patient, PREFIXES, &wrong)?;
    let finding = told(&patient, &by_file, "config")?;
    assert_eq!(finding.level, "fail");
    assert!(finding.message.contains("wieght"), "{finding:?}");
    assert_eq!(finding.fix, Some(format!("steerctl check {path}")));
    write(&patient, PREFIXES, &[("wg9", "weight = 1")])?;
    let finding = told(&patient, &by_file, "config")?;
    assert_eq!(
        short(&finding),
        (
            "fail",
            format!("{path} would be refused: tunnel wg9: no such device").as_str()
        )
    );
    // One that is asked for has to be there.
    fs::remove_file(&path)?;
    assert_eq!(told(&patient, &by_file, "config")?.level, "fail");
    assert_eq!(told(&patient, &[], "config")?.level, "ok");
    Ok(())
});

test!(a_file_that_is_not_what_runs, |name| {
    let patient = Patient::unsteered(name)?;
    let path = write(&patient, PREFIXES, &BOTH)?;
    let running = run(&patient, &path)?;
    let same = told(&patient, &[], "config")?;
    assert_eq!(
        short(&same),
        ("ok", format!("{path} is what is steered").as_str())
    );
    let edited = [("wg0", "weight = 3"), ("wg1", "weight = 1")];
    write(&patient, PREFIXES, &edited)?;
    let says = "differs from what is steered: group default: tunnel wg0: weight 1 becomes 3";
    let fault = patient.warns("config", "config", says, "true")?;
    assert_eq!(fault.fix, format!("kill -HUP {}", running.pid()));
    patient.sh(&fault.fix)?;
    wait::until("the reload", Duration::from_secs(10), || {
        Ok((patient.gateway.tunnel("wg0")?["weight"] == 3).then_some(()))
    })?;
    fault.undone("true")?;
    patient
        .warns(
            "config",
            "config",
            "weight 7 becomes 3",
            "steerctl weights wg0=7",
        )?
        .undone(&format!("steerctl weights wg0=7 --save --config {path}"))?;
    patient
        .fails(
            "config",
            "config",
            "",
            &format!("echo 'group = 7' > {path}"),
        )?
        .undone(&format!("rm {path}; steerctl detach"))?;
    drop(running);
    Ok(())
});

test!(backups, |name| {
    let patient = Patient::unsteered(name)?;
    let tiers = [("wg0", "tier = 0"), ("wg1", "tier = 1")];
    let path = write(&patient, PREFIXES, &tiers)?;
    let running = run(&patient, &path)?;
    patient
        .warns(
            "tiers",
            "group default",
            "no tunnel of tier 0 takes new flows: those of tier 1 do",
            "steerctl drain wg0",
        )?
        .undone("steerctl undrain wg0")?;
    patient
        .warns(
            "tiers",
            "group default",
            "no other tier than 0 could take new flows: it has no backup",
            "steerctl disable wg1",
        )?
        .undone("steerctl enable wg1")?;
    running.stop().map(drop)
});

test!(routes_that_nobody_follows, |name| {
    let patient = Patient::unsteered(name)?;
    let path = write(&patient, "follow-routes = true", &BOTH)?;
    let mut running = run(&patient, &path)?;
    let followed = told(&patient, &[], "followed_routes")?;
    assert_eq!(short(&followed), ("ok", "2 prefixes are those of routes"));
    let says = "no route leads over its tunnels, so nothing is steered";
    let gone = "ip route del 10.2.0.0/16; ip -6 route del fd00:2::/64";
    patient.sh(gone)?;
    wait::until("no prefixes", Duration::from_secs(10), || {
        let groups = &patient.gateway.json(&["status"])?["groups"];
        Ok((groups[0]["prefixes"] == serde_json::json!([])).then_some(()))
    })?;
    let fault = patient.warns("followed_routes", "group default", says, "true")?;
    patient.sh("ip route add 10.2.0.0/16 nexthop dev wg0 nexthop dev wg1")?;
    wait::until("a prefix", Duration::from_secs(10), || {
        let groups = &patient.gateway.json(&["status"])?["groups"];
        Ok((groups[0]["prefixes"] != serde_json::json!([])).then_some(()))
    })?;
    fault.undone("true")?;
    running.signal(nix::sys::signal::Signal::SIGKILL)?;
    running.ended()?;
    let says = "no steerctl run follows the routes: its 1 prefixes stay as they are";
    let fault = patient.warns("followed_routes", "group default", says, "true")?;
    fault.undone("steerctl detach")
});

test!(a_probe_target_that_never_answers, |name| {
    let patient = Patient::unsteered(name)?;
    let path = write(
        &patient,
        PREFIXES,
        &[
            ("wg0", "probe = { target = \"10.9.0.99\" }"),
            ("wg1", "weight = 1"),
        ],
    )?;
    let running = run(&patient, &path)?;
    // A TUN device has no address, so that nobody can be asked.
    let finding = told(&patient, &[], "probe_target")?;
    assert_eq!(
        (finding.level.as_str(), finding.subject.as_str()),
        ("warn", "wg0")
    );
    assert!(finding.message.contains("is never asked"), "{finding:?}");
    patient.sh("ip address add 10.9.0.1/24 dev wg0")?;
    let finding = wait::until("a line about the target", Duration::from_secs(20), || {
        let finding = told(&patient, &[], "probe_target")?;
        let has_asked = finding.message.contains("has never answered");
        Ok(has_asked.then_some(finding))
    })?;
    assert_eq!(finding.subject, "wg0");
    let says = "its probe target 10.9.0.99 has never answered for ";
    assert!(finding.message.starts_with(says), "{finding:?}");
    let fix = finding.fix.context("a fix")?;
    assert!(fix.starts_with("ping -I wg0 10.9.0.99; "), "{fix}");
    running.stop().map(drop)
});
