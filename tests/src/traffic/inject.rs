//! Sends bytes out of a device exactly as they are.

use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result, ensure};
use nix::libc;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, sendto, socket};

use crate::lab::{Host, link_address};

/// A packet socket for sending.
#[derive(Debug)]
pub struct Injector {
    socket: OwnedFd,
    ifindex: u32,
    to: Vec<u8>,
}

impl Injector {
    /// For whole frames, from the MAC header on.
    pub fn frames(host: &Host, device: &str) -> Result<Self> {
        Self::open(host, device, SockType::Raw, &[])
    }

    /// For packets from the IP header on, to a neighbour's MAC address: none on a tunnel.
    pub fn packets(host: &Host, device: &str, to: &[u8]) -> Result<Self> {
        Self::open(host, device, SockType::Datagram, to)
    }

    fn open(host: &Host, device: &str, kind: SockType, to: &[u8]) -> Result<Self> {
        let (socket, ifindex) = host.within(|| {
            let flags = SockFlag::SOCK_CLOEXEC;
            let socket = socket(AddressFamily::Packet, kind, flags, None)?;
            Ok((
                socket,
                if_nametoindex(device).with_context(|| device.to_owned())?,
            ))
        })?;
        Ok(Self {
            socket,
            ifindex,
            to: to.to_vec(),
        })
    }

    /// Sends a frame or a packet.
    pub fn send(&self, bytes: &[u8]) -> Result<()> {
        let ether_type = match bytes.first().map(|first| first >> 4) {
            Some(6) => libc::ETH_P_IPV6,
            _ => libc::ETH_P_IP,
        };
        let to = link_address(self.ifindex, u16::try_from(ether_type)?, &self.to)?;
        let sent = sendto(self.socket.as_raw_fd(), bytes, &to, MsgFlags::empty())?;
        ensure!(sent == bytes.len(), "{sent} bytes sent");
        Ok(())
    }
}
