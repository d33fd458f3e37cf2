//! The daemon's part that probes tunnels: in a thread of its own, so that nothing else makes a probe wait.
//!
//! A tunnel's health is written the moment it is known, without the write lock: one compare-and-swap
//! of one word. What follows from it, new bucket tables and an event, waits for that lock.

mod settle;
mod told;
mod tunnel;
mod watch;

use std::{io, sync::Arc, thread::JoinHandle};

use tokio::sync::{oneshot, watch as channel};

use crate::{
    commands::Failure,
    datapath::{maps::Maps, pins::PinDir},
    net::Devices,
    plan::health::Probes,
};

pub(in crate::commands) use told::at_start;

/// What the thread goes by.
#[derive(Clone, Debug)]
struct Orders {
    /// The devices as they are now; `None` until somebody has looked.
    devices: Option<Arc<Devices>>,
    probes: Arc<Probes>,
    ends: bool,
}

/// The thread that probes; it ends with this.
pub(in crate::commands) struct HealthThread {
    orders: channel::Sender<Orders>,
    thread: Option<JoinHandle<Result<(), Failure>>>,
    ended: oneshot::Receiver<()>,
}

impl HealthThread {
    /// Starts to probe what is pinned, as soon as devices are known.
    pub(in crate::commands) fn start(pins: PinDir, maps: Maps, probes: Probes) -> io::Result<Self> {
        let (orders, received) = channel::channel(Orders {
            devices: None,
            probes: Arc::new(probes),
            ends: false,
        });
        let (ends, ended) = oneshot::channel();
        let work = move || {
            // Dropped at the end, also when it panics.
            let _ends: oneshot::Sender<()> = ends;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(watch::run(pins, maps, received))
        };
        let thread = std::thread::Builder::new().name("steer-health".into());
        Ok(Self {
            orders,
            thread: Some(thread.spawn(work)?),
            ended,
        })
    }

    /// Tells it how the devices are now.
    pub(in crate::commands) fn follow(&self, devices: Devices) {
        let devices = Some(Arc::new(devices));
        self.orders.send_modify(|orders| orders.devices = devices);
    }

    /// Tells it how tunnels are to be probed from now on.
    pub(in crate::commands) fn probe(&self, probes: Probes) {
        self.orders
            .send_modify(|orders| orders.probes = Arc::new(probes));
    }

    /// Waits until it ends by itself, which it should not; gives why.
    pub(in crate::commands) async fn failure(&mut self) -> Failure {
        let _ = (&mut self.ended).await;
        let failed = || io::Error::other("the thread that probes tunnels ended");
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Err(failure))) => failure,
            _ => failed().into(),
        }
    }

    /// Ends it, if it has not ended yet: nothing is written after this.
    pub(in crate::commands) fn end(&mut self) {
        self.orders.send_modify(|orders| orders.ends = true);
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            log::error!("the thread that probes tunnels panicked");
        }
    }
}

impl Drop for HealthThread {
    fn drop(&mut self) {
        self.end();
    }
}
