//! The configuration file, against the machine and what is steered.

use std::{net::IpAddr, path::Path};

use crate::{
    commands::{
        Context, Failure,
        carry::{
            outlook::Outlook,
            running::{self, Running},
        },
        requirements,
    },
    config::{self, FileError, Weights},
    net::Netlink,
    plan::{
        Difference, Entry,
        doctor::{self, ConfigFacts, Pins, Steered},
        health::Probes,
    },
};

/// What is known of the file, and what a start would steer by it.
pub(super) async fn read(
    context: &Context,
    netlink: &Netlink,
    pins: &Pins,
    named: Option<&Path>,
) -> Result<(ConfigFacts, Option<Steered>), Failure> {
    let running = match pins {
        Pins::Steering { daemon: Some(pid) } => Running::with_pid(*pid),
        _ => None,
    };
    let file = running::file_or(named, running.as_ref());
    let path = file.display().to_string();
    let config = match config::load(&file) {
        Ok(config) => config,
        Err(error) => {
            let of_running = running.and_then(|running| running.file());
            return Ok((
                of_error(path, named.or(of_running.as_deref()), &error),
                None,
            ));
        }
    };
    let reader = running.filter(|running| running.reads(&file));
    let usable = |differences| ConfigFacts::Usable {
        path: path.clone(),
        differences,
        reader: reader.as_ref().map(|running| running.pid),
    };
    let is_comparable = matches!(pins, Pins::None | Pins::Steering { .. });
    if !is_comparable || requirements::check()?.is_err() {
        return Ok((usable(Vec::new()), None));
    }
    let weights = reader.as_ref().and_then(|running| running.args.weights);
    let weights = weights.unwrap_or(config.weights);
    let (wanted, attach) = running::wanted_by(&file, config, reader.as_ref())?;
    let _lock = context.pins.lock()?;
    let outlook = match Outlook::of(&context.pins, netlink, &wanted, attach).await {
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

/// The addresses that were named for the probes of the daemon that is there, by tunnel; none where they cannot be
/// known.
pub(super) fn probe_targets(pins: &Pins) -> Vec<(String, IpAddr)> {
    let running = match pins {
        Pins::Steering { daemon: Some(pid) } => Running::with_pid(*pid),
        _ => None,
    };
    let probes = running.and_then(|running| {
        let file = match running.file() {
            Some(file) => config::load(&file).ok()?.probes(),
            None => Probes::default(),
        };
        Some(running.args.probe.over(file))
    });
    let tunnels = probes.into_iter().flat_map(|probes| probes.tunnels);
    let named = tunnels.filter(|(_, spec)| spec.enabled);
    named
        .filter_map(|(name, spec)| Some((name, spec.target?)))
        .collect()
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
