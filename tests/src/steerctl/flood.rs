//! Numbered datagrams from the client: enough to see each of them arrive, once.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use etherparse::{SlicedPacket, TransportSlice};

use crate::lab::Host;

/// Where the datagrams go: behind the tunnels.
pub const FAR: &str = "10.2.0.2:9";

/// What the payload of each of our datagrams starts with.
const MAGIC: [u8; 8] = *b"steercli";

/// A datagram, by its flow and its number within the flood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Numbered {
    /// The sending port, which tells the flow.
    pub port: u16,
    /// Its number.
    pub number: u64,
}

impl Numbered {
    /// Reads an IP packet; `None` for any that is not ours.
    pub fn read(packet: &[u8]) -> Option<Self> {
        let sliced = SlicedPacket::from_ip(packet).ok()?;
        let Some(TransportSlice::Udp(udp)) = sliced.transport else {
            return None;
        };
        let number = udp.payload().strip_prefix(&MAGIC)?.first_chunk()?;
        Some(Self {
            port: udp.source_port(),
            number: u64::from_be_bytes(*number),
        })
    }
}

/// One UDP socket for each flow, in the client's namespace.
#[derive(Debug)]
pub struct Sender {
    sockets: Vec<UdpSocket>,
    next: u64,
}

impl Sender {
    /// Sockets for as many flows to [`FAR`].
    pub fn new(client: &Host, flows: usize) -> Result<Self> {
        Self::to(client, flows, FAR)
    }

    /// Sockets for as many flows to an address and port behind the tunnels.
    pub fn to(client: &Host, flows: usize, far: &str) -> Result<Self> {
        let far: SocketAddr = far.parse()?;
        let sockets = client.within(|| {
            let one = || -> Result<UdpSocket> {
                let socket = UdpSocket::bind("10.1.0.2:0")?;
                socket.connect(far)?;
                Ok(socket)
            };
            (0..flows).map(|_| one()).collect::<Result<Vec<_>>>()
        });
        Ok(Self {
            sockets: sockets.context("UDP sockets of the client")?,
            next: 0,
        })
    }

    /// The sending ports.
    pub fn ports(&self) -> Result<Vec<u16>> {
        let port = |socket: &UdpSocket| Ok(socket.local_addr()?.port());
        self.sockets.iter().map(port).collect()
    }

    /// The next datagram, of the next flow in turn.
    pub fn send(&mut self) -> Result<()> {
        let index = usize::try_from(self.next)? % self.sockets.len();
        let mut payload = MAGIC.to_vec();
        payload.extend(self.next.to_be_bytes());
        self.sockets[index].send(&payload)?;
        self.next += 1;
        Ok(())
    }

    /// One datagram of each flow.
    pub fn round(&mut self) -> Result<()> {
        (0..self.sockets.len()).try_for_each(|_| self.send())
    }

    /// How many were sent.
    pub fn sent(&self) -> u64 {
        self.next
    }
}

/// A steady stream of datagrams until it is stopped.
#[derive(Debug)]
pub struct Flood {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Sender>>>,
}

impl Flood {
    /// Sends `per_second` datagrams, the flows in turn.
    pub fn start(mut sender: Sender, per_second: u32) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let end = Arc::clone(&stop);
        let gap = Duration::from_secs(1) / per_second;
        let thread = thread::spawn(move || {
            let mut next = Instant::now();
            while !end.load(Ordering::Relaxed) {
                sender.send()?;
                // The pace of the stream. A late one is not made up for by a burst.
                next = (next + gap).max(Instant::now());
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            Ok(sender)
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }

    /// Ends the stream and gives the sockets back.
    pub fn stop(mut self) -> Result<Sender> {
        self.stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else {
            bail!("stopped before");
        };
        match thread.join() {
            Ok(sender) => sender,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
