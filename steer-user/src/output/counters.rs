//! What `steerctl status` counts: packets left to the kernel, other events, and the flow table.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use steer_common::abi::{Counters, PassCounters, PassReason};

use super::Colour;
use super::table::{Tone, paint, percent};

/// Packets left to the kernel by reason, in the order of [`PassReason`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PassedReport(pub Vec<(&'static str, u64)>);

impl PassedReport {
    /// From the counters, summed over all CPUs.
    pub fn new(counters: &PassCounters) -> Self {
        let counts: [u64; PassReason::ALL.len()] = bytemuck::cast(*counters);
        Self(
            PassReason::ALL
                .iter()
                .map(|reason| reason.name())
                .zip(counts)
                .collect(),
        )
    }
}

impl Serialize for PassedReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, count) in &self.0 {
            map.serialize_entry(name, count)?;
        }
        map.end()
    }
}

/// What happened to packets besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CountersReport {
    /// Fragments without a first one, which went by their address pair.
    pub unmatched_fragments: u64,
    /// ICMP errors about flows that are not known, which went by their address pair.
    pub unmatched_errors: u64,
    /// TCP openings whose MSS was lowered.
    pub clamped_mss: u64,
    /// Packets from tunnels that were forwarded to the LAN without the kernel.
    pub returned: u64,
}

impl CountersReport {
    /// From the counters, summed over all CPUs.
    pub fn new(counters: &Counters) -> Self {
        let Counters {
            unmatched_fragments,
            unmatched_errors,
            clamped_mss,
            returned,
            // Each tunnel's counters say from where and to where.
            moves: _,
        } = *counters;
        Self {
            unmatched_fragments,
            unmatched_errors,
            clamped_mss,
            returned,
        }
    }

    /// What there is to tell, or nothing.
    pub(super) fn render(self) -> Option<String> {
        let told: Vec<String> = [
            (self.returned, "forwarded to the LAN without the kernel"),
            (self.clamped_mss, "with a lowered MSS"),
            (self.unmatched_fragments, "fragments without their first"),
            (self.unmatched_errors, "ICMP errors about unknown flows"),
        ]
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
        (!told.is_empty()).then(|| told.join(", "))
    }
}

/// The flow table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FlowTableReport {
    /// Entries in use.
    pub entries: u64,
    /// Entries that it has room for.
    pub capacity: u64,
    /// Packets placed by the hash alone because it was full.
    pub full_packets: u64,
}

impl FlowTableReport {
    pub(super) fn render(self, colour: Colour) -> String {
        // A percentage for people; both numbers are far below 2^53.
        #[expect(clippy::cast_precision_loss, reason = "a percentage with one decimal")]
        let fill = if self.capacity == 0 {
            0.0
        } else {
            self.entries as f64 / self.capacity as f64
        };
        let line = format!(
            "{} of {} entries ({})",
            self.entries,
            self.capacity,
            percent(fill)
        );
        let tone = if fill > 0.95 {
            Tone::Warning
        } else {
            Tone::Plain
        };
        let mut line = paint(&line, tone, colour);
        if self.full_packets > 0 {
            let full = format!(
                ", was full: {} packets placed by the hash alone (see --max-flows)",
                self.full_packets
            );
            line.push_str(&paint(&full, Tone::Warning, colour));
        }
        line
    }
}
