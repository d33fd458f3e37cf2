//! `steerctl doctor`.

use std::fmt::Write;

use serde::Serialize;

use super::Colour;
use super::table::{Tone, paint};
use crate::plan::doctor::{Finding, Level, Section};

/// What on this machine would stop steering, or make it wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DoctorReport {
    /// Version of `steerctl`.
    pub version: String,
    /// The kernel's release.
    pub kernel: String,
    /// Where steer's maps are, or would be, pinned.
    pub pin_dir: String,
    /// Findings by section, the worst first.
    pub findings: Vec<FindingReport>,
    /// How many of them are ok.
    pub ok: usize,
    /// How many warn.
    pub warn: usize,
    /// How many fail.
    pub fail: usize,
}

/// One result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FindingReport {
    /// The check.
    pub check: &'static str,
    /// What it is about.
    pub section: &'static str,
    /// `ok`, `warn` or `fail`.
    pub level: &'static str,
    /// The device, prefix, … that it is about.
    pub subject: String,
    /// What is so.
    pub message: String,
    /// What makes it ok; `null` where it is.
    pub fix: Option<String>,
}

impl DoctorReport {
    /// Of findings, sorted by section.
    pub fn new(kernel: String, pin_dir: String, findings: Vec<Finding>) -> Self {
        let count = |level| findings.iter().filter(|found| found.level == level).count();
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            kernel,
            pin_dir,
            ok: count(Level::Ok),
            warn: count(Level::Warn),
            fail: count(Level::Fail),
            findings: findings
                .into_iter()
                .map(|finding| FindingReport {
                    check: finding.check,
                    section: finding.section.name(),
                    level: finding.level.name(),
                    subject: finding.subject,
                    message: finding.message,
                    fix: finding.fix,
                })
                .collect(),
        }
    }

    /// Lines under headings, and the sums in the last one.
    pub fn render(&self, colour: Colour) -> String {
        let widths = self
            .findings
            .iter()
            .map(|found| found.subject.chars().count());
        let width = widths.max().unwrap_or(0);
        let mut out = format!(
            "steer {}, kernel {}, pins in {}\n",
            self.version, self.kernel, self.pin_dir
        );
        for section in Section::ALL {
            let mut of_section = self
                .findings
                .iter()
                .filter(|found| found.section == section.name())
                .peekable();
            if of_section.peek().is_none() {
                continue;
            }
            // Writing to a String cannot fail.
            let _ = writeln!(out, "\n{}", section.name());
            for found in of_section {
                let tone = match found.level {
                    "fail" => Tone::Bad,
                    "warn" => Tone::Warning,
                    _ => Tone::Plain,
                };
                let level = paint(&format!("{:<4}", found.level), tone, colour);
                let FindingReport {
                    subject, message, ..
                } = found;
                let _ = writeln!(out, "  {level}  {subject:<width$}  {message}");
                if let Some(fix) = &found.fix {
                    let _ = writeln!(out, "{:1$}fix: {fix}", "", width + 10);
                }
            }
        }
        let _ = writeln!(
            out,
            "\n{} ok, {} warn, {} fail",
            self.ok, self.warn, self.fail
        );
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::json;
    use super::*;

    #[test]
    fn findings() {
        let finding = |section, level, subject: &str, fix: Option<&str>| Finding {
            check: "check",
            section,
            level,
            subject: subject.into(),
            message: "what is so".into(),
            fix: fix.map(ToOwned::to_owned),
        };
        let findings = vec![
            finding(Section::Kernel, Level::Ok, "6.18.44", None),
            finding(
                Section::Tunnels,
                Level::Fail,
                "wg1",
                Some("ip link set wg1 up"),
            ),
            finding(Section::Tunnels, Level::Warn, "group default", Some("look")),
            finding(Section::Tunnels, Level::Ok, "wireguard", None),
        ];
        let report = DoctorReport::new("6.18.44".into(), "/sys/fs/bpf/steer".into(), findings);
        insta::assert_snapshot!(report.render(Colour::Off));
        insta::assert_snapshot!(json(&report).expect("JSON"));
        let coloured = report.render(Colour::On);
        assert!(
            coloured.contains("\x1b[1;31mfail\x1b[0m  wg1"),
            "{coloured}"
        );
    }
}
