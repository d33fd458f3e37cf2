//! One TCP connection that carries so many bytes each way, and what became of it.

use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::libc;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket};
use tokio::time::timeout;

use crate::lab::{Conversation, Host, Protocol, Side};

use super::message::content;
use super::runtime;

/// One end of a connection.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// Where its socket is.
    pub host: &'a Host,
    /// The socket's address; port 0 is any.
    pub at: SocketAddr,
}

impl<'a> End<'a> {
    /// Any port of an address of `host`.
    pub fn any_port(host: &'a Host, address: IpAddr) -> Self {
        Self {
            host,
            at: SocketAddr::new(address, 0),
        }
    }
}

/// What became of a [`transfer`].
#[derive(Debug, Clone, Copy)]
pub struct Transfer {
    /// Address of the end that opened the connection.
    pub from: SocketAddr,
    /// Address of the end that accepted it.
    pub to: SocketAddr,
    /// Bytes that arrived right, from the opener to the acceptor and back.
    pub arrived: [usize; 2],
    /// Bytes that were to arrive each way.
    pub bytes: usize,
    /// The path's MTU in the end, as the opener's and the acceptor's kernels know it.
    pub path_mtus: [u32; 2],
    /// How long it took from the first SYN.
    pub duration: Duration,
}

impl Transfer {
    /// The connection between client and server, whoever opened it.
    pub fn conversation(&self, opener: Side) -> Conversation {
        let (client, server) = match opener {
            Side::A => (self.from, self.to),
            Side::B => (self.to, self.from),
        };
        Conversation {
            protocol: Protocol::Tcp,
            client,
            server,
        }
    }

    /// Everything arrived.
    pub fn is_complete(&self) -> bool {
        self.arrived == [self.bytes; 2]
    }
}

/// Opens a connection and sends `bytes` both ways at once; after `limit`, what
/// is missing is missing.
pub fn transfer(from: End<'_>, to: End<'_>, bytes: usize, limit: Duration) -> Result<Transfer> {
    let start = Instant::now();
    let listener = to.host.within(|| Ok(StdListener::bind(to.at)?));
    let listener = listener.with_context(|| format!("tcp {}: listen", to.at))?;
    listener.set_nonblocking(true)?;
    let to = listener.local_addr()?;
    runtime()?.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        let socket = from.host.within(|| {
            let socket = if from.at.is_ipv4() {
                TcpSocket::new_v4()?
            } else {
                TcpSocket::new_v6()?
            };
            socket.set_reuseaddr(true)?;
            socket.bind(from.at)?;
            Ok(socket)
        })?;
        let from = socket.local_addr()?;
        let connected = timeout(limit, async {
            tokio::try_join!(socket.connect(to), async {
                listener.accept().await.map(|(stream, _)| stream)
            })
        });
        let mut transfer = Transfer {
            from,
            to,
            arrived: [0; 2],
            bytes,
            path_mtus: [0; 2],
            duration: Duration::ZERO,
        };
        if let Ok(connected) = connected.await {
            let (mut opener, mut acceptor) =
                connected.with_context(|| format!("tcp {from} → {to}: connect"))?;
            let [forth, back] = &mut transfer.arrived;
            let (mut opener_in, mut opener_out) = opener.split();
            let (mut acceptor_in, mut acceptor_out) = acceptor.split();
            let all = async {
                tokio::join!(
                    send(&mut opener_out, bytes),
                    send(&mut acceptor_out, bytes),
                    receive(&mut acceptor_in, bytes, forth),
                    receive(&mut opener_in, bytes, back),
                )
            };
            // What is missing shows in the numbers.
            let _ = timeout(limit.saturating_sub(start.elapsed()), all).await;
            transfer.path_mtus = [path_mtu(&opener, from)?, path_mtu(&acceptor, from)?];
        }
        transfer.duration = start.elapsed();
        Ok(transfer)
    })
}

async fn send(to: &mut (impl AsyncWrite + Unpin), bytes: usize) {
    // What is missing shows at the other end.
    let _ = to.write_all(&content(0, bytes)).await;
}

/// Counts the bytes up to the first read that brings something wrong.
async fn receive(from: &mut (impl AsyncRead + Unpin), bytes: usize, arrived: &mut usize) {
    let right = content(0, bytes);
    let mut buffer = vec![0; 64 * 1024];
    while *arrived < bytes {
        let Ok(length @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        if !right[*arrived..].starts_with(&buffer[..length]) {
            return;
        }
        *arrived += length;
    }
}

/// `IP_MTU` of ip(7): the path MTU that the kernel knows of a connected socket.
fn path_mtu(stream: &impl std::os::fd::AsRawFd, at: SocketAddr) -> Result<u32> {
    let (level, option) = if at.is_ipv4() {
        (libc::IPPROTO_IP, libc::IP_MTU)
    } else {
        (libc::IPPROTO_IPV6, libc::IPV6_MTU)
    };
    let mut mtu: u32 = 0;
    let mut length = u32::try_from(size_of_val(&mtu)).expect("4 bytes");
    // SAFETY: the value is an int of the length given, and outlives the call.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            level,
            option,
            (&raw mut mtu).cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(mtu)
    } else {
        Err(std::io::Error::last_os_error()).context("IP_MTU")
    }
}
