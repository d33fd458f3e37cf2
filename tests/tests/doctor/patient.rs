//! A gateway that faults are made on.

use std::cell::RefCell;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
pub(crate) use steer_tests::gateway_test as test;
use steer_tests::steerctl::{Gateway, Outcome};

/// What the gateway steers: IPv4 and IPv6 over `wg0` and `wg1`.
pub(crate) const STEER: &[&str] = &[
    "--iface",
    "lan0",
    "--tunnel",
    "wg0",
    "--tunnel",
    "wg1",
    "--prefix",
    "10.2.0.0/16",
    "--prefix",
    "fd00:2::/64",
];

/// One line of the doctor's report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) check: String,
    pub(crate) level: String,
    pub(crate) subject: String,
    pub(crate) message: String,
    pub(crate) fix: Option<String>,
}

impl Finding {
    fn of(value: &Value) -> Option<Self> {
        let text = |key: &str| value[key].as_str().map(ToOwned::to_owned);
        Some(Self {
            check: text("check")?,
            level: text("level")?,
            subject: text("subject")?,
            message: text("message")?,
            fix: text("fix"),
        })
    }
}

/// A gateway, and what the doctor said of it last.
pub(crate) struct Patient {
    pub(crate) gateway: Gateway,
    report: RefCell<Vec<Finding>>,
}

impl Patient {
    /// A gateway of this name with two TUN devices that forwards, before a start.
    pub(crate) fn unsteered(name: &str) -> Result<Self> {
        let gateway = Gateway::up(name, 2)?;
        gateway.sysctl("net.ipv4.ip_forward", "1")?;
        gateway.sysctl("net.ipv6.conf.all.forwarding", "1")?;
        gateway.ip(&["route", "add", "10.2.0.0/16", "dev", "wg0"])?;
        gateway.ip(&["-6", "route", "add", "fd00:2::/64", "dev", "wg0"])?;
        Self::new(gateway)
    }

    /// The same, steered.
    pub(crate) fn steered(name: &str, more: &[&str]) -> Result<Self> {
        let patient = Self::unsteered(name)?;
        patient.attach(more)?;
        Ok(patient)
    }

    pub(crate) fn new(gateway: Gateway) -> Result<Self> {
        let patient = Self {
            gateway,
            report: RefCell::default(),
        };
        patient.examine()?;
        Ok(patient)
    }

    /// Starts to steer, as [`STEER`] says.
    pub(crate) fn attach(&self, more: &[&str]) -> Result<()> {
        self.gateway.done(&[&["attach"], STEER, more].concat())?;
        self.examine().map(drop)
    }

    /// Runs commands of a shell on the gateway, `steerctl` among them.
    pub(crate) fn sh(&self, script: &str) -> Result<()> {
        let dir = self.gateway.program().parent().unwrap_or(Path::new("."));
        let path = std::env::var("PATH").unwrap_or_default();
        let outcome = Outcome::of(
            self.gateway
                .host()
                .command("sh")
                .args(["-ec", script])
                .env("PATH", format!("{}:{path}", dir.display()))
                .env("STEER_PIN_DIR", self.gateway.pin_dir()),
        )?;
        outcome.done().with_context(|| script.to_owned()).map(drop)
    }

    /// What the doctor says now.
    pub(crate) fn examine(&self) -> Result<Vec<Finding>> {
        let mut command = self.gateway.host().command(self.gateway.program());
        command
            .arg("--pin-dir")
            .arg(self.gateway.pin_dir())
            .args(["doctor", "--json"])
            .env_remove("RUST_LOG");
        let outcome = Outcome::of(&mut command)?;
        let findings = findings_of(&outcome)?;
        self.report.replace(findings.clone());
        Ok(findings)
    }

    /// Makes a fault of which nothing was said before, and must be now.
    fn has_fault(
        &self,
        level: &str,
        check: &str,
        subject: &str,
        says: &str,
        script: &str,
    ) -> Result<Fault<'_>> {
        is_ok(check, &self.report.borrow()).context("before the fault")?;
        self.sh(script)?;
        let findings = self.examine()?;
        let finding = findings.iter().find(|finding| {
            finding.check == check && finding.level == level && finding.subject == subject
        });
        let of_check: Vec<_> = findings.iter().filter(|f| f.check == check).collect();
        let finding =
            finding.with_context(|| format!("{script}: no {level} {check}: {of_check:#?}"))?;
        ensure!(
            finding.message.contains(says),
            "{says:?} is not in {finding:#?}"
        );
        let fix = finding
            .fix
            .clone()
            .with_context(|| format!("no fix: {finding:#?}"))?;
        Ok(Fault {
            patient: self,
            check: check.to_owned(),
            fix,
        })
    }

    /// Makes a fault that is a failure.
    pub(crate) fn fails(
        &self,
        check: &str,
        subject: &str,
        says: &str,
        script: &str,
    ) -> Result<Fault<'_>> {
        self.has_fault("fail", check, subject, says, script)
            .with_context(|| check.to_owned())
    }

    /// Makes a fault that is a warning.
    pub(crate) fn warns(
        &self,
        check: &str,
        subject: &str,
        says: &str,
        script: &str,
    ) -> Result<Fault<'_>> {
        self.has_fault("warn", check, subject, says, script)
            .with_context(|| check.to_owned())
    }
}

/// Nothing is wrong by this check.
fn is_ok(check: &str, findings: &[Finding]) -> Result<()> {
    let wrong: Vec<_> = findings
        .iter()
        .filter(|finding| finding.check == check && finding.level != "ok")
        .collect();
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

/// The findings of a report whose exit status and sums are what they should be.
pub(crate) fn findings_of(outcome: &Outcome) -> Result<Vec<Finding>> {
    let report = outcome.json()?;
    let findings = report["findings"].as_array().context("no findings")?;
    let findings: Vec<Finding> = findings.iter().filter_map(Finding::of).collect();
    for level in ["ok", "warn", "fail"] {
        let count = findings.iter().filter(|f| f.level == level).count();
        ensure!(
            report[level] == count,
            "{level}: {} of {count}",
            report[level]
        );
    }
    let is_failing = findings.iter().any(|finding| finding.level == "fail");
    ensure!(outcome.code == i32::from(is_failing), "{outcome:?}");
    ensure!(outcome.stderr.is_empty(), "{outcome:?}");
    Ok(findings)
}

/// A fault that was named.
#[must_use = "it is still there"]
pub(crate) struct Fault<'a> {
    patient: &'a Patient,
    check: String,
    pub(crate) fix: String,
}

impl Fault<'_> {
    /// Applies the fix, which is a command, and sees that it helps.
    pub(crate) fn cured(self) -> Result<()> {
        let fix = self.fix.clone();
        self.undone(&fix)
    }

    /// The same where the fix is no command: does this instead.
    pub(crate) fn undone(self, script: &str) -> Result<()> {
        self.patient.sh(script)?;
        let findings = self.patient.examine()?;
        is_ok(&self.check, &findings).with_context(|| format!("after {script}"))
    }
}
