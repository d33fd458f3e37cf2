//! How a plan differs from what is steered.

use std::fmt::Write;

use serde::Serialize;

use crate::plan::{Difference, Entry, EntryKind};

/// How a plan differs from what is steered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DifferenceReport {
    /// Each difference.
    pub entries: Vec<EntryReport>,
    /// Live flows that move at their next packet, because their tunnel leaves the group.
    pub flows_moved: u64,
    /// Live flows that are left to the kernel, because their prefix is no longer steered.
    pub flows_released: u64,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EntryReport {
    /// The group; `null` for what all groups have in common.
    pub group: Option<String>,
    /// `tunnel wg0`, `prefix 10.2.0.0/16`, `device lan0`; `null` for the group or the gateway itself.
    pub object: Option<String>,
    /// `new`, `leaves` or `becomes`.
    pub kind: &'static str,
    /// What becomes different: `weight`, `tier`, `id`, `hook` …; else `null`.
    pub what: Option<&'static str>,
    /// What it was.
    pub before: Option<String>,
    /// What it becomes.
    pub after: Option<String>,
    /// All of it in words.
    pub text: String,
}

impl EntryReport {
    fn new(entry: &Entry) -> Self {
        let (kind, what, before, after) = match &entry.kind {
            EntryKind::New => ("new", None, None, None),
            EntryKind::Leaves => ("leaves", None, None, None),
            EntryKind::Becomes {
                what,
                before,
                after,
            } => ("becomes", Some(*what), Some(before), Some(after)),
        };
        Self {
            group: entry.group.clone(),
            object: entry.object.clone(),
            kind,
            what,
            before: before.cloned(),
            after: after.cloned(),
            text: entry.to_string(),
        }
    }
}

impl DifferenceReport {
    /// Of a difference, and the live flows that it concerns.
    pub fn new(difference: &Difference, flows_moved: u64, flows_released: u64) -> Self {
        Self {
            entries: difference.entries.iter().map(EntryReport::new).collect(),
            flows_moved,
            flows_released,
        }
    }

    /// For people.
    pub fn render(&self) -> String {
        if self.entries.is_empty() {
            return "changes: none; live flows moved: 0\n".into();
        }
        let mut out = "changes:\n".to_owned();
        for entry in &self.entries {
            let _ = writeln!(out, "  {}", entry.text);
        }
        let _ = write!(out, "live flows moved: {}", self.flows_moved);
        if self.flows_released > 0 {
            let _ = write!(out, ", left to the kernel: {}", self.flows_released);
        }
        out.push('\n');
        out
    }
}
