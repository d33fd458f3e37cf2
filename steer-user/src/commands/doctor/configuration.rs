//! The configuration file, against the machine and what is steered.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    cli::{Cli, Command, RunArgs},
    commands::{Context, Failure, outlook::Outlook, requirements, wanted::Wanted},
    config::{self, CONFIG_DEFAULT, FileError, Weights},
    datapath::programs::AttachMode,
    net::Netlink,
    plan::{
        Difference, Entry,
        doctor::{self, ConfigFacts, Pins, Steered},
    },
};

/// What is known of the file, and what a start would steer by it.
pub(super) async fn read(
    context: &Context,
    netlink: &Netlink,
    pins: &Pins,
    named: Option<&Path>,
) -> Result<(ConfigFacts, Option<Steered>), Failure> {
    let daemon = match pins {
        Pins::Steering { daemon: Some(pid) } => Daemon::of(*pid),
        _ => None,
    };
    let of_daemon = daemon.as_ref().and_then(Daemon::file);
    let file = named
        .map(Path::to_owned)
        .or_else(|| of_daemon.clone())
        .unwrap_or_else(|| CONFIG_DEFAULT.into());
    let path = file.display().to_string();
    let config = match config::load(&file) {
        Ok(config) => config,
        Err(error) => return Ok((of_error(path, named.or(of_daemon.as_deref()), &error), None)),
    };
    let reader = daemon.filter(|_| of_daemon.as_ref() == Some(&file));
    let usable = |differences| ConfigFacts::Usable {
        path: path.clone(),
        differences,
        reader: reader.as_ref().map(|daemon| daemon.pid),
    };
    let is_comparable = matches!(pins, Pins::None | Pins::Steering { .. });
    if !is_comparable || requirements::check()?.is_err() {
        return Ok((usable(Vec::new()), None));
    }
    let weights = config.weights;
    let (wanted, weights) = match &reader {
        Some(Daemon { args, .. }) => (
            Wanted::of_file(&file, &args.steer, Some(&args.probe))?,
            args.weights.unwrap_or(weights),
        ),
        None => (Wanted::of_config(config), weights),
    };
    let _lock = context.pins.lock()?;
    let outlook = match Outlook::of(&context.pins, netlink, &wanted, AttachMode::Auto).await {
        Ok(outlook) => outlook,
        Err(failure) => {
            let hint = failure.hint().map(ToOwned::to_owned);
            let cause = format!("{path} would be refused: {failure}");
            return Ok((ConfigFacts::Unusable { path, cause, hint }, None));
        }
    };
    if *pins == Pins::None {
        let steered = doctor::found_in_plan(&outlook.plan);
        return Ok((usable(Vec::new()), Some(steered)));
    }
    let mut differences = Difference::of(&outlook.existing, &outlook.plan).entries;
    if weights == Weights::Auto {
        // Measured ones are another thing than those that they began with.
        differences.retain(|entry| !is_weight(entry));
    }
    Ok((usable(differences), None))
}

fn is_weight(entry: &Entry) -> bool {
    matches!(
        entry.kind,
        crate::plan::EntryKind::Becomes { what: "weight", .. }
    )
}

/// A file that cannot be used. That there is none is wrong only where somebody wants it.
fn of_error(path: String, wanted: Option<&Path>, error: &FileError) -> ConfigFacts {
    let is_absent = matches!(error, FileError::Io { source, .. }
        if source.kind() == std::io::ErrorKind::NotFound);
    if is_absent && wanted.is_none() {
        return ConfigFacts::Absent { path };
    }
    let hint = match error {
        FileError::Io { .. } => error.hint(),
        FileError::Config(_) => Some(format!("steerctl check {path}")),
    };
    let cause = error.to_string();
    ConfigFacts::Unusable { path, cause, hint }
}

/// A `steerctl run`, by its command line.
struct Daemon {
    pid: i32,
    args: RunArgs,
}

impl Daemon {
    /// `None` if it cannot be seen, or is of another version whose command line is another one.
    fn of(pid: i32) -> Option<Self> {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let line = String::from_utf8(line).ok()?;
        let words = line.trim_end_matches('\0').split('\0');
        match Cli::parse_from_args(words).ok()?.command {
            Command::Run(args) => Some(Self { pid, args }),
            _ => None,
        }
    }

    /// The file that it reads at a reload.
    fn file(&self) -> Option<PathBuf> {
        let steer = &self.args.steer;
        if let Some(path) = &steer.config {
            // A relative one is so to where it works.
            let dir = fs::read_link(format!("/proc/{}/cwd", self.pid)).ok()?;
            return Some(dir.join(path));
        }
        let default = PathBuf::from(CONFIG_DEFAULT);
        (!steer.name_a_group() && default.exists()).then_some(default)
    }
}
