//! How clap reads steer's own kinds of values.

use steer_common::abi::{FLOWS_MAX, HookMode, HookOrder, TUNNELS_PER_GROUP_MAX};

use crate::plan::HookChoice;

/// Largest flow table that `--max-flows` may ask for: 16 times the default's limit, about 3 GB.
pub const MAX_FLOWS_MAX: u32 = 16 * FLOWS_MAX;

/// How a new flow gets its tunnel. Later versions add `least-loaded`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// By weighted consistent hash.
    Hash,
}

/// A value that exists in steer's design but not in this version, or nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ChoiceError {
    /// A later version will have it.
    #[error("{option} {given}: not available yet in this version")]
    NotYet {
        option: &'static str,
        given: String,
        choices: &'static str,
    },
    /// Nobody has heard of it.
    #[error("{option} {given}: no such choice")]
    Unknown {
        option: &'static str,
        given: String,
        choices: &'static str,
    },
    /// Not a number, or out of range.
    #[error("--max-flows {given}: not a number in 1 to {MAX_FLOWS_MAX}")]
    MaxFlows { given: String },
    /// Not a number, or out of range.
    #[error("--count {given}: not a number in 2 to {TUNNELS_PER_GROUP_MAX}")]
    Count { given: String },
}

impl ChoiceError {
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Self::NotYet { choices, .. } | Self::Unknown { choices, .. } => {
                Some(format!("available: {choices}"))
            }
            Self::MaxFlows { .. } | Self::Count { .. } => None,
        }
    }
}

pub(super) fn hook(given: &str) -> Result<HookChoice, ChoiceError> {
    let (option, choices) = ("--hook", "auto, ingress, egress, mark");
    let given_owned = || given.to_owned();
    match given {
        "auto" => Ok(HookChoice::Auto),
        "ingress" => Ok(HookChoice::Mode(HookMode::Ingress)),
        "egress" => Ok(HookChoice::Mode(HookMode::Egress)),
        "mark" => Ok(HookChoice::Mode(HookMode::Mark)),
        "xdp" => Err(ChoiceError::NotYet {
            option,
            given: given_owned(),
            choices,
        }),
        _ => Err(ChoiceError::Unknown {
            option,
            given: given_owned(),
            choices,
        }),
    }
}

pub(super) fn order(given: &str) -> Result<HookOrder, ChoiceError> {
    match given {
        "first" => Ok(HookOrder::First),
        "last" => Ok(HookOrder::Last),
        _ => Err(ChoiceError::Unknown {
            option: "--order",
            given: given.to_owned(),
            choices: "first, last",
        }),
    }
}

pub(super) fn placement(given: &str) -> Result<Placement, ChoiceError> {
    let (option, choices) = ("--placement", "hash");
    match given {
        "hash" => Ok(Placement::Hash),
        "least-loaded" => Err(ChoiceError::NotYet {
            option,
            given: given.to_owned(),
            choices,
        }),
        _ => Err(ChoiceError::Unknown {
            option,
            given: given.to_owned(),
            choices,
        }),
    }
}

pub(super) fn max_flows(given: &str) -> Result<u32, ChoiceError> {
    match given.parse::<u32>() {
        Ok(number) if (1..=MAX_FLOWS_MAX).contains(&number) => Ok(number),
        _ => Err(ChoiceError::MaxFlows {
            given: given.to_owned(),
        }),
    }
}

pub(super) fn tunnel_count(given: &str) -> Result<usize, ChoiceError> {
    match given.parse() {
        Ok(count) if (2..=TUNNELS_PER_GROUP_MAX).contains(&count) => Ok(count),
        _ => Err(ChoiceError::Count {
            given: given.to_owned(),
        }),
    }
}
