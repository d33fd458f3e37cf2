//! Commands that build and then become another program: `run`, `lab`, `bench`.

use std::{
    ffi::{OsStr, OsString},
    os::unix::process::CommandExt as _,
    path::Path,
    process::Command,
};

use anyhow::{Result, bail};
use clap::Args;

use crate::{
    compile,
    process::{find_program, is_root, line, say},
    repo,
    setup::{self, Purpose},
};

/// The lab's options; `steer-lab run` knows their defaults.
#[derive(Args, Default)]
pub(crate) struct RunArgs {
    /// WireGuard tunnels between the two gateways of the lab.
    #[arg(long, value_name = "N")]
    tunnels: Option<u32>,
    /// Flows to send over them.
    #[arg(long, value_name = "P")]
    flows: Option<u32>,
    /// What each tunnel is shaped to.
    #[arg(long, value_name = "MBIT")]
    rate: Option<u32>,
    /// How long each part of the run takes.
    #[arg(long, value_name = "S")]
    seconds: Option<u32>,
    /// Leave the lab standing afterwards.
    #[arg(long)]
    keep: bool,
    /// Steer on this machine, without a lab: arguments of `steerctl run`.
    #[arg(last = true, value_name = "STEERCTL ARGS", conflicts_with_all = ["tunnels", "flows", "rate", "seconds", "keep"])]
    steerctl: Vec<OsString>,
}

impl RunArgs {
    fn lab_args(&self) -> Vec<OsString> {
        let mut args = vec![OsString::from("run")];
        for (flag, value) in [
            ("--tunnels", self.tunnels),
            ("--flows", self.flows),
            ("--rate", self.rate),
            ("--seconds", self.seconds),
        ] {
            if let Some(value) = value {
                args.extend([flag.into(), value.to_string().into()]);
            }
        }
        if self.keep {
            args.push("--keep".into());
        }
        args
    }
}

/// `run`: the main job in the lab, or on the machine itself.
pub(crate) fn run(args: &RunArgs) -> Result<()> {
    if args.steerctl.is_empty() {
        return lab(&args.lab_args());
    }
    setup::ensure(Purpose::Build)?;
    let programs = compile::programs()?;
    let mut words = vec![OsString::from("run")];
    words.extend(args.steerctl.iter().cloned());
    become_root_program(programs.path("steerctl")?, &words, &[])
}

/// `lab`: `steer-lab` with these arguments.
pub(crate) fn lab(args: &[OsString]) -> Result<()> {
    program_of_the_lab("steer-lab", args)
}

/// `bench`: `steer-bench` with these arguments. Publishing, and help, need no root, whose files the pages would be.
pub(crate) fn bench(args: &[OsString]) -> Result<()> {
    // It writes to `target`, and to `docs`.
    std::env::set_current_dir(repo::root())?;
    let measures = !args
        .iter()
        .any(|arg| arg == "publish" || arg == "--help" || arg == "-h");
    if measures {
        return program_of_the_lab("steer-bench", args);
    }
    setup::ensure(Purpose::Build)?;
    let programs = compile::programs()?;
    let mut command = Command::new(programs.path("steer-bench")?);
    become_command(command.args(args))
}

fn program_of_the_lab(name: &str, args: &[OsString]) -> Result<()> {
    setup::ensure(Purpose::Lab)?;
    let programs = compile::programs()?;
    let steerctl = programs.path("steerctl")?.as_os_str();
    become_root_program(programs.path(name)?, args, &[("STEERCTL", steerctl)])
}

/// Replaces this process by `program`, as root. Only finished programs run
/// through sudo, never a build, which would leave root's files in `target/`.
fn become_root_program(
    program: &Path,
    args: &[OsString],
    variables: &[(&str, &OsStr)],
) -> Result<()> {
    let mut command;
    if is_root() {
        command = Command::new(program);
        command.envs(variables.iter().copied());
    } else if find_program("sudo").is_some() {
        // Through env: sudo's policy may refuse to pass variables on.
        command = Command::new("sudo");
        command.arg("env");
        for (key, value) in variables
            .iter()
            .copied()
            .chain(inherited().iter().map(|(k, v)| (*k, v.as_os_str())))
        {
            let mut assignment = OsString::from(key);
            assignment.push("=");
            assignment.push(value);
            command.arg(assignment);
        }
        command.arg(program);
    } else {
        command = Command::new(program);
        command.args(args).envs(variables.iter().copied());
        bail!(
            "{} needs root and there is no sudo; as root:\n    {}",
            program.display(),
            line(&command)
        );
    }
    become_command(command.args(args))
}

fn become_command(command: &mut Command) -> Result<()> {
    say("run", &line(command));
    let error = command.exec();
    Err(anyhow::Error::from(error).context(line(command)))
}

/// What of our environment the programs read.
fn inherited() -> Vec<(&'static str, OsString)> {
    ["STEER_PIN_DIR", "RUST_LOG", "NO_COLOR", "TERM"]
        .into_iter()
        .filter_map(|key| Some((key, std::env::var_os(key)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_were_not_given_are_left_to_the_lab() {
        let args = RunArgs {
            tunnels: Some(3),
            keep: true,
            ..RunArgs::default()
        };
        assert_eq!(args.lab_args(), ["run", "--tunnels", "3", "--keep"]);
        assert_eq!(RunArgs::default().lab_args(), ["run"]);
    }
}
