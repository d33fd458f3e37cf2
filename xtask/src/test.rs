//! The command `test`: the tiers of tests, and the one line that closes them.

use std::{
    env,
    io::{self, BufRead as _, BufReader, IsTerminal as _, Write as _},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use crate::{
    compile,
    libtest::Tally,
    process::{find_program, is_root, line, say, sudo_is_silent},
    repo,
    setup::{self, Purpose},
    vm,
};

/// A tier of tests, by what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tier {
    /// Nothing but a compiler.
    Host,
    /// Root: the program loaded into this kernel.
    Program,
    /// Root: namespaces with real tunnels and real traffic.
    Lab,
    /// QEMU: what differs most between kernels, on an old and a new one (`cargo xtask vm`: everything, on all).
    Vm,
}

impl Tier {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Program => "program",
            Self::Lab => "lab",
            Self::Vm => "vm",
        }
    }
}

/// The targets of the host tier, beside the units.
const HOST: [&str; 12] = [
    "buckets",
    "clocks",
    "corpus",
    "documents",
    "generated",
    "hash",
    "model",
    "net",
    "netfilter",
    "packaging",
    "packets",
    "rewrite",
];
/// The targets of the program tier.
pub(crate) const PROGRAM: [&str; 5] = [
    "program",
    "program_state",
    "program_moves",
    "program_pins",
    "program_wire",
];
/// The targets of the lab tier, and in how many threads. Labs share the machine's two or more cores
/// and its clock: where speed is judged, one test at a time; what waits for the kernel most of its time has more
/// threads than there are cores.
pub(crate) const LAB: [(&str, u32); 13] = [
    ("steerctl", 4),
    ("config", 1),
    ("crash", 1),
    ("doctor", 2),
    ("readme", 1),
    ("lab", 1),
    ("lab_health", 2),
    ("lab_routes", 2),
    ("lab_packets", 2),
    ("lab_rows", 2),
    ("lab_firewall", 2),
    ("lab_lan", 2),
    ("lab_gateway", 2),
];
/// What only the kernels of the vm tier can run.
pub(crate) const VM: [&str; 1] = ["vm"];

#[derive(Args)]
pub(crate) struct TestArgs {
    /// Only this tier; by default every one that this machine can run.
    tier: Option<Tier>,
    /// A skipped test is a failure; the environment variable CI=true means the same.
    #[arg(long)]
    no_skip: bool,
    /// Arguments of the test harness, for example the name of a test.
    #[arg(last = true, value_name = "HARNESS ARGS")]
    harness: Vec<String>,
}

/// Runs the tiers and prints the closing line.
pub(crate) fn command(args: &TestArgs) -> Result<ExitCode> {
    let tiers: &[Tier] = match args.tier {
        None => &[Tier::Host, Tier::Program, Tier::Lab, Tier::Vm],
        Some(Tier::Host) => &[Tier::Host],
        Some(Tier::Program) => &[Tier::Program],
        Some(Tier::Lab) => &[Tier::Lab],
        Some(Tier::Vm) => &[Tier::Vm],
    };
    setup::ensure(if tiers == [Tier::Host] {
        Purpose::Build
    } else if tiers.contains(&Tier::Vm) {
        Purpose::Vm
    } else {
        Purpose::Lab
    })?;

    let mut runs = Vec::new();
    let mut tables = String::new();
    for tier in tiers {
        match tier {
            Tier::Host => runs.extend(host(&args.harness)),
            Tier::Program => {
                build_together(&PROGRAM);
                for target in PROGRAM {
                    runs.push(privileged(target, &[], &args.harness));
                }
            }
            Tier::Lab => {
                build_together(&LAB.map(|(target, _)| target));
                for (target, threads) in LAB {
                    let threads = format!("--test-threads={threads}");
                    runs.push(privileged(target, &[&threads], &args.harness));
                }
            }
            Tier::Vm => {
                let (tallies, text) = vm::run(&vm::Request::quick(&args.harness));
                runs.extend(tallies);
                tables = text;
            }
        }
    }
    Ok(close(&runs, &tables, is_strict(args.no_skip)))
}

/// What a run came to: an error is a failure like others, and the rest is run all the same.
fn settled(tier: &str, result: Result<Tally>) -> Tally {
    result.unwrap_or_else(|error| {
        say("test", &format!("{tier} tier: {error:#}"));
        Tally::failed_tier(tier, &error)
    })
}

/// Whether a skipped test is a failure.
pub(crate) fn is_strict(no_skip: bool) -> bool {
    no_skip || env::var_os("CI").is_some_and(|ci| ci == "true")
}

/// All tests that need no root. Of the whole workspace at once, as the lints are: another choice of
/// packages would choose other features, and compile everything again.
fn host(harness: &[String]) -> [Tally; 2] {
    let tests = || {
        let mut command = repo::cargo();
        command.args(["test", "--no-fail-fast", "--workspace"]);
        command
    };
    let mut targets = tests();
    targets.args(["--lib", "--bins"]);
    for target in HOST {
        targets.args(["--test", target]);
    }
    let mut examples = tests();
    examples.arg("--doc");
    [targets, examples]
        .map(|mut command| settled("host", stream("host", &mut command, &[], harness)))
}

/// Builds all targets of a tier at once, which takes less time than one after the other. One that cannot be
/// built says so when its turn comes.
fn build_together(targets: &[&str]) {
    if root().is_ok()
        && let Err(error) = compile::tests(targets)
    {
        say("test", &format!("{error:#}"));
    }
}

/// One test target of `steer-tests`, as root, with an optimised `steerctl`.
fn privileged(target: &str, fixed: &[&str], harness: &[String]) -> Tally {
    settled(target, as_root(target, fixed, harness))
}

/// What to run a program with so that it is root's: nothing, for root, or sudo. An error is the reason why
/// it cannot be.
fn root() -> Result<Option<&'static str>, &'static str> {
    if is_root() {
        Ok(None)
    } else if sudo_is_silent() {
        Ok(Some("sudo -n -E"))
    } else if find_program("sudo").is_some() && io::stdin().is_terminal() {
        Ok(Some("sudo -E"))
    } else {
        Err("needs root, and sudo is not there or wants a password")
    }
}

fn as_root(target: &str, fixed: &[&str], harness: &[String]) -> Result<Tally> {
    let sudo = match root() {
        Ok(sudo) => sudo,
        Err(reason) => return Ok(Tally::skipped_tier(target, reason)),
    };
    let programs = compile::programs()?;
    let mut command = repo::cargo();
    command
        .args(["test", "--no-fail-fast", "--release"])
        .args(["--package", "steer-tests", "--test", target])
        .env("STEERCTL", programs.path("steerctl")?);
    if let Some(sudo) = sudo {
        // Only the test itself runs as root, not the build.
        let runner = format!("CARGO_TARGET_{}_RUNNER", host_triple()?);
        command.env(runner, sudo);
    }
    stream(target, &mut command, fixed, harness)
}

/// This machine's target as it is spelt in cargo's variables.
fn host_triple() -> Result<String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = crate::process::capture(Command::new(rustc).arg("-vV"))?;
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("rustc -vV names no host")?;
    Ok(host.to_uppercase().replace(['-', '.'], "_"))
}

/// Runs cargo, shows its output as it comes, and counts.
fn stream(tier: &str, command: &mut Command, fixed: &[&str], harness: &[String]) -> Result<Tally> {
    // The output of passed tests too: a skip is announced there.
    command
        .args(["--", "--show-output"])
        .args(fixed)
        .args(harness);
    say("test", &format!("{tier} tier: {}", line(command)));
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| line(command))?;
    let Some(stdout) = child.stdout.take() else {
        bail!("no pipe to `{}`", line(command));
    };
    let mut tally = Tally::default();
    let mut out = io::stdout().lock();
    for text in BufReader::new(stdout).split(b'\n') {
        let text = text?;
        let text = String::from_utf8_lossy(&text);
        writeln!(out, "{text}")?;
        tally.read(&text);
    }
    let status = child.wait()?;
    if !status.success() && tally.failed == 0 {
        // It did not build, or died before its harness could count.
        tally.fail(format!(
            "{tier} tier: `{}` failed ({status})",
            line(command)
        ));
    }
    Ok(tally)
}

/// Prints what failed, the reason of every skip, tables, and the closing line.
pub(crate) fn close(runs: &[Tally], tables: &str, no_skip: bool) -> ExitCode {
    let passed: usize = runs.iter().map(Tally::passed).sum();
    let mut failed: usize = runs.iter().map(|run| run.failed).sum();
    let mut skipped = 0;
    println!();
    for failure in runs.iter().flat_map(|run| &run.failures) {
        println!("failed: {}", failure.name);
        for line in failure.output.iter().filter(|line| !line.is_empty()) {
            println!("    {line}");
        }
    }
    for skip in runs.iter().flat_map(|run| &run.skipped) {
        if no_skip && skip.required {
            failed += 1;
            println!(
                "failed: {}: skipped, but must run here: {}",
                skip.name, skip.reason
            );
        } else {
            skipped += 1;
            println!("skipped: {}: {}", skip.name, skip.reason);
        }
    }
    if passed + failed + skipped == 0 {
        failed = 1;
        println!("failed: no test ran: none has such a name");
    }
    if !tables.is_empty() {
        println!("\n{tables}");
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_no_test_is_no_success() {
        let empty = [Tally::default()];
        let failure = format!("{:?}", ExitCode::FAILURE);
        assert_eq!(format!("{:?}", close(&empty, "", false)), failure);
        let mut one = Tally::default();
        one.read("test result: ok. 1 passed; 0 failed");
        assert_ne!(format!("{:?}", close(&[one], "", false)), failure);
    }

    #[test]
    fn an_error_is_counted_and_hides_nothing() {
        let tally = settled("lab", Err(anyhow::anyhow!("no space left")));
        assert_eq!(tally.failed, 1);
        assert_eq!(tally.failures[0].name, "lab tier: no space left");
    }

    /// A target that no tier names would never run, in silence.
    #[test]
    fn every_target_belongs_to_a_tier() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        let source = include_str!("test.rs");
        let entries = ["steer-common", "steer-user", "tests"].map(|package| {
            std::fs::read_dir(format!("{root}/{package}/tests")).expect("the tests")
        });
        for entry in entries.into_iter().flatten() {
            let path = entry.expect("a test").path();
            let is_target = path.extension().is_some() || path.join("main.rs").exists();
            let name = path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .expect("a name");
            let is_named = source.contains(&format!("\"{name}\""));
            assert!(!is_target || is_named, "{name} is in no tier");
        }
    }
}
