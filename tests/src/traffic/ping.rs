//! Echo requests from any address of any host.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, connect,
    recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use std::os::fd::AsRawFd as _;

use crate::lab::Host;

/// Bytes after the header of an echo.
const PAYLOAD_BYTES: usize = 56;

/// Sends an echo request with each of these identifiers from `from` to `to`,
/// one after the other, and gives those that were answered within `patience`.
pub fn ping(
    host: &Host,
    from: IpAddr,
    to: IpAddr,
    ids: &[u16],
    patience: Duration,
) -> Result<Vec<u16>> {
    let (family, protocol) = if to.is_ipv4() {
        (AddressFamily::Inet, SockProtocol::Icmp)
    } else {
        (AddressFamily::Inet6, SockProtocol::IcmpV6)
    };
    let address = |address| SockaddrStorage::from(SocketAddr::new(address, 0));
    host.within(|| {
        let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        bind(socket.as_raw_fd(), &address(from)).with_context(|| format!("ping from {from}"))?;
        connect(socket.as_raw_fd(), &address(to)).with_context(|| format!("ping {to}"))?;
        let limit = TimeVal::milliseconds(i64::try_from(patience.as_millis())?);
        setsockopt(&socket, sockopt::ReceiveTimeout, &limit)?;
        let mut answered = Vec::new();
        for id in ids {
            let request = request(to, *id);
            let reply = {
                let mut reply = request.clone();
                reply[0] = if to.is_ipv4() { 0 } else { 129 };
                reply
            };
            // A local error is no answer either.
            if send(socket.as_raw_fd(), &request, MsgFlags::empty()).is_err() {
                continue;
            }
            let start = Instant::now();
            let mut buffer = [0; 256];
            while start.elapsed() < patience {
                match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                    Ok(length) if is_reply(&buffer[..length], &reply) => {
                        answered.push(*id);
                        break;
                    }
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(_) => break,
                }
            }
        }
        Ok(answered)
    })
}

/// A raw socket of IPv4 gives the IP header, too; checksums differ.
fn is_reply(received: &[u8], reply: &[u8]) -> bool {
    let message = received.len().checked_sub(reply.len());
    message.is_some_and(|at| received[at] == reply[0] && received[at + 4..] == reply[4..])
}

/// An echo request. The kernel itself fills the checksum in for IPv6.
fn request(to: IpAddr, id: u16) -> Vec<u8> {
    let mut request = vec![0x5a; 8 + PAYLOAD_BYTES];
    request[..8].copy_from_slice(&[if to.is_ipv4() { 8 } else { 128 }, 0, 0, 0, 0, 0, 0, 1]);
    request[4..6].copy_from_slice(&id.to_be_bytes());
    if to.is_ipv4() {
        let sum = etherparse::checksum::Sum16BitWords::new()
            .add_slice(&request)
            .ones_complement();
        request[2..4].copy_from_slice(&sum.to_ne_bytes());
    }
    request
}
