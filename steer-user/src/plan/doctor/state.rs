//! What is pinned, and who looks after it.

use super::{Check, ConfigFacts, Facts, Judgement, Pins, Section, fail, ok, warn};
use crate::sys::Capability;

pub(super) const PINS: Check = Check {
    name: "pins",
    section: Section::State,
    fails: Some(
        "What is pinned is of another layout or namespace, or not steer's, or was left by a start that did not finish",
    ),
    warns: None,
    judge: |facts| {
        vec![match &facts.pins {
            Pins::None => ok("pins", "nothing is steered yet"),
            Pins::Steering { .. } => ok("pins", "made by a steer of this layout"),
            Pins::Unfinished => {
                fail("pins", "left by a start that did not finish").with_fix("steerctl detach")
            }
            Pins::Unusable(cause, hint) => Judgement {
                fix: hint.clone(),
                ..fail("pins", cause)
            },
        }]
    },
};

pub(super) const DAEMON: Check = Check {
    name: "daemon",
    section: Section::State,
    fails: None,
    warns: Some(
        "Packets are steered, but no `steerctl run` is there: devices, health and routes are not followed, idle flows not forgotten",
    ),
    judge: |facts| {
        match &facts.pins {
        Pins::Steering { daemon: Some(pid) } => {
            vec![ok("daemon", format!("steerctl run with pid {pid}"))]
        }
        Pins::Steering { daemon: None } => vec![
            warn(
                "daemon",
                "no steerctl run is there: devices and tunnels' health are not followed, idle flows are not forgotten; if it had a --config or a service, start it by that",
            )
            .with_fix(facts.fix_of_no_daemon()),
        ],
        _ => Vec::new(),
    }
    },
};

impl Facts<'_> {
    /// What brings a daemon back.
    pub(super) fn fix_of_no_daemon(&self) -> String {
        match &self.config {
            ConfigFacts::Usable { path, .. } => format!("steerctl run --keep --config {path}"),
            ConfigFacts::Absent { .. } | ConfigFacts::Unusable { .. } => {
                "steerctl run --keep".into()
            }
        }
    }
}

/// How many differences are told one by one.
const DIFFERENCES_TOLD: usize = 3;

pub(super) const CONFIG: Check = Check {
    name: "config",
    section: Section::State,
    fails: Some("The configuration file is wrong, or asks for what this machine cannot do"),
    warns: Some(
        "It differs from what is steered: an edit without a reload, or a change without `--save`",
    ),
    judge: |facts| {
        let is_steering = facts.is_steering();
        vec![match &facts.config {
            ConfigFacts::Absent { path } if is_steering => ok(
                "config",
                format!("no {path}: what is steered was named to steerctl"),
            ),
            ConfigFacts::Absent { path } => ok("config", format!("no {path}")),
            ConfigFacts::Unusable { path, cause, hint } => {
                let hint = hint.clone();
                fail("config", cause).with_fix(hint.unwrap_or(format!("steerctl check {path}")))
            }
            ConfigFacts::Usable { path, .. } if !is_steering => {
                ok("config", format!("{path} is valid"))
            }
            ConfigFacts::Usable {
                path,
                differences,
                reader,
            } => match differences.len() {
                0 => ok("config", format!("{path} is what is steered")),
                count => {
                    let mut told: Vec<String> = differences
                        .iter()
                        .take(DIFFERENCES_TOLD)
                        .map(ToString::to_string)
                        .collect();
                    if count > DIFFERENCES_TOLD {
                        told.push(format!("{} more", count - DIFFERENCES_TOLD));
                    }
                    let message =
                        format!("{path} differs from what is steered: {}", told.join("; "));
                    warn("config", message).with_fix(match reader {
                        Some(pid) => format!("kill -HUP {pid}"),
                        None => format!("steerctl attach --config {path}"),
                    })
                }
            },
        }]
    },
};

pub(super) const DISCOVERY: Check = Check {
    name: "discovery",
    section: Section::State,
    fails: Some("Before a start: it would find no tunnels, or no prefixes that all of them allow"),
    warns: None,
    judge: |facts| {
        // Without that, WireGuard tells nothing.
        let is_blind = !facts.host.capabilities.has(Capability::NetAdmin);
        // A start by the file would discover nothing.
        let is_refused = matches!(facts.config, ConfigFacts::Unusable { .. });
        if facts.pins != Pins::None || is_blind || is_refused {
            return Vec::new();
        }
        if let Some(error) = &facts.steered.undiscovered {
            let judgement = fail("discovery", error.to_string());
            return vec![Judgement {
                fix: error.hint(),
                ..judgement
            }];
        }
        let names = facts.steered.tunnels.iter().map(|t| t.name.as_str());
        let prefixes: Vec<String> = facts.prefixes().map(|prefix| prefix.to_string()).collect();
        let prefixes = match prefixes.as_slice() {
            [] => "what routes say".to_owned(),
            prefixes => prefixes.join(" "),
        };
        let what = format!(
            "a start would steer {prefixes} over {}",
            names.collect::<Vec<_>>().join(" ")
        );
        vec![ok("discovery", what)]
    },
};
