//! Many new flows, one after the other: each a UDP message and its echo.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::lab::{Conversation, Family, Lab, Protocol, Seen, Side, wait};

use super::message::{self, Message};
use super::new_flow_id;
use super::server::{ECHO_PORT, ECHO_PORTS};

/// Source ports of bursts: below the client's ephemeral ones.
const PORTS: std::ops::Range<u16> = 1_024..32_000;
/// Flows that wait for their echo at the same time.
const AT_ONCE: usize = 128;
/// Tries before a flow counts as not answered.
const TRIES: u64 = 5;

/// The flows of one [`burst`].
#[derive(Debug)]
pub struct Burst {
    /// All flows, every one with source port or destination port not used before.
    pub flows: Vec<Conversation>,
    /// Messages that had to be sent again.
    pub resent: u64,
}

impl Burst {
    /// Share of the flows per tunnel by what was seen on the wire; a flow that
    /// was seen on no tunnel, or on two, is an error.
    #[expect(clippy::cast_precision_loss, reason = "a share of at most 10^5 flows")]
    pub fn shares(&self, seen: &Seen) -> Result<BTreeMap<usize, f64>> {
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        for flow in &self.flows {
            let paths = seen
                .paths(flow)
                .with_context(|| format!("{flow:?}: on no tunnel"))?;
            let tunnel = paths
                .only_tunnel()
                .with_context(|| format!("{flow:?}: on two tunnels: {paths:?}"))?;
            *counts.entry(tunnel).or_default() += 1;
        }
        let all = self.flows.len() as f64;
        Ok(counts
            .into_iter()
            .map(|(tunnel, count)| (tunnel, count as f64 / all))
            .collect())
    }
}

/// Makes `count` new UDP flows from the client; each is answered before it ends.
pub fn burst(lab: &Lab, family: Family, count: usize) -> Result<Burst> {
    lab.client().within(|| {
        let mut burst = Burst {
            flows: Vec::with_capacity(count),
            resent: 0,
        };
        while burst.flows.len() < count {
            wait::check_interrupt()?;
            let some = AT_ONCE.min(count - burst.flows.len());
            let sockets = (0..some)
                .map(|_| new_flow(lab, family))
                .collect::<Result<Vec<(_, u64, _)>>>()?;
            for (socket, id, _) in &sockets {
                send(socket, *id)?;
            }
            for (socket, id, flow) in sockets {
                burst.resent += answered(&socket, id).with_context(|| format!("{flow:?}"))?;
                burst.flows.push(flow);
            }
        }
        Ok(burst)
    })
}

/// A socket for a pair of ports that this lab did not use before.
fn new_flow(lab: &Lab, family: Family) -> Result<(UdpSocket, u64, Conversation)> {
    let sources = u32::from(PORTS.end - PORTS.start);
    let (client, server) = (Side::A.host(family), Side::B.host(family));
    loop {
        let n = lab.next_number();
        let destination = u16::try_from(n / sources)?;
        if destination >= ECHO_PORTS {
            bail!("burst: all pairs of ports are used up");
        }
        let client = SocketAddr::new(client, PORTS.start + u16::try_from(n % sources)?);
        let server = SocketAddr::new(server, ECHO_PORT + destination);
        // A port that something else has: the next one will do.
        let Ok(socket) = UdpSocket::bind(client) else {
            continue;
        };
        socket
            .connect(server)
            .with_context(|| format!("udp {client} → {server}"))?;
        socket.set_read_timeout(Some(Duration::from_millis(300)))?;
        let flow = Conversation {
            protocol: Protocol::Udp,
            client,
            server,
        };
        return Ok((socket, new_flow_id(), flow));
    }
}

fn send(socket: &UdpSocket, id: u64) -> Result<()> {
    socket
        .send(
            &Message {
                flow: id,
                sequence: 0,
            }
            .to_bytes(),
        )
        .context("send")
        .map(drop)
}

/// Waits for the echo, sends again if it does not come; gives how often.
fn answered(socket: &UdpSocket, id: u64) -> Result<u64> {
    let mut buffer = [0; message::BYTES + 1];
    for resent in 0.. {
        if let Ok(length) = socket.recv(&mut buffer)
            && Message::from_bytes(&buffer[..length]).is_some_and(|message| message.flow == id)
        {
            return Ok(resent);
        }
        wait::check_interrupt()?;
        if resent == TRIES {
            break;
        }
        send(socket, id)?;
    }
    bail!("not answered")
}
