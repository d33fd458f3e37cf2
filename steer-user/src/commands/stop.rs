//! How work that takes a while ends before it is done.

use std::path::PathBuf;

use steer_common::abi::Admin;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep_until},
};

/// SIGINT and SIGTERM, from now on.
pub(super) struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupt {
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits until then; whether a signal came before.
    pub(super) async fn comes_before(&mut self, until: Instant) -> bool {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => true,
            _ = self.terminate.recv() => true,
            () = sleep_until(until) => false,
        }
    }
}

/// Why it ended before.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum StopError {
    #[error("stopped: {moved} flows were moved, {left} are left")]
    Interrupted { moved: u64, left: u64 },
    #[error(
        "group {group}: a weight or state of its tunnels was changed meanwhile: {moved} flows were moved, {left} are left"
    )]
    Changed {
        group: String,
        moved: u64,
        left: u64,
    },
    #[error("{}: steer was detached meanwhile", dir.display())]
    Detached { dir: PathBuf },
    #[error("stopped waiting: tunnel {name} stays in drain, {left} flows are left")]
    Waiting { name: String, left: u64 },
    #[error("tunnel {name}: {left} flows are still on it, and cannot be moved from here")]
    Stay { name: String, left: u64 },
    #[error("tunnel {name}: is {} now, no longer in drain", admin.name())]
    NotInDrain { name: String, admin: Admin },
}

impl StopError {
    /// The likely cure.
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Self::Interrupted { .. } => Some("the same command again goes on".into()),
            Self::Changed { .. } => Some("see steerctl weights, then again".into()),
            Self::Waiting { name, .. } => {
                Some(format!("steerctl undrain {name} gives it new flows again"))
            }
            Self::Stay { name, .. } => Some(format!(
                "drain it on the far gateway, too, which placed them; or steerctl disable {name}"
            )),
            Self::Detached { .. } | Self::NotInDrain { .. } => None,
        }
    }
}
