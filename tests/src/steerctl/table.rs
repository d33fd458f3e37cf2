//! The flow table as a test wants it: entries of any number and age, written past steer.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context as _, Result};
use aya::maps::{HashMap, Map, MapData};
use nix::time::{ClockId, clock_gettime};
use steer_common::abi::{
    Endpoint, FlowEntry, FlowKey, GroupId, Origin, Phase, Placer, TunnelId, maps,
};
use steer_user::datapath::maps::Maps;
use steer_user::datapath::pins::PinDir;

type RawKey = [u8; size_of::<FlowKey>()];
type RawEntry = [u8; size_of::<FlowEntry>()];

/// The pinned flow table.
pub struct FlowTable {
    flows: HashMap<MapData, RawKey, RawEntry>,
    epoch: u32,
    now_ns: u64,
}

/// What a test says of an entry.
#[derive(Debug, Clone, Copy)]
pub struct Flow {
    /// Which one: its source is 10.1.0.0 and so much more, TCP.
    pub number: u32,
    /// Its tunnel.
    pub tunnel: TunnelId,
    /// Its group, a home group.
    pub group: GroupId,
    /// How long it has been idle.
    pub idle_ms: u64,
    /// Who placed it.
    pub placer: Placer,
}

impl Flow {
    /// A flow of the first group, placed here and seen just now.
    pub fn new(number: u32, tunnel: TunnelId) -> Self {
        Self {
            number,
            tunnel,
            group: 0,
            idle_ms: 0,
            placer: Placer::Near,
        }
    }

    fn key(self) -> FlowKey {
        let source = Ipv4Addr::from(0x0a01_0000 + (self.number >> 15));
        let port = 10_000 + u16::try_from(self.number & 0x7fff).unwrap_or(0);
        FlowKey {
            low_addr: source.to_ipv6_mapped().octets(),
            high_addr: Ipv4Addr::new(10, 2, 0, 2).to_ipv6_mapped().octets(),
            low_port: port,
            high_port: 443,
            protocol: 6,
        }
    }
}

impl FlowTable {
    /// Opens the table that is pinned in a directory.
    pub fn open(pin_dir: &Path) -> Result<Self> {
        let pins = PinDir::new(pin_dir);
        let data = MapData::from_pin(pins.map(maps::FLOWS))?;
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
        let now = std::time::Duration::from(now).as_nanos();
        Ok(Self {
            flows: Map::from_map_data(data)?.try_into()?,
            epoch: Maps::open(&pins)?.settings()?.epoch,
            now_ns: u64::try_from(now)?,
        })
    }

    /// Writes entries.
    pub fn put(&mut self, flows: impl IntoIterator<Item = Flow>) -> Result<()> {
        for flow in flows {
            let at_ns = self.now_ns.saturating_sub(flow.idle_ms * 1_000_000);
            let entry = FlowEntry {
                created_ns: at_ns,
                last_seen_ns: at_ns,
                tx_packets: 1,
                rx_packets: 0,
                tx_bytes: 100,
                rx_bytes: 0,
                epoch: self.epoch,
                tunnel: flow.tunnel.into(),
                group: flow.group.into(),
                home: flow.group.into(),
                origin: match flow.placer {
                    Placer::Near => Origin::Hashed,
                    Placer::Far => Origin::Learned,
                },
                local: Endpoint::Low,
                placer: flow.placer,
                phase: Phase::Open,
            };
            self.flows
                .insert(
                    bytemuck::cast::<_, RawKey>(flow.key()),
                    bytemuck::cast::<_, RawEntry>(entry),
                    0,
                )
                .with_context(|| format!("flow {}", flow.number))?;
        }
        Ok(())
    }

    /// Removes entries.
    pub fn remove(&mut self, flows: impl IntoIterator<Item = Flow>) -> Result<()> {
        for flow in flows {
            self.flows.remove(&bytemuck::cast(flow.key()))?;
        }
        Ok(())
    }

    /// The tunnel that a flow is on.
    pub fn tunnel_of(&self, flow: Flow) -> Result<u32> {
        let raw: RawEntry = self.flows.get(&bytemuck::cast(flow.key()), 0)?;
        let entry: FlowEntry = bytemuck::checked::try_pod_read_unaligned(&raw)
            .map_err(|error| anyhow::anyhow!("flow {}: {error}", flow.number))?;
        Ok(entry.tunnel.into())
    }
}
