//! Datagrams of any size, each echoed and compared byte by byte.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::libc;

use crate::lab::{Conversation, Family, Lab, Protocol, Side, wait};

use super::message::content;
use super::server::ECHO_PORT;

/// Source ports: below those of probes and the client's ephemeral ones.
const FIRST_PORT: u16 = 10_000;
/// Tries before a datagram counts as lost: the first of IPv6 may only find the path's MTU.
const TRIES: usize = 5;
/// How long an echo may take.
const PATIENCE: Duration = Duration::from_millis(400);

/// Makes `flows` UDP flows from the client, each of which sends datagrams of
/// these sizes; each must come back complete before the next is sent. What does not fit into
/// the LAN's MTU is sent in fragments.
pub fn datagrams(
    lab: &Lab,
    family: Family,
    flows: usize,
    sizes: &[usize],
) -> Result<Vec<Conversation>> {
    lab.client().within(|| {
        (0..flows)
            .map(|_| {
                let port = FIRST_PORT + u16::try_from(lab.next_number() % 10_000)?;
                let client = SocketAddr::new(Side::A.host(family), port);
                let server = SocketAddr::new(Side::B.host(family), ECHO_PORT);
                // Not connected: the kernel then numbers fragments per destination, not per socket.
                let socket =
                    UdpSocket::bind(client).with_context(|| format!("udp {client}: bind"))?;
                socket.set_read_timeout(Some(PATIENCE))?;
                if family == Family::V4 {
                    allow_fragments(&socket)?;
                }
                for (number, size) in sizes.iter().enumerate() {
                    // No two datagrams are alike, nor are two fragments of one.
                    let start = usize::from(port) * 31 + number * 131;
                    echoed(&socket, server, &content(start, *size)).with_context(|| {
                        format!("datagram of {size} bytes, {client} → {server}")
                    })?;
                }
                Ok(Conversation {
                    protocol: Protocol::Udp,
                    client,
                    server,
                })
            })
            .collect()
    })
}

fn echoed(socket: &UdpSocket, server: SocketAddr, content: &[u8]) -> Result<()> {
    let mut buffer = vec![0; 65_536];
    let mut changed = 0;
    for _ in 0..TRIES {
        wait::check_interrupt()?;
        // Refused while the path's MTU is being learned.
        let _ = socket.send_to(content, server);
        while let Ok((length, _)) = socket.recv_from(&mut buffer) {
            if &buffer[..length] == content {
                return Ok(());
            }
            // Or late, if it is one that was sent twice.
            changed += usize::from(length == content.len());
        }
    }
    bail!("it did not come back; {changed} others of its size did")
}

/// Clears DF of what this socket sends (`IP_PMTUDISC_DONT`).
fn allow_fragments(socket: &UdpSocket) -> Result<()> {
    let never = libc::IP_PMTUDISC_DONT;
    let length = u32::try_from(size_of_val(&never)).expect("4 bytes");
    // SAFETY: the value is an int of the length given, and outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            (&raw const never).cast(),
            length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error()).context("IP_MTU_DISCOVER")
    }
}
