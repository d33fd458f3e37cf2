//! Long-lived flows that send a small message every now and then and count the echoes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval_at, timeout};

use crate::lab::{Conversation, Family, Lab, Protocol, Side, wait};

use super::message::{self, Message};
use super::server::ECHO_PORT;
use super::{new_flow_id, raise_file_limit, runtime};

/// How long the last echoes may take after the last message was sent.
const GRACE: Duration = Duration::from_secs(2);

/// How many live flows, and how busy.
#[derive(Debug, Clone, Copy)]
pub struct LiveSpec {
    /// IPv4 or IPv6.
    pub family: Family,
    /// Number of TCP flows.
    pub tcp: usize,
    /// Number of UDP flows.
    pub udp: usize,
    /// Time between two messages of a flow.
    pub interval: Duration,
}

impl LiveSpec {
    /// 100 TCP and 100 UDP flows, a message every 50 ms.
    pub fn two_hundred(family: Family) -> Self {
        Self {
            family,
            tcp: 100,
            udp: 100,
            interval: Duration::from_millis(50),
        }
    }
}

/// Live flows; they run until [`LiveFlows::stop`].
#[derive(Debug)]
pub struct LiveFlows {
    flows: Vec<Arc<State>>,
    stop: Option<watch::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Debug)]
struct State {
    id: u64,
    protocol: Protocol,
    server: SocketAddr,
    client: OnceLock<SocketAddr>,
    sent: AtomicU64,
    echoed: AtomicU64,
    broken: AtomicBool,
    /// Longest time without an echo, in µs.
    gap_us: AtomicU64,
}

/// What happened to one flow.
#[derive(Debug, Clone)]
pub struct FlowReport {
    /// The flow.
    pub conversation: Conversation,
    /// Messages sent.
    pub sent: u64,
    /// Distinct messages that came back.
    pub echoed: u64,
    /// Whether the connection failed.
    pub broken: bool,
    /// Longest time between two echoes.
    pub longest_gap: Duration,
}

/// What happened to all flows.
#[derive(Debug, Clone)]
pub struct LiveReport {
    /// Every flow.
    pub flows: Vec<FlowReport>,
}

impl LiveReport {
    /// Messages sent by all flows.
    pub fn sent(&self) -> u64 {
        self.flows.iter().map(|flow| flow.sent).sum()
    }

    /// Messages that did not come back.
    pub fn lost(&self) -> u64 {
        self.flows.iter().map(|flow| flow.sent - flow.echoed).sum()
    }

    /// Number of flows whose connection failed.
    pub fn broken(&self) -> usize {
        self.flows.iter().filter(|flow| flow.broken).count()
    }

    /// Longest time that any flow was without an echo.
    pub fn longest_gap(&self) -> Duration {
        self.flows
            .iter()
            .map(|flow| flow.longest_gap)
            .max()
            .unwrap_or_default()
    }
}

impl LiveFlows {
    /// Starts the flows; returns when each got two echoes.
    pub fn start(lab: &Lab, spec: LiveSpec) -> Result<Self> {
        raise_file_limit();
        let server = SocketAddr::new(Side::B.host(spec.family), ECHO_PORT);
        let protocols = std::iter::repeat_n(Protocol::Tcp, spec.tcp)
            .chain(std::iter::repeat_n(Protocol::Udp, spec.udp));
        let flows: Vec<_> = protocols
            .map(|protocol| Arc::new(State::new(protocol, server)))
            .collect();
        let (stop, stopped) = watch::channel(());
        let thread = std::thread::Builder::new().name("live".into()).spawn({
            let (host, flows) = (lab.client().clone(), flows.clone());
            move || -> Result<()> {
                host.enter()?;
                runtime()?.block_on(run_all(flows, spec, stopped))
            }
        })?;
        let live = Self {
            flows,
            stop: Some(stop),
            thread: Some(thread),
        };
        wait::until(
            &format!("{} live flows", live.flows.len()),
            Duration::from_secs(15),
            || {
                let all = live
                    .flows
                    .iter()
                    .all(|flow| flow.echoed.load(Ordering::Relaxed) >= 2);
                Ok(all.then_some(()))
            },
        )?;
        Ok(live)
    }

    /// The flows.
    pub fn conversations(&self) -> Vec<Conversation> {
        self.flows
            .iter()
            .filter_map(|flow| flow.conversation())
            .collect()
    }

    /// Messages sent and echoed so far.
    pub fn progress(&self) -> (u64, u64) {
        self.flows.iter().fold((0, 0), |(sent, echoed), flow| {
            (
                sent + flow.sent.load(Ordering::Relaxed),
                echoed + flow.echoed.load(Ordering::Relaxed),
            )
        })
    }

    /// Stops to send, waits for the last echoes, and reports.
    pub fn stop(mut self) -> Result<LiveReport> {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            match thread.join() {
                Ok(result) => result?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        let flows = self
            .flows
            .iter()
            .map(|flow| flow.report())
            .collect::<Result<_>>()?;
        Ok(LiveReport { flows })
    }
}

impl Drop for LiveFlows {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl State {
    fn new(protocol: Protocol, server: SocketAddr) -> Self {
        Self {
            id: new_flow_id(),
            protocol,
            server,
            client: OnceLock::new(),
            sent: AtomicU64::new(0),
            echoed: AtomicU64::new(0),
            broken: AtomicBool::new(false),
            gap_us: AtomicU64::new(0),
        }
    }

    fn conversation(&self) -> Option<Conversation> {
        let client = *self.client.get()?;
        Some(Conversation {
            protocol: self.protocol,
            client,
            server: self.server,
        })
    }

    fn report(&self) -> Result<FlowReport> {
        Ok(FlowReport {
            conversation: self
                .conversation()
                .context("a flow that was never opened")?,
            sent: self.sent.load(Ordering::Relaxed),
            echoed: self.echoed.load(Ordering::Relaxed),
            broken: self.broken.load(Ordering::Relaxed),
            longest_gap: Duration::from_micros(self.gap_us.load(Ordering::Relaxed)),
        })
    }

    /// Every message was echoed.
    fn complete(&self) -> bool {
        self.sent.load(Ordering::Relaxed) == self.echoed.load(Ordering::Relaxed)
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
    state: &'a State,
    seen: Vec<bool>,
    last: Instant,
}

impl<'a> Echoes<'a> {
    fn new(state: &'a State) -> Self {
        Self {
            state,
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
        if message.flow != self.state.id
            || message.sequence >= self.state.sent.load(Ordering::Relaxed)
        {
            return;
        }
        if self.seen.len() <= index {
            self.seen.resize(index + 1, false);
        }
        if !std::mem::replace(&mut self.seen[index], true) {
            let gap = u64::try_from(self.last.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.last = Instant::now();
            self.state.gap_us.fetch_max(gap, Ordering::Relaxed);
            self.state.echoed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn run_all(
    flows: Vec<Arc<State>>,
    spec: LiveSpec,
    stopped: watch::Receiver<()>,
) -> Result<()> {
    let count = u32::try_from(flows.len().max(1))?;
    let tasks: Vec<_> = (0..)
        .zip(flows)
        .map(|(n, flow): (u32, _)| {
            let mut stopped = stopped.clone();
            // The flows' messages are spread evenly over the interval.
            let phase = spec.interval * n / count;
            tokio::spawn(async move {
                let result = match flow.protocol {
                    Protocol::Tcp => tcp(&flow, spec, phase, &mut stopped).await,
                    Protocol::Udp => udp(&flow, spec, phase, &mut stopped).await,
                };
                if result.is_err() {
                    flow.broken.store(true, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await?;
    }
    Ok(())
}

fn ticks(spec: LiveSpec, phase: Duration) -> tokio::time::Interval {
    let mut ticks = interval_at(tokio::time::Instant::now() + phase, spec.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn tcp(
    flow: &State,
    spec: LiveSpec,
    phase: Duration,
    stopped: &mut watch::Receiver<()>,
) -> Result<()> {
    let stream = TcpStream::connect(flow.server).await?;
    stream.set_nodelay(true)?;
    let _ = flow.client.set(stream.local_addr()?);
    let (mut reader, mut writer) = stream.into_split();
    let mut echoes = Echoes::new(flow);
    let mut ticks = ticks(spec, phase);
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

async fn udp(
    flow: &State,
    spec: LiveSpec,
    phase: Duration,
    stopped: &mut watch::Receiver<()>,
) -> Result<()> {
    let any: SocketAddr = (Side::A.host(spec.family), 0).into();
    let socket = UdpSocket::bind(any).await?;
    socket.connect(flow.server).await?;
    let _ = flow.client.set(socket.local_addr()?);
    let mut echoes = Echoes::new(flow);
    let mut ticks = ticks(spec, phase);
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
