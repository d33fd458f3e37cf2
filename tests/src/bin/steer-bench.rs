//! `steer-bench`: what the programs cost, as ratios measured in one run.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use serde_json::json;
use steer_tests::program::{
    bench::{self, Line},
    netns,
};

#[derive(Parser)]
#[command(about = "What steer costs, as ratios measured in one run")]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Nanoseconds per packet of the loaded program, against a bare redirect
    Program {
        /// Interleaved rounds; the median counts
        #[arg(long, default_value_t = 30)]
        rounds: usize,
        /// Only the cases whose name contains this
        #[arg(long)]
        only: Option<String>,
        /// Where to put the figures as JSON
        #[arg(long, default_value = "target/bench/program.json")]
        out: PathBuf,
    },
}

fn main() -> ExitCode {
    let What::Program { rounds, only, out } = Cli::parse().what;
    if let Some(reason) = netns::missing() {
        eprintln!("steer-bench: {reason}");
        return ExitCode::FAILURE;
    }
    match program(rounds.max(1), only.as_deref(), &out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("steer-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn program(rounds: usize, only: Option<&str>, out: &Path) -> Result<()> {
    let lines = bench::run(rounds, only)?;
    print(&lines);
    let kernel = nix::sys::utsname::uname().map_or_else(
        |_| String::new(),
        |name| name.release().to_string_lossy().into_owned(),
    );
    let report = json!({ "kernel": kernel, "rounds": rounds, "cases": lines });
    if let Some(dir) = out.parent() {
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    }
    fs::write(out, format!("{report:#}\n")).with_context(|| out.display().to_string())?;
    println!("{}", out.display());
    Ok(())
}

fn print(lines: &[Line]) {
    println!("{:<28} {:>9} {:>7}", "program", "ns", "ratio");
    for Line { name, ns, ratio } in lines {
        println!("{name:<28} {ns:>9.0} {ratio:>7.2}");
    }
}
