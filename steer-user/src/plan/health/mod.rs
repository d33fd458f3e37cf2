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

use crate::sys::nanos;
pub use machine::Machine;
pub use pace::Pace;
pub use signals::Sample;
pub use spec::{ProbeSpec, ProbeTarget, Probes, interval};
pub use target::{door, means, source};
pub use verdict::{DeviceState, Means, Transition, Verdict, at_start};
pub use words::{is_fresh, phrase, phrase_at};

#[cfg(test)]
mod tests;
