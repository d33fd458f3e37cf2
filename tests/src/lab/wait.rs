//! Waiting: for a condition with a deadline, and for nothing longer than
//! Ctrl-C allows.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(5);

/// By how much this machine is slower than those that the tests' limits are made for: `STEER_TEST_SLOWNESS`,
/// which `cargo xtask vm` sets in emulated machines.
pub fn slowness() -> u32 {
    static SLOWNESS: OnceLock<u32> = OnceLock::new();
    *SLOWNESS.get_or_init(|| {
        let text = std::env::var("STEER_TEST_SLOWNESS").unwrap_or_default();
        text.parse().unwrap_or(1)
    })
}

/// A limit that is made for a common machine, for this one.
pub fn here(limit: Duration) -> Duration {
    limit * slowness()
}

fn flag() -> &'static Arc<AtomicBool> {
    static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    FLAG.get_or_init(Arc::default)
}

/// Makes SIGINT, SIGTERM and SIGHUP end every wait with [`Interrupted`]
/// instead of ending the process, so that the lab is taken down.
pub fn catch_signals() -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(flag()))
            .with_context(|| format!("signal {signal}: cannot be caught"))?;
    }
    Ok(())
}

/// The error of a wait that a signal ended.
#[derive(Debug)]
pub struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Fails with [`Interrupted`] once a signal came.
pub fn check_interrupt() -> Result<()> {
    if flag().load(Ordering::Relaxed) {
        return Err(Interrupted.into());
    }
    Ok(())
}

/// Waits until `probe` gives a value; the error after `limit` ([`here`]) names `what`.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let (start, limit) = (Instant::now(), here(limit));
    loop {
        check_interrupt()?;
        if let Some(value) = probe().with_context(|| format!("waiting for {what}"))? {
            return Ok(value);
        }
        if start.elapsed() > limit {
            bail!("{what}: not within {} s", limit.as_secs_f32());
        }
        std::thread::sleep(POLL);
    }
}

/// Lets `duration` pass: the length of a measurement, never a synchronisation.
pub fn pause(duration: Duration) -> Result<()> {
    let end = Instant::now() + duration;
    loop {
        check_interrupt()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
}
