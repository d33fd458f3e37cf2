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
    /// qemu: the program and lab tiers on other kernels.
    Vm,
}

#[derive(Args)]
pub(crate) struct TestArgs {
    /// Only this tier; by default every tier that this machine can run.
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
        None => &[Tier::Host, Tier::Program, Tier::Lab],
        Some(Tier::Host) => &[Tier::Host],
        Some(Tier::Program) => &[Tier::Program],
        Some(Tier::Lab) => &[Tier::Lab],
        Some(Tier::Vm) => {
            eprintln!(
                "xtask: the vm tier does not exist yet; this kernel's tiers are:\n    \
                 cargo xtask test host|program|lab"
            );
            return Ok(ExitCode::from(2));
        }
    };
    setup::ensure(if tiers == [Tier::Host] {
        Purpose::Build
    } else {
        Purpose::Lab
    })?;

    let mut runs = Vec::new();
    for tier in tiers {
        runs.extend(match tier {
            Tier::Host => host(&args.harness)?,
            Tier::Program => vec![
                privileged("program", &[], &args.harness)?,
                privileged("program_state", &[], &args.harness)?,
                privileged("program_moves", &[], &args.harness)?,
                privileged("program_pins", &[], &args.harness)?,
                privileged("program_wire", &[], &args.harness)?,
            ],
            // Labs share the machine's two or more cores and its clock: where speed is judged, one
            // test at a time.
            _ => vec![
                privileged("steerctl", &["--test-threads=1"], &args.harness)?,
                privileged("config", &["--test-threads=1"], &args.harness)?,
                privileged("crash", &["--test-threads=1"], &args.harness)?,
                privileged("doctor", &["--test-threads=2"], &args.harness)?,
                privileged("readme", &["--test-threads=1"], &args.harness)?,
                privileged("lab", &["--test-threads=1"], &args.harness)?,
                privileged("lab_health", &["--test-threads=1"], &args.harness)?,
                privileged("lab_routes", &["--test-threads=2"], &args.harness)?,
                privileged("lab_packets", &["--test-threads=2"], &args.harness)?,
                privileged("lab_rows", &["--test-threads=2"], &args.harness)?,
                privileged("lab_firewall", &["--test-threads=2"], &args.harness)?,
                privileged("lab_lan", &["--test-threads=2"], &args.harness)?,
                privileged("lab_gateway", &["--test-threads=2"], &args.harness)?,
            ],
        });
    }
    let no_skip = args.no_skip || env::var_os("CI").is_some_and(|ci| ci == "true");
    Ok(close(&runs, no_skip))
}

/// All tests that need no root: of `steer-tests`, what runs on the host's own tables.
fn host(harness: &[String]) -> Result<Vec<Tally>> {
    let mut ours = repo::cargo();
    ours.args(["test", "--no-fail-fast", "--workspace"])
        .args(["--exclude", "steer-tests"]);
    let mut shared = repo::cargo();
    shared
        .args(["test", "--no-fail-fast", "--package", "steer-tests"])
        .args(["--lib", "--bins", "--test", "packets", "--test", "model"])
        .args(["--test", "corpus"]);
    Ok(vec![
        stream("host", &mut ours, &[], harness)?,
        stream("host", &mut shared, &[], harness)?,
    ])
}

/// One test target of `steer-tests`, as root, with an optimised `steerctl`.
fn privileged(target: &str, fixed: &[&str], harness: &[String]) -> Result<Tally> {
    let sudo = if is_root() {
        None
    } else if sudo_is_silent() {
        Some("sudo -n -E")
    } else if find_program("sudo").is_some() && io::stdin().is_terminal() {
        Some("sudo -E")
    } else {
        return Ok(Tally::skipped_tier(
            target,
            "needs root, and sudo is not there or wants a password",
        ));
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

/// Prints what failed, the reason of every skip, and the closing line.
fn close(runs: &[Tally], no_skip: bool) -> ExitCode {
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
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[cfg(test)]
mod tests {
    /// A target that no tier names would never run, in silence.
    #[test]
    fn every_target_belongs_to_a_tier() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/tests");
        let source = include_str!("test.rs");
        for entry in std::fs::read_dir(folder).expect("the tests") {
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
