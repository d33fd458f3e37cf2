//! Whether a tunnel carries packets, by what is seen of it. Pure: time is a parameter.

mod damping;
mod estimate;
mod flight;
mod machine;
mod pace;
mod signals;
mod spec;
mod target;
mod verdict;
mod words;

use std::time::Duration;

pub use machine::Machine;
pub use pace::Pace;
pub use signals::Sample;
pub use spec::{ProbeSpec, ProbeTarget, Probes, interval};
pub use target::{door, means, source};
pub use verdict::{DeviceState, Means, Transition, Verdict, at_start};
pub use words::{is_fresh, phrase, phrase_at};

/// A time as the clock of the packet path counts it.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
