//! The `steerctl run` that is there, by its command line: which file it goes by, and what a reload of it would want.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    cli::{Cli, Command, RunArgs},
    commands::{Failure, carry::wanted::Wanted},
    config::{CONFIG_DEFAULT, Config},
    datapath::{pins::PinDir, programs::AttachMode},
};

/// A `steerctl run`.
pub(in crate::commands) struct Running {
    /// Its process.
    pub(in crate::commands) pid: i32,
    /// Its command line.
    pub(in crate::commands) args: RunArgs,
}

impl Running {
    /// The one that looks after what is pinned. `None` if there is none, if it cannot be seen, or if it is of another
    /// version whose command line is another one.
    pub(in crate::commands) fn of(pins: &PinDir) -> Option<Self> {
        Self::with_pid(pins.daemon()?)
    }

    /// The one of this number.
    pub(in crate::commands) fn with_pid(pid: i32) -> Option<Self> {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let line = String::from_utf8(line).ok()?;
        let words = line.trim_end_matches('\0').split('\0');
        match Cli::parse_from_args(words).ok()?.command {
            Command::Run(args) => Some(Self { pid, args }),
            _ => None,
        }
    }

    /// The file that it reads at a reload.
    pub(in crate::commands) fn file(&self) -> Option<PathBuf> {
        let steer = &self.args.steer;
        if let Some(path) = &steer.config {
            // A relative one is so to where it works.
            let dir = fs::read_link(format!("/proc/{}/cwd", self.pid)).ok()?;
            return Some(dir.join(path));
        }
        let default = PathBuf::from(CONFIG_DEFAULT);
        (!steer.name_a_group() && default.exists()).then_some(default)
    }

    /// Whether it reads this file at a reload.
    pub(in crate::commands) fn reads(&self, file: &Path) -> bool {
        let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        self.file().is_some_and(|own| real(&own) == real(file))
    }
}

/// The configuration file: the one that is named, or that of the `steerctl run` that is there, or the usual one.
pub(in crate::commands) fn file_or(named: Option<&Path>, running: Option<&Running>) -> PathBuf {
    named
        .map(Path::to_owned)
        .or_else(|| running.and_then(Running::file))
        .unwrap_or_else(|| CONFIG_DEFAULT.into())
}

/// What a file asks for, and how programs are attached: with the command line of the `steerctl run` that reads it, which
/// goes before the file; else by itself.
pub(in crate::commands) fn wanted_by(
    file: &Path,
    config: Config,
    running: Option<&Running>,
) -> Result<(Wanted, AttachMode), Failure> {
    match running.filter(|running| running.reads(file)) {
        Some(Running { args, .. }) => Ok((
            Wanted::of_file(file, &args.steer, Some(&args.probe))?,
            args.steer.attach,
        )),
        None => Ok((Wanted::of_config(config), AttachMode::Auto)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(words: &[&str]) -> Running {
        let words = [&["steerctl", "run"], words].concat();
        let Command::Run(args) = Cli::parse_from_args(words).expect("valid").command else {
            panic!("not run")
        };
        // Its directory is that of this process.
        let pid = i32::try_from(std::process::id()).expect("a pid");
        Running { pid, args }
    }

    #[test]
    fn which_file() {
        let here = std::env::current_dir().expect("a directory");
        let by_file = running(&["--config", "x.toml"]);
        assert_eq!(by_file.file(), Some(here.join("x.toml")));
        assert!(by_file.reads(&here.join("x.toml")) && !by_file.reads(Path::new("/x.toml")));
        let by_line = running(&["--iface", "lan0"]);
        assert_eq!(by_line.file(), None);
        let usual = Path::new(CONFIG_DEFAULT);
        assert_eq!(file_or(None, Some(&by_file)), here.join("x.toml"));
        assert_eq!(file_or(None, Some(&by_line)), usual);
        assert_eq!(file_or(None, None), usual);
        let named = Path::new("y.toml");
        assert_eq!(file_or(Some(named), Some(&by_file)), named);
    }

    #[test]
    fn its_command_line_goes_before_the_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("steer.toml");
        fs::write(&file, "seed = 1\n[[group]]\niface = [\"lan0\"]\n").expect("written");
        let config = || crate::config::load(&file).expect("valid");
        let name = file.display().to_string();
        let reader = running(&["--config", &name, "--seed", "7", "--attach", "clsact"]);
        let (wanted, attach) = wanted_by(&file, config(), Some(&reader)).expect("valid");
        assert_eq!((wanted.request.seed, attach), (Some(7), AttachMode::Clsact));
        let other = running(&["--iface", "lan0", "--seed", "7"]);
        for running in [Some(&other), None] {
            let (wanted, attach) = wanted_by(&file, config(), running).expect("valid");
            assert_eq!((wanted.request.seed, attach), (Some(1), AttachMode::Auto));
        }
    }
}
