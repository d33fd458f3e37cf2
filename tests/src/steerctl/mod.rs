//! `steerctl` from outside: a gateway with TUN devices for tunnels, small and
//! quick to make, and what one sees of steer without asking steer.

mod echo;
mod flood;
mod gateway;
mod manager;
mod outcome;
mod reader;
mod running;
mod table;
mod traces;

pub use flood::{FAR, Flood, Sender};
pub use gateway::{Gateway, has, missing};
pub use manager::Manager;
pub use outcome::{Outcome, Refusal};
pub use reader::{Reader, Seen};
pub use running::Running;
pub use table::{Flow, FlowTable};
pub use traces::{Link, links, tcx_programs, tcx_programs_at};

/// A test that runs where this machine can, and says `SKIP` where not. It is told its name.
#[macro_export]
macro_rules! gateway_test {
    ($name:ident, $work:expr) => {
        #[test]
        fn $name() -> anyhow::Result<()> {
            if let Some(reason) = $crate::steerctl::missing() {
                println!("SKIP {}: {reason}", stringify!($name));
                return Ok(());
            }
            let work: fn(&str) -> anyhow::Result<()> = $work;
            work(stringify!($name)).or_else(|error| {
                let missing = error.downcast::<$crate::lab::Missing>()?;
                println!("SKIP (optional) {}: {missing}", stringify!($name));
                Ok(())
            })
        }
    };
}
