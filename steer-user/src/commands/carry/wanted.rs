//! What is asked for: by the command line, or by a configuration file and the command line over it.

use std::path::{Path, PathBuf};

use steer_common::abi::Cause;

use crate::{
    cli::{ProbeArgs, SteerArgs},
    commands::Failure,
    config::{self, CONFIG_DEFAULT, Config, Group},
    plan::{FollowSpec, Request, health::Probes},
};

/// What is asked for.
pub(in crate::commands) struct Wanted {
    /// The configuration file, if there is one.
    pub(in crate::commands) file: Option<PathBuf>,
    /// What the file says; without one, the group of the command line.
    pub(in crate::commands) config: Config,
    /// The part that planning is about.
    pub(in crate::commands) request: Request,
    /// The groups that follow routes, and which.
    pub(in crate::commands) follows: Vec<(String, FollowSpec)>,
    /// How tunnels are probed, by a daemon.
    pub(in crate::commands) probes: Option<Probes>,
}

impl Wanted {
    /// By these arguments, and the configuration file that they name or that lies where one is expected.
    pub(in crate::commands) fn of(
        args: &SteerArgs,
        probe: Option<&ProbeArgs>,
    ) -> Result<Self, Failure> {
        if let Some(path) = &args.config {
            return Self::of_file(path, args, probe);
        }
        let default = Path::new(CONFIG_DEFAULT);
        // One that cannot be looked at is not passed over.
        if !args.name_a_group() && default.try_exists().unwrap_or(true) {
            eprintln!("steerctl: by {CONFIG_DEFAULT}");
            return Self::of_file(default, args, probe);
        }
        let request = args.request();
        let groups = request.groups.iter().map(|group| Group {
            name: group.name.clone(),
            ..Group::default()
        });
        Ok(Self {
            file: None,
            config: Config {
                groups: groups.collect(),
                ..Config::default()
            },
            request,
            follows: args.follows(),
            probes: probe.map(|probe| probe.over(Probes::default())),
        })
    }

    /// Who wants it.
    pub(in crate::commands) fn cause(&self) -> Cause {
        match self.file {
            Some(_) => Cause::Config,
            None => Cause::Operator,
        }
    }

    /// By a configuration alone.
    pub(in crate::commands) fn of_config(config: Config) -> Self {
        Self {
            file: None,
            request: config.request(),
            follows: config.follows(),
            probes: Some(config.probes()),
            config,
        }
    }

    /// By a file, and these arguments over it.
    pub(in crate::commands) fn of_file(
        path: &Path,
        args: &SteerArgs,
        probe: Option<&ProbeArgs>,
    ) -> Result<Self, Failure> {
        let config = config::load(path)?;
        Ok(Self {
            // A daemon reads it again, from wherever it is then.
            file: Some(std::path::absolute(path)?),
            request: args.over(config.request()),
            follows: config.follows(),
            probes: probe.map(|probe| probe.over(config.probes())),
            config,
        })
    }
}
