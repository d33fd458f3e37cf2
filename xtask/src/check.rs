//! The command `check`: everything that is right or wrong without running it.

use std::{
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    licences,
    linker::Linker,
    process::{by_hand, run, say},
    repo,
    setup::{self, Purpose},
    toolchain::Toolchain,
};

/// A thing to check: its name, and how.
type Step = (&'static str, fn() -> Result<()>);

/// In the order of what is found fastest.
const STEPS: [Step; 6] = [
    ("formatting", formatting),
    ("licences", licences::check),
    ("lints", lints),
    ("lints of the eBPF program", ebpf_lints),
    ("documentation", documentation),
    ("generated files", generated_files),
];

/// Makes every check, and names at the end those that failed.
pub(crate) fn command() -> Result<ExitCode> {
    setup::ensure(Purpose::Build)?;
    let mut failed = Vec::new();
    for (name, step) in STEPS {
        say("check", name);
        if let Err(error) = step() {
            eprintln!("check: {name}: {error:#}");
            failed.push(name);
        }
    }
    if failed.is_empty() {
        println!("check: {} of {} passed", STEPS.len(), STEPS.len());
        Ok(ExitCode::SUCCESS)
    } else {
        println!("check: failed: {}", failed.join(", "));
        Ok(ExitCode::FAILURE)
    }
}

fn formatting() -> Result<()> {
    run(repo::cargo().args(["fmt", "--all", "--check"])).map_err(|e| by_hand(&e, "cargo fmt --all"))
}

fn lints() -> Result<()> {
    run(repo::cargo()
        .args(["clippy", "--locked", "--workspace", "--all-targets"])
        .args(["--", "-D", "warnings"]))
}

fn documentation() -> Result<()> {
    run(repo::cargo()
        .args(["doc", "--locked", "--workspace", "--no-deps"])
        .env("RUSTDOCFLAGS", "-D warnings"))
}

/// The manual page, completions and help texts are what the code makes of them.
fn generated_files() -> Result<()> {
    run(repo::cargo()
        .args(["test", "--locked", "--quiet", "--workspace"])
        .args(["--test", "generated"]))
}

/// The code that the host's lints do not see: what is compiled for BPF only.
/// With and without the diagnostics of debug objects.
fn ebpf_lints() -> Result<()> {
    let toolchain = match Toolchain::find() {
        Ok(toolchain) => toolchain,
        Err(objections) => bail!("{}; by hand:\n    cargo xtask setup", objections.join("; ")),
    };
    let mut clippy = toolchain.clippy();
    if clippy.is_none() {
        if let Err(error) = toolchain.install_clippy() {
            say(
                "check",
                &format!("{error:#}\nno clippy for the eBPF program: the compiler's warnings only"),
            );
        }
        clippy = toolchain.clippy();
    }
    for features in [&[][..], &["--features", "log"]] {
        for mut command in ebpf_commands(&toolchain, clippy.as_deref())? {
            command
                .current_dir(repo::root())
                .args(["--locked", "--profile", "ebpf", "-Z", "build-std=core"])
                .args(["--target", "bpfel-unknown-none", "--target-dir"])
                .arg(repo::root().join("target/ebpf"))
                .args(features)
                .args(["--", "-D", "warnings"])
                .env("CARGO", toolchain.cargo())
                .env("RUSTC", toolchain.rustc())
                // As steer-user/build.rs has it: there is assembly that needs it.
                .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-cpu=v3")
                .env_remove("RUSTUP_TOOLCHAIN");
            if toolchain.bootstrap() {
                command.env("RUSTC_BOOTSTRAP", "1");
            }
            run(&mut command)?;
        }
    }
    Ok(())
}

/// What looks at all of the eBPF package: clippy, or else the compiler, which takes one program at a time.
fn ebpf_commands(toolchain: &Toolchain, clippy: Option<&Path>) -> Result<Vec<Command>> {
    const PACKAGE: [&str; 2] = ["--package", "steer-ebpf"];
    if let Some(clippy) = clippy {
        // Called by its path: cargo would find rustup's first.
        let mut command = Command::new(clippy);
        command.arg("clippy").args(PACKAGE);
        command.args(["--package", "steer-common"]);
        return Ok(vec![command]);
    }
    let linker = Linker::find().context("bpf-linker is gone")?;
    let rustc = |program: &str| {
        let mut command = Command::new(toolchain.cargo());
        command.arg("rustc").args(PACKAGE).args(["--bin", program]);
        command.env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &linker.path);
        command
    };
    Ok(["steer-ebpf", "steer-bench-ebpf"].map(rustc).into())
}
