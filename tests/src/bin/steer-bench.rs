//! `steer-bench`: what steer costs, as ratios measured in one run.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use clap::{Parser, Subcommand};
use steer_tests::{
    bench::{
        Alone, Group, Report, Request, balance, cost, failover, goodput, publish, scale,
        side_by_side::Table, smoke, stickiness,
    },
    lab::wait,
    program::{bench, netns},
    steerctl,
};

#[derive(Parser)]
#[command(
    about = "What steer costs, as ratios measured in one run; without a command, all that is published"
)]
struct Cli {
    #[command(subcommand)]
    what: Option<What>,
}

/// What is measured where nothing is asked for.
const ALL: [&str; 6] = [
    "cost",
    "scale",
    "failover",
    "stickiness",
    "balance",
    "goodput",
];

#[derive(Subcommand)]
enum What {
    /// Nanoseconds per packet of the loaded program, against a bare redirect
    Program {
        /// Interleaved rounds; the median counts
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..))]
        rounds: u16,
        /// Only the cases whose name contains this
        #[arg(long)]
        only: Option<String>,
        /// Where to put the figures as JSON
        #[arg(long, default_value = "target/bench/program.json")]
        out: PathBuf,
    },
    /// Nanoseconds of CPU per packet that a gateway forwards: steer, the kernel's routes, netfilter
    Cost {
        /// Interleaved rounds; the median counts
        #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u16).range(1..=39))]
        rounds: u16,
        /// The whole matrix, up to 1,000,000 flows
        #[arg(long)]
        full: bool,
        /// One scenario in half a minute; fails where a ratio is far from what it should be
        #[arg(long, conflicts_with_all = ["rounds", "full", "scenario", "peer"])]
        smoke: bool,
        /// Only scenarios whose name contains this, as in "IPv6" or "64 tunnels"
        #[arg(long)]
        scenario: Option<String>,
        /// Only systems whose name contains this, and the bare redirect
        #[arg(long)]
        peer: Option<String>,
        /// Where to put the figures as JSON [default: target/bench/cost.json, or cost-smoke.json]
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Live flows that change their tunnel, and connections that break, by changes of weights and tunnels
    Stickiness(Lab),
    /// How evenly 2 to 32 flows are spread over 2 to 8 tunnels
    Balance {
        #[command(flatten)]
        lab: Lab,
        /// Placements of each number of flows in each round
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1_000))]
        tries: u16,
    },
    /// What TCP flows get of shaped tunnels, in both directions
    Goodput {
        #[command(flatten)]
        lab: Lab,
        /// All of 2 to 32 flows over 2 to 8 tunnels
        #[arg(long)]
        full: bool,
    },
    /// Memory, and times of the commands, with 1,048,576 live flows
    Scale {
        /// How often
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
        rounds: u16,
        /// Where to put the figures as JSON
        #[arg(long, default_value = "target/bench/scale.json")]
        out: PathBuf,
    },
    /// A tunnel that dies silently: how long until its flows are answered
    Failover(Lab),
    /// Keep the runs in target/bench, and write docs/benchmarks.md, its plots and the README's comparison anew
    Publish,
}

/// What is measured in rounds over several systems.
#[derive(clap::Args)]
struct Lab {
    /// Interleaved rounds, each with other ports and hash seeds; `STEER_SEED` repeats those of a run
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Only systems whose name contains this; the figures are not fit to be published
    #[arg(long)]
    peer: Option<String>,
    /// Where to put the figures as JSON, instead of target/bench/NAME.json, or NAME-part.json of some systems
    #[arg(long)]
    out: Option<PathBuf>,
}

impl Lab {
    fn request(&self) -> Result<Request> {
        Request::new(self.rounds.into(), self.peer.clone())
    }
}

fn main() -> ExitCode {
    let done = match Cli::parse().what {
        Some(what) => run(what),
        None => ALL.iter().try_for_each(|name| {
            let what = Cli::parse_from(["steer-bench", name]).what;
            what.map_or(Ok(()), run)
        }),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("steer-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(what: What) -> Result<()> {
    match what {
        What::Program { rounds, only, out } => {
            ready(netns::missing())?;
            let rounds = rounds.into();
            let method = "BPF_PROG_TEST_RUN of single programs: no driver, no stack, no device";
            let mut report = Report::new("program", method, rounds);
            let series = bench::run(rounds, only.as_deref())?;
            let group = Group::new("single programs", "ns", &series)?;
            Table::of_one(&group).print(&mut std::io::stdout())?;
            report.groups.push(group);
            finish(&report, &out)
        }
        What::Cost {
            rounds,
            full,
            smoke,
            scenario,
            peer,
            out,
        } => {
            let _alone = prepare()?;
            let filter = part(scenario.as_deref(), peer.as_deref());
            let (plan, rounds, usual_out) = if smoke {
                (smoke::plan(), smoke::ROUNDS, "cost-smoke.json")
            } else {
                let plan = cost::plan(full, scenario.as_deref(), peer.as_deref())?;
                let usual = if filter.is_some() {
                    "cost-part.json"
                } else {
                    "cost.json"
                };
                (plan, rounds.into(), usual)
            };
            let out = out.unwrap_or_else(|| Path::new("target/bench").join(usual_out));
            let mut report = cost::run(&plan, rounds, |group| {
                // A closed pipe is no reason to lose the figures.
                let _ = Table::of_one(group).print(&mut std::io::stdout());
            })?;
            report.filter = filter;
            finish(&report, &out)?;
            let outside: Vec<_> = report.groups.iter().flat_map(smoke::outside).collect();
            anyhow::ensure!(!smoke || outside.is_empty(), outside.join("\n"));
            Ok(())
        }
        What::Stickiness(lab) => {
            let _alone = prepare()?;
            let report = stickiness::run(&lab.request()?, say)?;
            show(&report, &stickiness::tables(&report), lab.out)
        }
        What::Balance { lab, tries } => {
            let _alone = prepare()?;
            let report = balance::run(&lab.request()?, tries.into(), say)?;
            show(&report, &balance::tables(&report), lab.out)
        }
        What::Goodput { lab, full } => {
            let _alone = prepare()?;
            let report = goodput::run(&lab.request()?, full, say)?;
            show(&report, &goodput::tables(&report), lab.out)
        }
        What::Scale { rounds, out } => {
            let _alone = prepare()?;
            let report = scale::run(rounds.into())?;
            show(&report, &scale::tables(&report), Some(out))
        }
        What::Publish => {
            let root = Path::new(".");
            for run in publish::keep(Path::new("target/bench"), root)? {
                println!("{run}");
            }
            for (path, text) in publish::render(root)? {
                std::fs::write(&path, text)?;
                println!("{}", path.display());
            }
            Ok(())
        }
        What::Failover(lab) => {
            let _alone = prepare()?;
            let report = failover::run(&lab.request()?, say)?;
            show(&report, &failover::tables(&report), lab.out)
        }
    }
}

/// What part of the matrix is asked for, if not all of it.
fn part(scenario: Option<&str>, peer: Option<&str>) -> Option<String> {
    let words = [("scenario", scenario), ("peer", peer)];
    let words: Vec<_> = words
        .iter()
        .filter_map(|(what, name)| name.map(|name| format!("{what} {name:?}")))
        .collect();
    (!words.is_empty()).then(|| words.join(", "))
}

fn prepare() -> Result<Alone> {
    ready(steerctl::missing())?;
    wait::catch_signals()?;
    Alone::new()
}

/// What is measured takes minutes: each part that is done is said.
fn say(done: &str) {
    eprintln!("{done}");
}

/// Prints what was measured, and writes it, with its plots if it is complete.
fn show(report: &Report, tables: &[Table<'_>], out: Option<PathBuf>) -> Result<()> {
    anyhow::ensure!(
        !report.groups.is_empty(),
        "nothing was measured: {}",
        report.left_out.join("; ")
    );
    for table in tables {
        // A closed pipe is no reason to lose the figures.
        let _ = table.print(&mut std::io::stdout());
    }
    let part = report.filter.as_ref().map_or("", |_| "-part");
    let usual = || Path::new("target/bench").join(format!("{}{part}.json", report.figure));
    let out = out.unwrap_or_else(usual);
    finish(report, &out)?;
    if report.filter.is_none() {
        for (name, plot) in publish::plots::of(report)? {
            std::fs::write(out.with_file_name(name), plot)?;
        }
    }
    Ok(())
}

fn ready(missing: Option<String>) -> Result<()> {
    match missing {
        Some(reason) => anyhow::bail!(reason),
        None => Ok(()),
    }
}

fn finish(report: &Report, out: &Path) -> Result<()> {
    report.write(out)?;
    // A closed pipe is no reason to fail.
    let _ = writeln!(std::io::stdout(), "\n{}", out.display());
    Ok(())
}
