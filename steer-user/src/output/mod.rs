//! What `steerctl` prints: the JSON that scripts rely on, and tables for
//! people. Pure: reports come in, text goes out.
//!
//! Keys are never removed or given another meaning; what is not known is `null`.

mod change;
mod check;
mod counters;
mod difference;
mod doctor;
mod drain;
mod events;
mod flows;
mod plan;
mod routes;
mod status;
mod table;
mod tunnels;

use serde::Serialize;

pub use change::{AdminReport, AdminRow, FlowsOfTunnel, LiveFlows, WeightRow, WeightsReport};
pub use check::{CheckReport, ProblemReport};
pub use counters::{CountersReport, FlowTableReport, PassedReport};
pub use difference::{DifferenceReport, EntryReport};
pub use doctor::{DoctorReport, FindingReport};
pub use drain::drain_line;
pub use events::{EventReport, Happening, MovedFlow, NameBook, collapse, moved_flow};
pub use flows::{ExplainReport, FlowReport, render_flows};
pub use plan::{
    DetachReport, IdleReport, PlanReport, PlannedGroupReport, PlannedHookReport, PlannedRuleReport,
    PlannedTunnelReport, SysctlReport,
};
pub use routes::{RouteHopReport, RouteSetReport, RoutesReport, shortened};
pub use status::{GroupReport, HookReport, StatusReport, TunnelReport};
pub use tunnels::{EndReport, NewTunnelReport, TunnelsPlanReport};

/// Whether the text goes to a terminal that shows colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Colour {
    /// Plain text.
    #[default]
    Off,
    /// What needs attention is coloured.
    On,
}

/// A report as JSON on one line, with a final newline.
pub fn json_line(report: &impl Serialize) -> Result<String, serde_json::Error> {
    serde_json::to_string(report).map(|text| text + "\n")
}

/// A report as JSON, with a final newline.
pub fn json(report: &impl Serialize) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(report).map(|text| text + "\n")
}
