//! The commands of this repository: `cargo xtask COMMAND`.

mod check;
mod compile;
mod fuzz;
mod libtest;
mod licences;
mod linker;
mod packages;
mod process;
mod repo;
mod run;
mod setup;
mod test;
mod toolchain;
mod vm;

use std::{ffi::OsString, process::ExitCode};

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
    /// Set up and build.
    Build {
        /// With optimisations.
        #[arg(long)]
        release: bool,
    },
    /// Set up, build, and show steered flows in the lab; after `--`, steer on this machine.
    Run(run::RunArgs),
    /// The lab, kept for playing: up, down, shell, status.
    Lab {
        /// Arguments of `steer-lab`.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Set up, and run every tier of tests that this machine can run.
    Test(test::TestArgs),
    /// The program and lab tests on other kernels, in emulated machines with in-kernel WireGuard.
    Vm(vm::VmArgs),
    /// Formatting, licences, lints of host and eBPF code, documentation, generated files.
    Check,
    /// Look for inputs that break a promise of the packet path, with cargo-fuzz.
    Fuzz(fuzz::FuzzArgs),
    /// The benchmarks, as ratios: all of them, or one (`--help` lists them).
    #[command(disable_help_flag = true)]
    Bench {
        /// Arguments of `steer-bench`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    match perform(&Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: &Task) -> Result<ExitCode> {
    match task {
        Task::Setup {
            dry_run,
            build_only,
        } => {
            let purpose = if *build_only {
                Purpose::Build
            } else {
                Purpose::Vm
            };
            setup::command(purpose, *dry_run)?;
        }
        Task::Build { release } => {
            setup::ensure(Purpose::Build)?;
            compile::everything(*release)?;
        }
        Task::Run(args) => run::run(args)?,
        Task::Lab { args } => run::lab(args)?,
        Task::Test(args) => return test::command(args),
        Task::Vm(args) => return vm::command(args),
        Task::Check => return check::command(),
        Task::Fuzz(args) => return fuzz::command(args),
        Task::Bench { args } => run::bench(args)?,
    }
    Ok(ExitCode::SUCCESS)
}
