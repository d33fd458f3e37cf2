//! What is pinned, and who looks after it.

use super::{Check, Judgement, Pins, Section, fail, ok, warn};
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
                "no steerctl run is there: devices and tunnels' health are not followed, idle flows are not forgotten",
            )
            .with_fix("steerctl run --keep"),
        ],
        _ => Vec::new(),
    }
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
        if facts.pins != Pins::None || is_blind {
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
        let what = format!(
            "a start would steer {} over {}",
            prefixes.join(" "),
            names.collect::<Vec<_>>().join(" ")
        );
        vec![ok("discovery", what)]
    },
};
