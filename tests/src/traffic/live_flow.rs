//! One live flow: what it sends, and which echoes came.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval_at, timeout};

use crate::lab::{Conversation, Family, Protocol, Side};

use super::live::{FlowReport, LiveSpec};
use super::message::{self, Message};
use super::new_flow_id;

/// How long the last echoes may take after the last message was sent.
const GRACE: Duration = Duration::from_secs(2);

/// A flow, from its first packet to its last.
#[derive(Debug)]
pub(super) struct Flow {
    id: u64,
    protocol: Protocol,
    /// Behind which gateway it was opened.
    opener: Side,
    /// Whom it is to.
    to: SocketAddr,
    local: OnceLock<SocketAddr>,
    sent: AtomicU64,
    echoed: AtomicU64,
    echoed_up_to: AtomicU64,
    broken: AtomicBool,
    /// Longest time without an echo, in µs.
    gap_us: AtomicU64,
}

impl Flow {
    pub(super) fn new(protocol: Protocol, opener: Side, to: SocketAddr) -> Self {
        Self {
            id: new_flow_id(),
            protocol,
            opener,
            to,
            local: OnceLock::new(),
            sent: AtomicU64::new(0),
            echoed: AtomicU64::new(0),
            echoed_up_to: AtomicU64::new(0),
            broken: AtomicBool::new(false),
            gap_us: AtomicU64::new(0),
        }
    }

    /// The flow's addresses, as its opener sees them.
    pub(super) fn conversation(&self) -> Option<Conversation> {
        let local = *self.local.get()?;
        let (client, server) = match self.opener {
            Side::A => (local, self.to),
            Side::B => (self.to, local),
        };
        Some(Conversation {
            protocol: self.protocol,
            client,
            server,
        })
    }

    /// Messages sent and echoed so far.
    pub(super) fn progress(&self) -> (u64, u64) {
        let [sent, echoed] = [&self.sent, &self.echoed].map(|n| n.load(Ordering::Relaxed));
        (sent, echoed)
    }

    /// The longest gap is the longest from now on.
    pub(super) fn forget_gap(&self) {
        self.gap_us.store(0, Ordering::Relaxed);
    }

    /// Sends until `stopped`, and waits for the last echoes.
    pub(super) async fn run(&self, spec: LiveSpec, phase: Duration, stopped: watch::Receiver<()>) {
        let mut ticks = interval_at(tokio::time::Instant::now() + phase, spec.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let result = match self.protocol {
            Protocol::Tcp => tcp(self, ticks, stopped).await,
            Protocol::Udp => udp(self, ticks, stopped).await,
        };
        if result.is_err() {
            self.broken.store(true, Ordering::Relaxed);
        }
    }

    /// What happened to it so far.
    pub(super) fn report(&self) -> Result<FlowReport> {
        let (sent, echoed) = self.progress();
        Ok(FlowReport {
            conversation: self
                .conversation()
                .context("a flow that was never opened")?,
            sent,
            echoed,
            echoed_up_to: self.echoed_up_to.load(Ordering::Relaxed),
            broken: self.broken.load(Ordering::Relaxed),
            longest_gap: Duration::from_micros(self.gap_us.load(Ordering::Relaxed)),
        })
    }

    /// Every message was echoed.
    fn complete(&self) -> bool {
        let (sent, echoed) = self.progress();
        sent == echoed
    }

    /// The next message to send.
    fn next(&self) -> [u8; message::BYTES] {
        let sequence = self.sent.fetch_add(1, Ordering::Relaxed);
        Message {
            flow: self.id,
            sequence,
        }
        .to_bytes()
    }
}

/// Which echoes of one flow came.
struct Echoes<'a> {
    flow: &'a Flow,
    seen: Vec<bool>,
    last: Instant,
}

impl<'a> Echoes<'a> {
    fn new(flow: &'a Flow) -> Self {
        Self {
            flow,
            seen: Vec::new(),
            last: Instant::now(),
        }
    }

    /// Counts an echo once; what is not of this flow is not counted.
    fn note(&mut self, bytes: &[u8]) {
        let Some(message) = Message::from_bytes(bytes) else {
            return;
        };
        let Ok(index) = usize::try_from(message.sequence) else {
            return;
        };
        if message.flow != self.flow.id
            || message.sequence >= self.flow.sent.load(Ordering::Relaxed)
        {
            return;
        }
        if self.seen.len() <= index {
            self.seen.resize(index + 1, false);
        }
        if !std::mem::replace(&mut self.seen[index], true) {
            let gap = u64::try_from(self.last.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.last = Instant::now();
            self.flow.gap_us.fetch_max(gap, Ordering::Relaxed);
            let up_to = message.sequence + 1;
            self.flow.echoed_up_to.fetch_max(up_to, Ordering::Relaxed);
            self.flow.echoed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn tcp(flow: &Flow, mut ticks: Interval, mut stopped: watch::Receiver<()>) -> Result<()> {
    let stream = TcpStream::connect(flow.to).await?;
    stream.set_nodelay(true)?;
    let _ = flow.local.set(stream.local_addr()?);
    let (mut reader, mut writer) = stream.into_split();
    let mut echoes = Echoes::new(flow);
    let mut buffer = [0; message::BYTES];
    let mut filled = 0;
    loop {
        tokio::select! {
            _ = stopped.changed() => break,
            _ = ticks.tick() => writer.write_all(&flow.next()).await?,
            // `read` loses nothing when another branch wins, `read_exact` would.
            read = reader.read(&mut buffer[filled..]) => {
                filled += received(read?)?;
                if filled == buffer.len() {
                    echoes.note(&buffer);
                    filled = 0;
                }
            }
        }
    }
    let rest = async {
        while !flow.complete() {
            filled += received(reader.read(&mut buffer[filled..]).await?)?;
            if filled == buffer.len() {
                echoes.note(&buffer);
                filled = 0;
            }
        }
        Ok(())
    };
    timeout(GRACE, rest).await.unwrap_or(Ok(()))
}

/// Bytes read; the far end's close is an error.
fn received(bytes: usize) -> Result<usize> {
    if bytes == 0 {
        return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
    }
    Ok(bytes)
}

async fn udp(flow: &Flow, mut ticks: Interval, mut stopped: watch::Receiver<()>) -> Result<()> {
    let family = if flow.to.is_ipv4() {
        Family::V4
    } else {
        Family::V6
    };
    let any: SocketAddr = (flow.opener.host(family), 0).into();
    let socket = UdpSocket::bind(any).await?;
    socket.connect(flow.to).await?;
    let _ = flow.local.set(socket.local_addr()?);
    let mut echoes = Echoes::new(flow);
    let mut buffer = [0; message::BYTES + 1];
    loop {
        tokio::select! {
            _ = stopped.changed() => break,
            // An ICMP error shows as a lost message.
            _ = ticks.tick() => drop(socket.send(&flow.next()).await),
            received = socket.recv(&mut buffer) => {
                if let Ok(length) = received {
                    echoes.note(&buffer[..length]);
                }
            }
        }
    }
    let rest = async {
        while !flow.complete() {
            if let Ok(length) = socket.recv(&mut buffer).await {
                echoes.note(&buffer[..length]);
            }
        }
    };
    let _ = timeout(GRACE, rest).await;
    Ok(())
}
