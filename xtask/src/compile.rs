//! Building the workspace's programs, and where cargo put them.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{
    process::{line, run},
    repo,
};

/// The programs of a release build: their names in cargo's manifests, and their files.
pub(crate) struct Programs(Vec<(String, PathBuf)>);

impl Programs {
    /// The absolute path of one of them.
    pub(crate) fn path(&self, name: &str) -> Result<&PathBuf> {
        self.0
            .iter()
            .find(|(target, _)| target == name)
            .map(|(_, path)| path)
            .with_context(|| {
                format!(
                    "the build made no program {name}; by hand:\n    \
                     cargo build --release --workspace --bin {name}"
                )
            })
    }
}

/// Builds everything that can be built, as `cargo build` does.
pub(crate) fn everything(release: bool) -> Result<()> {
    let mut command = repo::cargo();
    command.arg("build");
    if release {
        command.arg("--release");
    }
    run(&mut command)
}

/// Builds `steerctl` and the programs of the lab, optimised: they move packets
/// and are measured.
pub(crate) fn programs() -> Result<Programs> {
    let mut command = repo::cargo();
    command.args(["build", "--release", "--bins"]).args([
        "--package",
        "steer-user",
        "--package",
        "steer-tests",
    ]);
    collect(command)
}

/// Builds targets of the tests that need root, optimised, and runs none.
pub(crate) fn tests(targets: &[&str]) -> Result<Programs> {
    let mut command = repo::cargo();
    command.args(["test", "--release", "--no-run", "--package", "steer-tests"]);
    for target in targets {
        command.args(["--test", target]);
    }
    collect(command)
}

/// The programs that a build makes.
fn collect(mut command: Command) -> Result<Programs> {
    command
        .arg("--message-format=json-render-diagnostics")
        .stdout(Stdio::piped());
    let mut child = command.spawn().with_context(|| line(&command))?;
    let stdout = child.stdout.take().context("no pipe to cargo")?;
    let mut programs = Vec::new();
    for message in BufReader::new(stdout).lines() {
        programs.extend(executable(&message?));
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("`{}` failed ({status})", line(&command));
    }
    Ok(Programs(programs))
}

/// The executable that one of cargo's JSON messages announces.
fn executable(message: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(message).ok()?;
    if message["reason"] != "compiler-artifact" {
        return None;
    }
    let name = message["target"]["name"].as_str()?;
    Some((name.to_owned(), message["executable"].as_str()?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_artifacts_with_an_executable_are_programs() {
        let program = r#"{"reason":"compiler-artifact","target":{"name":"lab"},"executable":"/t/deps/lab-1f"}"#;
        assert_eq!(
            executable(program),
            Some(("lab".into(), "/t/deps/lab-1f".into()))
        );
        let library = r#"{"reason":"compiler-artifact","target":{"name":"lib"},"executable":null}"#;
        assert_eq!(executable(library), None);
        assert_eq!(executable(r#"{"reason":"build-finished"}"#), None);
        assert_eq!(executable("note: not JSON"), None);
    }
}
