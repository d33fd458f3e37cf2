//! The benchmark: what steer costs beside what does the same today, measured in one run.
//!
//! Absolute times belong to a machine, ratios travel. So every figure is measured in interleaved
//! rounds together with the baseline that it is compared with, each configuration in a namespace
//! of its own.

mod alone;
pub mod balance;
pub mod cost;
pub mod failover;
mod field;
pub mod goodput;
mod machine;
mod object;
pub mod peers;
pub mod publish;
pub mod report;
mod rounds;
pub mod scale;
mod scenario;
pub mod side_by_side;
mod sinks;
mod site;
pub mod smoke;
mod source;
mod stats;
pub mod stickiness;
mod values;

pub use alone::Alone;
pub use report::{Group, Report};
pub use rounds::Request;
pub use scenario::Scenario;
pub use stats::{Series, Spread};
