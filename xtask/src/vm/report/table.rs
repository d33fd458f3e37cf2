//! The tables that close a run.

use std::{collections::BTreeSet, fmt::Write as _};

use super::Report;
use crate::{libtest::Tally, vm::plan::TIERS};

/// The closing tables: kernel × tier, and what each kernel's verifier walked.
pub(crate) fn tables(reports: &[Report]) -> String {
    let mut text = row(
        ["kernel", "package", "release", "tier"],
        ["passed", "failed", "skipped"],
    );
    for report in reports {
        let version = report.version.as_deref().unwrap_or("-");
        let release = report.release.as_deref().unwrap_or("did not start");
        let mut line = |tier: &str, tallies: &[&Tally]| {
            let sum = |count: fn(&Tally) -> usize| -> String {
                let counts = tallies.iter().map(|tally| count(tally));
                counts.sum::<usize>().to_string()
            };
            text += &row(
                [&report.kernel, version, release, tier],
                [
                    &sum(Tally::passed),
                    &sum(|tally| tally.failed),
                    &sum(|tally| tally.skipped.len()),
                ],
            );
        };
        if report.own != Tally::default() {
            line("-", &[&report.own]);
        }
        for tier in TIERS {
            let runs = report.runs.iter().filter(|run| run.job.tier == tier);
            let tallies: Vec<_> = runs.map(|run| &run.tally).collect();
            if !tallies.is_empty() {
                line(tier.name(), &tallies);
            }
        }
    }
    text.push_str(&verifier_table(reports));
    text
}

fn row(names: [&str; 4], counts: [&str; 3]) -> String {
    let [kernel, version, release, tier] = names;
    let [passed, failed, skipped] = counts;
    format!("{kernel:10} {version:20} {release:28} {tier:8} {passed:>6} {failed:>6} {skipped:>7}\n")
}

fn verifier_table(reports: &[Report]) -> String {
    let programs: BTreeSet<_> = reports
        .iter()
        .flat_map(|report| report.verified.keys())
        .collect();
    let reports: Vec<_> = reports
        .iter()
        .filter(|report| !report.verified.is_empty())
        .collect();
    if programs.is_empty() {
        return String::new();
    }
    let mut text = format!("\n{:24}", "verified instructions");
    for report in &reports {
        let _ = write!(text, " {:>8}", report.kernel);
    }
    text.push('\n');
    for program in programs {
        let _ = write!(text, "{program:24}");
        for report in &reports {
            match report.verified.get(program) {
                Some(verified) => {
                    let _ = write!(text, " {verified:>8}");
                }
                None => text.push_str("        -"),
            }
        }
        text.push('\n');
    }
    text
}
