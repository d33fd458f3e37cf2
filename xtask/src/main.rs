//! The commands of this repository: `cargo xtask COMMAND`.

mod linker;
mod packages;
mod process;
mod repo;
mod setup;
mod toolchain;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use setup::Purpose;

/// The commands of steer's repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Find or install what building and testing need: an eBPF compiler, bpf-linker, system packages.
    Setup {
        /// Say what would be done, and do nothing.
        #[arg(long)]
        dry_run: bool,
        /// Leave out what only the lab and the tests need.
        #[arg(long)]
        build_only: bool,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Setup {
            dry_run,
            build_only,
        } => {
            let purpose = if build_only {
                Purpose::Build
            } else {
                Purpose::Lab
            };
            setup::command(purpose, dry_run)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
