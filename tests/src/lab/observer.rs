//! Which tunnel a flow really used, seen on the wire: packets of every flow by
//! tunnel and direction. It is the oracle of the end-to-end tests.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::listener::{Listener, Sighting};
use super::packet::{Conversation, Packet};
use super::paths::{Paths, Seen};
use super::{Lab, Side, tunnel_name};

/// Bytes kept of a packet: enough for IPv6 with extension headers and ports.
const SNAP_BYTES: usize = 128;
/// For how long a flow may be silent in a window until it is missing.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// How often a window that is too short is looked at.
const POLL: Duration = Duration::from_millis(50);

/// Packet sockets on gateway A's tunnels.
#[derive(Debug)]
pub struct Observer {
    listener: Listener<HashMap<Conversation, Paths>>,
}

impl Observer {
    /// Starts to observe all tunnel devices of gateway A that exist.
    pub fn start(lab: &Lab) -> Result<Self> {
        let tunnels: Vec<_> = (0..lab.options().tunnels).map(tunnel_name).collect();
        let listener = Listener::start(lab.gateway(Side::A), &tunnels, SNAP_BYTES, note)?;
        Ok(Self { listener })
    }

    /// Everything seen since the start or the last [`Observer::take`], including
    /// all packets that passed before this call; starts anew.
    pub fn take(&self) -> Result<Seen> {
        self.listener.take().map(|flows| Seen { flows })
    }

    /// What is seen while `duration` passes, and then until each of `flows` was seen in both directions: a
    /// machine that stands still for a moment is no flow that stopped. One that is silent for longer is missing.
    pub fn window(&self, flows: &[Conversation], duration: Duration) -> Result<Seen> {
        self.window_until(duration, |seen| seen.shows(flows))
    }

    /// What is seen while `duration` passes, and then until it `is_enough`, if it ever is.
    pub fn window_until(
        &self,
        duration: Duration,
        is_enough: impl Fn(&Seen) -> bool,
    ) -> Result<Seen> {
        self.take()?;
        super::wait::pause(duration)?;
        let mut seen = self.take()?;
        let start = Instant::now();
        while !is_enough(&seen) && start.elapsed() < SILENCE_MAX {
            super::wait::pause(POLL)?;
            seen.add(&self.take()?);
        }
        Ok(seen)
    }
}

fn note(flows: &mut HashMap<Conversation, Paths>, sighting: Sighting<'_>) {
    let flow = Packet::parse(sighting.bytes).and_then(|packet| packet.flow());
    if let Some((protocol, src, dst)) = flow {
        let conversation = Conversation::at_a(protocol, src, dst, sighting.outgoing);
        let paths = flows.entry(conversation).or_default();
        paths.count(sighting.device, sighting.outgoing);
    }
}
