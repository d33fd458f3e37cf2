//! Parallel TCP flows in which the server sends as fast as it can; goodput is what the client received.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::io::AsyncReadExt as _;
use tokio::sync::watch;

use crate::lab::{Family, Lab, Side, wait};

use super::bulk::{connect, mbit, next_port};
use super::clients::Clients;
use super::raise_file_limit;
use super::server::SOURCE_PORT;

/// Flows that run until this value is dropped. The client opens them.
#[derive(Debug)]
pub struct Download {
    received: Arc<Vec<AtomicU64>>,
    clients: Clients,
}

impl Download {
    /// Starts `count` flows; returns when the client received something of each.
    pub fn start(lab: &Lab, family: Family, count: usize) -> Result<Self> {
        raise_file_limit();
        let received: Arc<Vec<_>> = Arc::new((0..count).map(|_| AtomicU64::new(0)).collect());
        let to = SocketAddr::new(Side::B.host(family), SOURCE_PORT);
        let ports: Vec<_> = (0..count).map(|_| next_port(lab)).collect();
        let counters = Arc::clone(&received);
        let clients = Clients::start(lab, "download", move |stopped| {
            let flows = (0..).zip(ports);
            flows
                .map(|(n, port)| receive(to, port, Arc::clone(&counters), n, stopped.clone()))
                .collect()
        })?;
        let mut download = Self { received, clients };
        let what = format!("{count} TCP flows from {to}");
        wait::until(&what, Duration::from_secs(15), || {
            download.clients.check()?;
            let mut all = download.received.iter();
            Ok(all
                .all(|bytes| bytes.load(Ordering::Relaxed) > 0)
                .then_some(()))
        })?;
        Ok(download)
    }

    /// Goodput in Mbit/s of all flows together while `duration` passes.
    pub fn goodput(&mut self, duration: Duration) -> Result<f64> {
        let (before, start) = (self.bytes(), Instant::now());
        wait::pause(duration)?;
        let (after, elapsed) = (self.bytes(), start.elapsed());
        self.clients.check()?;
        Ok(mbit(after - before, elapsed))
    }

    fn bytes(&self) -> u64 {
        let all = self.received.iter();
        all.map(|bytes| bytes.load(Ordering::Relaxed)).sum()
    }
}

async fn receive(
    to: SocketAddr,
    port: u16,
    received: Arc<Vec<AtomicU64>>,
    flow: usize,
    mut stopped: watch::Receiver<()>,
) -> Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let mut stream = connect(to, port)
        .await
        .with_context(|| format!("tcp {to}: connect"))?;
    loop {
        tokio::select! {
            read = stream.read(&mut buffer) => {
                let length = read.with_context(|| format!("tcp {to}"))?;
                if length == 0 {
                    bail!("tcp {to}: the server ended it");
                }
                received[flow].fetch_add(length as u64, Ordering::Relaxed);
            }
            // An error says that the other end of this channel is gone, which is the signal.
            _ = stopped.changed() => return Ok(()),
        }
    }
}
