//! Long-lived flows that send a small message every now and then and count the echoes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use tokio::sync::watch;

use crate::lab::{Conversation, Family, Lab, Protocol, Side, wait};

use super::live_flow::Flow;
use super::server::ECHO_PORT;
use super::{raise_file_limit, runtime};

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
    flows: Vec<Arc<Flow>>,
    stop: Option<watch::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
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
    /// Messages up to the latest one that came back.
    pub echoed_up_to: u64,
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
    /// Starts flows from the client to the server; returns when each got two echoes.
    pub fn start(lab: &Lab, spec: LiveSpec) -> Result<Self> {
        let to = SocketAddr::new(Side::B.host(spec.family), ECHO_PORT);
        Self::between(lab, Side::A, to, spec)
    }

    /// Starts flows from the host behind a gateway to an echo; returns when each got two echoes.
    pub fn between(lab: &Lab, opener: Side, to: SocketAddr, spec: LiveSpec) -> Result<Self> {
        raise_file_limit();
        let protocols = std::iter::repeat_n(Protocol::Tcp, spec.tcp)
            .chain(std::iter::repeat_n(Protocol::Udp, spec.udp));
        let flows: Vec<_> = protocols
            .map(|protocol| Arc::new(Flow::new(protocol, opener, to)))
            .collect();
        let (stop, stopped) = watch::channel(());
        let thread = std::thread::Builder::new().name("live".into()).spawn({
            let (host, flows) = (lab.host(opener).clone(), flows.clone());
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
                let all = live.flows.iter().all(|flow| flow.progress().1 >= 2);
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
            let (more_sent, more_echoed) = flow.progress();
            (sent + more_sent, echoed + more_echoed)
        })
    }

    /// Gaps are measured from now on.
    pub fn forget_gaps(&self) {
        for flow in &self.flows {
            flow.forget_gap();
        }
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
        self.report()
    }

    /// What happened so far.
    pub fn report(&self) -> Result<LiveReport> {
        let flows = self.flows.iter().map(|flow| flow.report());
        Ok(LiveReport {
            flows: flows.collect::<Result<_>>()?,
        })
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

async fn run_all(
    flows: Vec<Arc<Flow>>,
    spec: LiveSpec,
    stopped: watch::Receiver<()>,
) -> Result<()> {
    let count = u32::try_from(flows.len().max(1))?;
    let tasks: Vec<_> = (0..)
        .zip(flows)
        .map(|(n, flow): (u32, _)| {
            let stopped = stopped.clone();
            // The flows' messages are spread evenly over the interval.
            let phase = spec.interval * n / count;
            tokio::spawn(async move { flow.run(spec, phase, stopped).await })
        })
        .collect();
    for task in tasks {
        task.await?;
    }
    Ok(())
}
