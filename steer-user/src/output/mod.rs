//! What `steerctl` prints: the JSON that scripts rely on, and tables for
//! people. Pure: reports come in, text goes out.
//!
//! Keys are never removed or given another meaning; what is not known is `null`.

mod change;
mod counters;
mod flows;
mod plan;
mod routes;
mod status;
mod table;

use serde::Serialize;

pub use change::{AdminReport, AdminRow, WeightRow, WeightsReport};
pub use counters::{CountersReport, FlowTableReport, PassedReport};
pub use flows::{ExplainReport, FlowReport, render_flows};
pub use plan::{
    DetachReport, IdleReport, PlanReport, PlannedHookReport, PlannedRuleReport,
    PlannedTunnelReport, SysctlReport, mss_clamp,
};
pub use routes::{RouteHopReport, RouteSetReport, RoutesReport, shortened};
pub use status::{GroupReport, HookReport, StatusReport, TunnelReport};

/// Whether the text goes to a terminal that shows colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Colour {
    /// Plain text.
    #[default]
    Off,
    /// What needs attention is coloured.
    On,
}

/// A report as JSON, with a final newline.
pub fn json(report: &impl Serialize) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(report).map(|text| text + "\n")
}
