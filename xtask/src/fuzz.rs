//! The command `fuzz`: looks for inputs that break a promise of the packet path.
//!
//! It brings its own set-up, because nothing else needs `cargo-fuzz` or a C++
//! compiler. What it keeps between runs is in `tests/corpus`, a file for each
//! target with an input on each line: little enough to be committed, and
//! replayed by the host tier on every change.

use std::{
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{
    process::{by_hand, find_program, line, run, say, succeeds},
    repo,
    setup::{self, Purpose},
    toolchain::Toolchain,
};

/// What set-up builds.
const VERSION: &str = "0.13.2";
/// The targets, which are those of `fuzz/Cargo.toml`.
const TARGETS: [&str; 2] = ["parse", "decide"];
/// Longer inputs say nothing new.
const INPUT_BYTES_MAX: usize = 512;
/// What a corpus may take, so that all of them stay below 300 KiB.
const CORPUS_BYTES_MAX: usize = 140 * 1_024;

#[derive(Args)]
pub(crate) struct FuzzArgs {
    /// Only this target; by default one after the other.
    #[arg(value_parser = TARGETS)]
    target: Option<String>,
    /// How long to look, for each target.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Minimise what was found and keep it in tests/corpus.
    #[arg(long)]
    keep: bool,
}

/// Runs the targets, and stops at the first that fails.
pub(crate) fn command(args: &FuzzArgs) -> Result<ExitCode> {
    setup::ensure(Purpose::Build)?;
    let fuzzer = Fuzzer::find_or_install()?;
    for target in TARGETS {
        if args.target.as_deref().is_none_or(|only| only == target) {
            fuzzer.look(target, args.seconds)?;
            if args.keep {
                fuzzer.keep(target)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `cargo-fuzz`, and the compiler that it works with.
struct Fuzzer {
    program: PathBuf,
    toolchain: Toolchain,
}

impl Fuzzer {
    fn find_or_install() -> Result<Self> {
        let toolchain = match Toolchain::find() {
            Ok(toolchain) => toolchain,
            Err(objections) => bail!("{}; by hand:\n    cargo xtask setup", objections.join("; ")),
        };
        if find_program("c++").is_none() {
            bail!("the fuzzer's library needs a C++ compiler; by hand:\n    apt-get install g++");
        }
        let program = match find() {
            Some(program) => program,
            None => install()?,
        };
        Ok(Self { program, toolchain })
    }

    /// `cargo fuzz COMMAND TARGET`.
    fn cargo_fuzz(&self, command: &str, target: &str) -> Result<Command> {
        // It calls whatever cargo comes first, which must be that of the compiler.
        let bin = self.toolchain.prefix.join("bin");
        let path = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths([bin].into_iter().chain(env::split_paths(&path)))?;
        let mut fuzz = Command::new(&self.program);
        fuzz.args(["fuzz", command, target])
            .current_dir(repo::root())
            .env("PATH", path)
            .env("CARGO", self.toolchain.cargo())
            .env("RUSTC", self.toolchain.rustc())
            .env_remove("RUSTUP_TOOLCHAIN");
        if self.toolchain.bootstrap() {
            fuzz.env("RUSTC_BOOTSTRAP", "1");
        }
        Ok(fuzz)
    }

    fn look(&self, target: &str, seconds: u32) -> Result<()> {
        unpack(target)?;
        say("fuzz", &format!("{target}: {seconds} s"));
        let mut fuzz = self.cargo_fuzz("run", target)?;
        fuzz.arg("--")
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-max_len={INPUT_BYTES_MAX}"))
            .arg("-print_final_stats=1");
        let again = format!(
            "cargo fuzz run {target} fuzz/artifacts/{target}/…, with {} first in PATH",
            self.toolchain.prefix.join("bin").display()
        );
        run(&mut fuzz).map_err(|error| by_hand(&error, &again))
    }

    /// Inputs of which each reaches something that no other does, the shortest first.
    fn keep(&self, target: &str) -> Result<()> {
        // How often something is reached does not matter here, only whether.
        run(self
            .cargo_fuzz("cmin", target)?
            .args(["--", "-use_counters=0"]))?;
        let mut inputs = Vec::new();
        let dir = corpus_dir(target);
        for entry in fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            inputs.push(fs::read(entry?.path())?);
        }
        inputs.sort_by_key(|input| (input.len(), input.clone()));
        let found = inputs.len();
        let mut text = String::new();
        let mut kept = 0;
        for input in &inputs {
            if text.len() + 2 * input.len() + 1 > CORPUS_BYTES_MAX {
                break;
            }
            for byte in input {
                write!(text, "{byte:02x}")?;
            }
            text.push('\n');
            kept += 1;
        }
        let file = corpus_file(target);
        fs::write(&file, text).with_context(|| file.display().to_string())?;
        say(
            "fuzz",
            &format!(
                "{target}: kept {kept} of {found} inputs in {}",
                file.display()
            ),
        );
        Ok(())
    }
}

/// Ours in `target/tools`, else one in `PATH`.
fn find() -> Option<PathBuf> {
    [
        Some(repo::tools_dir().join("bin/cargo-fuzz")),
        find_program("cargo-fuzz"),
    ]
    .into_iter()
    .flatten()
    .find(|program| succeeds(Command::new(program).args(["fuzz", "--version"])))
}

fn install() -> Result<PathBuf> {
    let mut build = repo::cargo();
    build
        .args(["install", "cargo-fuzz", "--version", VERSION, "--locked"])
        .arg("--root")
        .arg(repo::tools_dir());
    say(
        "fuzz",
        &format!("building cargo-fuzz {VERSION}, about a minute"),
    );
    let again = line(&build);
    run(&mut build).map_err(|error| by_hand(&error, &again))?;
    find().with_context(|| format!("the cargo-fuzz just built does not run; by hand:\n    {again}"))
}

/// What is committed.
fn corpus_file(target: &str) -> PathBuf {
    repo::root().join(format!("tests/corpus/{target}.hex"))
}

/// Where the fuzzer works.
fn corpus_dir(target: &str) -> PathBuf {
    repo::root().join("fuzz/corpus").join(target)
}

/// Adds the committed inputs to those of earlier runs.
fn unpack(target: &str) -> Result<()> {
    let file = corpus_file(target);
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let dir = corpus_dir(target);
    fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    for (number, line) in text.lines().enumerate() {
        write_input(&dir.join(format!("kept-{number}")), line)
            .with_context(|| format!("{}, line {}", file.display(), number + 1))?;
    }
    Ok(())
}

fn write_input(path: &Path, line: &str) -> Result<()> {
    let byte = |at: usize| {
        let digits = line.get(at..at + 2).context("half a byte")?;
        Ok(u8::from_str_radix(digits, 16)?)
    };
    let bytes: Vec<u8> = (0..line.len())
        .step_by(2)
        .map(byte)
        .collect::<Result<_>>()?;
    Ok(fs::write(path, bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_the_command_does_not_know_would_never_run() {
        let manifest = include_str!("../../fuzz/Cargo.toml");
        let names = manifest
            .split("[[bin]]")
            .skip(1)
            .filter_map(|bin| bin.lines().find_map(|line| line.strip_prefix("name = ")))
            .map(|name| name.trim_matches('"'));
        assert!(names.eq(TARGETS));
    }
}
