//! The far end: counts what bulk flows deliver, echoes messages.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::oneshot;

use crate::lab::{Family, Lab, Side};

use super::{message, raise_file_limit, runtime};

/// TCP port of the sink for bulk flows.
pub(super) const SINK_PORT: u16 = 7_000;
/// TCP port and first UDP port of the echo.
pub const ECHO_PORT: u16 = 7_001;
/// TCP port that sends as fast as it can.
pub(super) const SOURCE_PORT: u16 = 7_009;
/// Number of UDP echo ports: with all source ports, about 400,000 distinct flows.
pub(super) const ECHO_PORTS: u16 = 8;

/// Bytes received, by flow.
type Received = Arc<Mutex<HashMap<u64, Arc<AtomicU64>>>>;

/// The server's thread in the namespace behind a gateway.
#[derive(Debug)]
pub struct Server {
    received: Received,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts to listen on the server's addresses, behind gateway B.
    pub fn start(lab: &Lab) -> Result<Self> {
        Self::behind(lab, Side::B)
    }

    /// Starts to listen on the addresses of the host behind a gateway.
    pub fn behind(lab: &Lab, side: Side) -> Result<Self> {
        raise_file_limit();
        let received = Received::default();
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = mpsc::channel();
        let thread = std::thread::Builder::new().name("server".into()).spawn({
            let (host, received) = (lab.host(side).clone(), Arc::clone(&received));
            move || {
                let run = || -> Result<()> {
                    host.enter()?;
                    let runtime = runtime()?;
                    runtime.block_on(listen(side, &received))?;
                    let _ = ready.send(Ok(()));
                    let _ = runtime.block_on(stopped);
                    Ok(())
                };
                if let Err(error) = run() {
                    let _ = ready.send(Err(error));
                }
            }
        })?;
        is_ready.recv().context("server: ended")??;
        Ok(Self {
            received,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Bytes that the sink received of a flow so far.
    pub(super) fn received(&self, flow: u64) -> u64 {
        let flows = self.received.lock().expect("no holder panics");
        flows
            .get(&flow)
            .map_or(0, |bytes| bytes.load(Ordering::Relaxed))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Opens all sockets and leaves a task on each.
async fn listen(side: Side, received: &Received) -> Result<()> {
    for family in [Family::V4, Family::V6] {
        let address = side.host(family);
        let sink = tcp(address, SINK_PORT).await?;
        let received = Arc::clone(received);
        tokio::spawn(accept(sink, move |stream| {
            count(stream, Arc::clone(&received))
        }));
        tokio::spawn(accept(tcp(address, SOURCE_PORT).await?, pour));
        tokio::spawn(accept(tcp(address, ECHO_PORT).await?, echo));
        for port in ECHO_PORT..ECHO_PORT + ECHO_PORTS {
            let at = SocketAddr::new(address, port);
            let socket = UdpSocket::bind(at)
                .await
                .with_context(|| format!("server: udp {at}"))?;
            enlarge(&socket)?;
            tokio::spawn(echo_datagrams(socket));
        }
    }
    Ok(())
}

async fn tcp(address: IpAddr, port: u16) -> Result<TcpListener> {
    let at = SocketAddr::new(address, port);
    TcpListener::bind(at)
        .await
        .with_context(|| format!("server: tcp {at}"))
}

/// Room for a burst: what is lost here must not look lost in a tunnel.
pub(super) fn enlarge(socket: &impl std::os::fd::AsFd) -> Result<()> {
    use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
    setsockopt(socket, RcvBufForce, &(8 << 20)).context("SO_RCVBUFFORCE")
}

async fn accept<F, T>(listener: TcpListener, serve: F)
where
    F: Fn(TcpStream) -> T,
    T: Future<Output = ()> + Send + 'static,
{
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        } else {
            tokio::task::yield_now().await;
        }
    }
}

/// Counts a bulk flow's bytes under the number that it starts with.
async fn count(mut stream: TcpStream, received: Received) {
    let Ok(flow) = stream.read_u64().await else {
        return;
    };
    let bytes = Arc::clone(
        received
            .lock()
            .expect("no holder panics")
            .entry(flow)
            .or_default(),
    );
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = stream.read(&mut buffer).await {
        bytes.fetch_add(n as u64, Ordering::Relaxed);
    }
}

/// Sends until the far end has enough.
async fn pour(mut stream: TcpStream) {
    let bytes = vec![0; 64 * 1024];
    while stream.write_all(&bytes).await.is_ok() {}
}

async fn echo(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut buffer = [0; message::BYTES];
    while stream.read_exact(&mut buffer).await.is_ok() {
        if stream.write_all(&buffer).await.is_err() {
            return;
        }
    }
}

async fn echo_datagrams(socket: UdpSocket) {
    let mut buffer = vec![0; 65_536];
    loop {
        // An ICMP error of one client is no reason to stop serving the others.
        if let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let _ = socket.send_to(&buffer[..length], from).await;
        }
    }
}
