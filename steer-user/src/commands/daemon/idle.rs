//! The daemon's part that forgets idle flows: in a thread of its own, since after a flood there may be a million.

use std::{
    io,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel},
    thread::{Builder, JoinHandle},
    time::{Duration, Instant},
};

use steer_common::decide;

use crate::{
    datapath::{DatapathError, maps::Maps},
    sys::now_ns,
};

/// How often idle flows are removed from the table.
const COLLECT: Duration = Duration::from_secs(10);

/// The thread that removes idle flows; it ends with this.
pub(in crate::commands) struct IdleThread {
    /// Nothing is ever sent; the thread ends when it is closed.
    wanted: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl IdleThread {
    /// Starts to remove the idle flows of these maps.
    pub(in crate::commands) fn start(mut maps: Maps) -> io::Result<Self> {
        let (wanted, is_wanted) = channel();
        let work = move || {
            loop {
                if let Err(error) = collect(&mut maps, &is_wanted) {
                    log::warn!("removing idle flows: {error}");
                }
                if is_wanted.recv_timeout(COLLECT) != Err(RecvTimeoutError::Timeout) {
                    break;
                }
            }
        };
        Ok(Self {
            wanted: Some(wanted),
            thread: Some(Builder::new().name("steer-idle".into()).spawn(work)?),
        })
    }

    /// Ends it, if it has not ended yet: nothing is removed after this.
    pub(in crate::commands) fn end(&mut self) {
        self.wanted = None;
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            log::error!("the thread that removes idle flows panicked");
        }
    }
}

impl Drop for IdleThread {
    fn drop(&mut self) {
        self.end();
    }
}

/// Removes the entries of flows that have been idle for longer than their time-out.
fn collect(maps: &mut Maps, is_wanted: &Receiver<()>) -> Result<(), DatapathError> {
    let settings = maps.settings()?;
    let began = Instant::now();
    let removed = maps.remove_flows(
        |key, entry| decide::is_idle(&settings, key, entry.phase, entry.last_seen_ns, now_ns()),
        || is_wanted.try_recv() == Err(TryRecvError::Disconnected),
    )?;
    if removed > 0 {
        log::debug!("{removed} idle flows forgotten in {:?}", began.elapsed());
    }
    Ok(())
}
