//! Parallel TCP flows that send as fast as they can; goodput is what the server received.

use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::libc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::lab::{Family, Lab, Side, wait};

use super::clients::Clients;
use super::server::{SINK_PORT, Server};
use super::{new_flow_id, raise_file_limit};

/// Bytes that wait in a socket before they are in flight: few, so that a flow ends quickly.
static UNSENT_BYTES: u32 = 32 * 1024;

/// Source ports of bulk flows: above the client's ephemeral ones.
const PORTS: std::ops::Range<u16> = 61_000..65_000;

/// Bulk flows that run until this value is dropped.
#[derive(Debug)]
pub struct Bulk {
    flows: Vec<u64>,
    clients: Clients,
}

impl Bulk {
    /// Starts `count` flows from the client to the server; returns when the
    /// server received something of each.
    pub fn start(lab: &Lab, server: &Server, family: Family, count: usize) -> Result<Self> {
        raise_file_limit();
        let flows: Vec<_> = (0..count).map(|_| new_flow_id()).collect();
        let to = SocketAddr::new(Side::B.host(family), SINK_PORT);
        let ports: Vec<_> = flows.iter().map(|flow| (next_port(lab), *flow)).collect();
        let clients = Clients::start(lab, "bulk", move |stopped| {
            let flows = ports.into_iter();
            flows
                .map(|(port, flow)| send(to, port, flow, stopped.clone()))
                .collect()
        })?;
        let mut bulk = Self { flows, clients };
        wait::until(
            &format!("{count} TCP flows to {to}"),
            Duration::from_secs(15),
            || {
                bulk.clients.check()?;
                Ok(bulk
                    .bytes(server)
                    .iter()
                    .all(|bytes| *bytes > 0)
                    .then_some(()))
            },
        )?;
        Ok(bulk)
    }

    /// Bytes that the server received, per flow.
    pub fn bytes(&self, server: &Server) -> Vec<u64> {
        self.flows
            .iter()
            .map(|flow| server.received(*flow))
            .collect()
    }

    /// Goodput in Mbit/s of all flows together while `duration` passes.
    pub fn goodput(&mut self, server: &Server, duration: Duration) -> Result<f64> {
        let (before, start) = (self.bytes(server), Instant::now());
        wait::pause(duration)?;
        let (after, elapsed) = (self.bytes(server), start.elapsed());
        self.clients.check()?;
        Ok(mbit(
            after.iter().sum::<u64>() - before.iter().sum::<u64>(),
            elapsed,
        ))
    }
}

/// Bytes in a time as Mbit/s.
#[expect(clippy::cast_precision_loss, reason = "a measured rate")]
pub(super) fn mbit(bytes: u64, time: Duration) -> f64 {
    bytes as f64 * 8.0 / 1e6 / time.as_secs_f64()
}

/// The next of [`PORTS`], from the first again after the last.
pub(super) fn next_port(lab: &Lab) -> u16 {
    let n = lab.next_number() % u32::from(PORTS.end - PORTS.start);
    PORTS.start + u16::try_from(n).expect("less than the number of ports")
}

/// Connects from one of [`PORTS`]: the same flows in every lab, which the same
/// seed places alike.
pub(super) async fn connect(to: SocketAddr, port: u16) -> Result<TcpStream> {
    let (socket, from) = if to.is_ipv4() {
        (TcpSocket::new_v4()?, Side::A.host(Family::V4))
    } else {
        (TcpSocket::new_v6()?, Side::A.host(Family::V6))
    };
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::new(from, port))?;
    Ok(socket.connect(to).await?)
}

async fn send(
    to: SocketAddr,
    port: u16,
    flow: u64,
    mut stopped: watch::Receiver<()>,
) -> Result<()> {
    let bytes = vec![0; 64 * 1024];
    let mut stream = connect(to, port)
        .await
        .with_context(|| format!("tcp {to}: connect"))?;
    limit_unsent(&stream).context("TCP_NOTSENT_LOWAT")?;
    stream.write_u64(flow).await?;
    loop {
        tokio::select! {
            // `write` takes what fits; `write_all` would lose count when it is left.
            written = stream.write(&bytes) => {
                written.with_context(|| format!("tcp {:?} → {to}", stream.local_addr()))?;
            }
            // An error says that the sender is gone, which is the signal.
            _ = stopped.changed() => break,
        }
    }
    // The flow is over when the far end has read all of it: nothing of it is
    // left in a queue to disturb what is measured next.
    stream.shutdown().await?;
    let _ = timeout(Duration::from_secs(3), stream.read_u8()).await;
    Ok(())
}

/// Sets `TCP_NOTSENT_LOWAT` of tcp(7).
fn limit_unsent(stream: &TcpStream) -> std::io::Result<()> {
    let length = u32::try_from(size_of_val(&UNSENT_BYTES)).expect("4 bytes");
    // SAFETY: the value is a u32 of the length given, and outlives the call.
    let result = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NOTSENT_LOWAT,
            (&raw const UNSENT_BYTES).cast(),
            length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}
