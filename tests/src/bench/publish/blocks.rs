//! What the blocks of figures say.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use anyhow::{Context as _, Result};

use super::goals;
use crate::bench::{
    Report, balance, cost, failover, goodput, report::Figure, scale, side_by_side,
    side_by_side::Table, stickiness,
};

type Tables = fn(&Report) -> Vec<Table<'_>>;

/// The figures that are published, and how their reports become tables.
const FIGURES: [(&str, Tables); 6] = [
    ("cost", cost::tables),
    ("stickiness", stickiness::tables),
    ("balance", balance::tables),
    ("goodput", goodput::tables),
    ("failover", failover::tables),
    ("scale", scale::tables),
];

/// Whether it is the JSON of a figure that is published.
pub(super) fn is_published(file: &str) -> bool {
    FIGURES
        .iter()
        .any(|(figure, _)| file == format!("{figure}.json"))
}

/// The runs that are kept.
pub(super) struct Runs(BTreeMap<&'static str, Report>);

impl Runs {
    pub(super) fn read(dir: &Path) -> Result<Self> {
        let read = |(figure, _)| {
            let report = Report::read(&dir.join(format!("{figure}.json")))?;
            Ok((figure, report))
        };
        FIGURES
            .map(read)
            .into_iter()
            .collect::<Result<_>>()
            .map(Self)
    }

    pub(super) fn report(&self, figure: &str) -> Result<&Report> {
        self.0
            .get(figure)
            .with_context(|| format!("no figure is called {figure}"))
    }

    /// The block of this name.
    pub(super) fn block(&self, name: &str) -> Result<String> {
        if name == "comparison" {
            return self.comparison();
        }
        if name == "goals" {
            return goals::table(self.report("cost")?);
        }
        let report = self.report(name)?;
        let mut text = format!("{}\n\n", report.method);
        let _ = writeln!(
            text,
            "Linux {}, {} × {}; rounds: {}.",
            report.kernel, report.cpus, report.cpu, report.rounds
        );
        for reason in &report.left_out {
            let _ = writeln!(text, "\nNot measured: {reason}.");
        }
        let tables = FIGURES.iter().find(|(figure, _)| *figure == name);
        for table in tables.map(|(_, tables)| tables(report)).unwrap_or_default() {
            text.push_str(&table.markdown());
        }
        Ok(text)
    }

    /// The README's table: a line for each question, a column for each system.
    fn comparison(&self) -> Result<String> {
        let mut text = "|".to_owned();
        for (heading, _) in SYSTEMS {
            let _ = write!(text, " | {heading}");
        }
        let _ = writeln!(text, " |\n|---{}|", "|---".repeat(SYSTEMS.len()));
        for question in &QUESTIONS {
            let report = self.report(question.figure)?;
            let _ = write!(text, "| {}", question.says);
            for (_, system) in SYSTEMS {
                let figure = |group: &str| -> Option<&Figure> {
                    let group = report.groups.iter().find(|one| one.name == group)?;
                    group.figures.iter().find(|figure| figure.name == system)
                };
                let cells: Vec<_> = question
                    .groups
                    .iter()
                    .map(|group| figure(group).map_or_else(|| "–".to_owned(), question.cell))
                    .collect();
                let _ = write!(text, " | {}", cells.join(" / "));
            }
            text.push_str(" |\n");
        }
        Ok(text)
    }
}

/// Headings and names of the systems that the README compares.
const SYSTEMS: [(&str, &str); 8] = [
    ("kernel multipath, policy 3", "multipath, policy 3"),
    ("resilient next-hop group", "resilient group"),
    ("CONNMARK + ipset + `ip rule`", "CONNMARK + ipset + ip rule"),
    ("nft ct mark, numgen", "nft ct mark, numgen"),
    ("nft ct mark, jhash", "nft ct mark, jhash"),
    ("steer, `--hook ingress`", "steer ingress"),
    ("steer, `--hook egress`", "steer egress"),
    ("steer, `--hook mark`", "steer mark"),
];

/// A line of the README's table.
struct Question {
    says: &'static str,
    figure: &'static str,
    groups: &'static [&'static str],
    cell: side_by_side::Cell,
}

const QUESTIONS: [Question; 10] = [
    Question {
        says: "CPU per forwarded packet as a multiple of the bare TC redirect's: 1,000 flows",
        figure: "cost",
        groups: &["IPv4, 1000 flows, 8 tunnels, 1 prefix"],
        cell: side_by_side::ratio,
    },
    Question {
        says: "… 100,000 flows",
        figure: "cost",
        groups: &["IPv4, 100000 flows, 8 tunnels, 1 prefix"],
        cell: side_by_side::ratio,
    },
    Question {
        says: "… each packet starts a flow",
        figure: "cost",
        groups: &["IPv4, new flows only, 8 tunnels, 1 prefix"],
        cell: side_by_side::ratio,
    },
    Question {
        says: "% of live flows moved by weights 1:1:1:1 → 3:1:1:1",
        figure: "stickiness",
        groups: &["without NAT: weights 1:1:1:1 to 3:1:1:1, moved"],
        cell: side_by_side::median,
    },
    Question {
        says: "… by removing one of four tunnels / that had to",
        figure: "stickiness",
        groups: &[
            "without NAT: a tunnel is removed, moved",
            "without NAT: a tunnel is removed, had to move",
        ],
        cell: side_by_side::median,
    },
    Question {
        says: "… by its return / % of new flows that then use it",
        figure: "stickiness",
        groups: &[
            "without NAT: it returns, moved",
            "without NAT: it returns, new flows that use it",
        ],
        cell: side_by_side::median,
    },
    Question {
        says: "… by listing the same tunnels in another order",
        figure: "stickiness",
        groups: &["without NAT: listed in another order, moved"],
        cell: side_by_side::median,
    },
    Question {
        says: "10 flows over 4 tunnels: flows on the busiest by an even share, mean / worst",
        figure: "balance",
        groups: &["10 flows, 4 tunnels: flows on the busiest tunnel by an even share"],
        cell: side_by_side::mean_and_max,
    },
    Question {
        says: "10 TCP flows over 8 shaped tunnels: % of what the tunnels let through, up / down",
        figure: "goodput",
        groups: &[
            "10 flows, 8 tunnels, client to server: goodput",
            "10 flows, 8 tunnels, server to client: goodput",
        ],
        cell: side_by_side::median,
    },
    Question {
        says: "a tunnel drops everything in silence: seconds until UDP / TCP go on",
        figure: "failover",
        groups: &["UDP flows answered again", "TCP flows answered again"],
        cell: side_by_side::seconds,
    },
];
