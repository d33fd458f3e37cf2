//! How work that takes a while ends before it is done.

use std::path::PathBuf;

use steer_common::abi::Admin;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep_until},
};

use crate::plan::Fate;

/// SIGINT and SIGTERM, from now on.
pub(in crate::commands) struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupt {
    pub(in crate::commands) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits until then; whether a signal came before.
    pub(in crate::commands) async fn comes_before(&mut self, until: Instant) -> bool {
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
pub(in crate::commands) enum StopError {
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
    Stay { name: String, left: u64, why: Fate },
    #[error("tunnel {name}: is {} now, no longer in drain", admin.name())]
    NotInDrain { name: String, admin: Admin },
}

/// What keeps flows on a tunnel in drain, and what helps.
fn why_they_stay(name: &str, why: Fate) -> String {
    let disable = |then: &str| format!("steerctl disable {name}{then}");
    match why {
        Fate {
            pinned: 0,
            alone: 0,
            ..
        } => format!(
            "drain it on the far gateway, too, which placed them; or {}",
            disable("")
        ),
        Fate {
            far, pinned, alone, ..
        } => {
            let parts = [
                (alone, "can go by no other tunnel"),
                (pinned, "have the tunnel's own address"),
                (far, "were placed by the far gateway: drain it there, too"),
            ];
            let parts = parts.iter().filter(|(count, _)| *count > 0);
            let parts: Vec<String> = parts
                .map(|(count, what)| format!("{count} {what}"))
                .collect();
            let disable = disable(" leaves to the kernel what can go by no other");
            format!("{}; {disable}", parts.join(", "))
        }
    }
}

impl StopError {
    /// The likely cure.
    pub(in crate::commands) fn hint(&self) -> Option<String> {
        match self {
            Self::Interrupted { .. } => Some("the same command again goes on".into()),
            Self::Changed { .. } => Some("see steerctl weights, then again".into()),
            Self::Waiting { name, .. } => {
                Some(format!("steerctl undrain {name} gives it new flows again"))
            }
            Self::Stay { name, why, .. } => Some(why_they_stay(name, *why)),
            Self::Detached { .. } | Self::NotInDrain { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_flows_stay() {
        let hint = |movable, far, pinned, alone| {
            let why = Fate {
                movable,
                far,
                pinned,
                alone,
            };
            why_they_stay("wg1", why)
        };
        assert_eq!(
            hint(0, 3, 0, 0),
            "drain it on the far gateway, too, which placed them; or steerctl disable wg1"
        );
        assert_eq!(
            hint(0, 0, 0, 20),
            "20 can go by no other tunnel; steerctl disable wg1 leaves to the kernel what can go by no other"
        );
        assert_eq!(
            hint(0, 3, 2, 20),
            "20 can go by no other tunnel, 2 have the tunnel's own address, \
             3 were placed by the far gateway: drain it there, too; \
             steerctl disable wg1 leaves to the kernel what can go by no other"
        );
    }
}
