//! Telling the service manager how things are (`sd_notify(3)`). Without one, nothing is told.

use std::time::Duration;

use sd_notify::NotifyState;

/// Packets are steered.
pub(in crate::commands) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The configuration is being read again; [`ready`] follows.
pub(in crate::commands) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => log::debug!("the monotonic clock: {error}"),
    }
}

/// This process is about to end.
pub(in crate::commands) fn stopping(status: &str) {
    tell(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

/// How long the manager waits for a sign of life, if it does.
pub(in crate::commands) fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// A sign of life.
pub(in crate::commands) fn alive() {
    tell(&[NotifyState::Watchdog]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::debug!("the service manager is not reached: {error}");
    }
}
