//! The bucket table, looked at all the time.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use steer_common::abi::{GroupId, TunnelId};
use steer_user::datapath::maps::Maps;
use steer_user::datapath::pins::PinDir;

/// How often it is looked at.
const PAUSE: Duration = Duration::from_micros(200);

type Table = Vec<TunnelId>;

/// Looks at a group's bucket table until dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    seen: Arc<Mutex<HashSet<Table>>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

/// The table as it is; without one, nothing.
pub(crate) fn table(maps: &Maps, group: GroupId) -> Result<Table> {
    let table = maps.buckets(group)?;
    Ok(table
        .map(|table| table.buckets.to_vec())
        .unwrap_or_default())
}

impl Watch {
    /// Begins.
    pub(crate) fn start(pin_dir: &Path, group: GroupId) -> Result<Self> {
        let maps = Maps::open(&PinDir::new(pin_dir))?;
        let (seen, end) = (
            Arc::<Mutex<HashSet<Table>>>::default(),
            Arc::<AtomicBool>::default(),
        );
        let (of_thread, ends) = (Arc::clone(&seen), Arc::clone(&end));
        let thread = thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                let table = table(&maps, group)?;
                of_thread
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(table);
                thread::sleep(PAUSE);
            }
            Ok(())
        });
        let thread = Some(thread);
        Ok(Self { seen, end, thread })
    }

    /// All tables that were seen since this was asked last.
    pub(crate) fn take(&self) -> HashSet<Table> {
        std::mem::take(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.end.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("stopped before")?;
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
    }
}
