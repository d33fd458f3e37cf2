//! `steer-lab`: the lab as a program. `run` is what `cargo xtask run` shows,
//! the other commands are `cargo xtask lab`.

mod cut;
mod failover;
mod play;
mod report;
mod run;
mod text;
mod view;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use steer_tests::lab::{Options, wait};

/// Namespaces, real WireGuard tunnels, real traffic, and steer between them.
#[derive(Debug, Parser)]
#[command(name = "steer-lab", version)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Build the lab, steer traffic, show it live, and end with a report.
    Run(run::RunArgs),
    /// Cut a tunnel again and again in each way there is, and show how long steer and the flows take.
    Failover(failover::FailoverArgs),
    /// Build the lab with steer on both gateways, and leave it up.
    Up {
        #[command(flatten)]
        size: Size,
        /// Build the tunnels only.
        #[arg(long)]
        no_steer: bool,
    },
    /// Remove the lab, and what a run with --keep left.
    Down,
    /// Open a shell on a host of the lab.
    Shell {
        /// client, a, b or server
        #[arg(default_value = "a")]
        host: play::Place,
    },
    /// Show what is up.
    Status,
}

/// Size of the lab.
#[derive(Debug, Clone, Copy, clap::Args)]
struct Size {
    /// WireGuard tunnels between the two gateways.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    tunnels: u8,
    /// What each tunnel is shaped to, in Mbit/s.
    #[arg(long, value_name = "MBIT", default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
}

impl From<Size> for Options {
    fn from(size: Size) -> Self {
        Self {
            tunnels: size.tunnels.into(),
            rate_mbit: size.rate,
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Verb::Run(args) => wait::catch_signals().and_then(|()| run::run(&args)),
        Verb::Failover(args) => wait::catch_signals().and_then(|()| failover::run(&args)),
        Verb::Up { size, no_steer } => {
            wait::catch_signals().and_then(|()| play::up(&size.into(), !no_steer))
        }
        Verb::Down => play::down(),
        Verb::Shell { host } => play::shell(host),
        Verb::Status => play::status(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Ctrl-C also ends a verb of steerctl that runs just then, which fails in its own way.
        Err(_) if wait::check_interrupt().is_err() => {
            anstream::eprintln!("interrupted; the lab is removed");
            ExitCode::from(130)
        }
        Err(error) => {
            anstream::eprintln!("steer-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}
