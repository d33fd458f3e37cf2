//! The loaded program, its maps, and one packet at a time.

use std::{collections::BTreeMap, io::ErrorKind, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail};
use aya::{
    Ebpf, EbpfLoader, TestRunOptions,
    maps::{Array, HashMap, LpmTrie, Map, MapData, PerCpuArray, lpm_trie::Key},
    programs::{ProgramError, ProgramInfo, SchedClassifier, TcAttachType, TestRun as _, tc},
    util::KernelVersion,
};
use bytemuck::{CheckedBitPattern, NoUninit};
use nix::sched::sched_getcpu;
use steer_common::abi::{
    BUCKETS, Counters, FlowEntry, FlowKey, Fragment, FragmentKey, Group, GroupId, LanDevice,
    LinkLayer, PassReason, Prefix, PrefixKind, Settings, Tunnel, TunnelCounters, TunnelId,
    TunnelRef, maps, programs,
};
use steer_common::bench;
use steer_user::datapath::object::{BENCH_OBJECT, OBJECT};

use super::{
    netns::Devices,
    skb::{self, SKB_BYTES, context},
};
use crate::packets::{
    build::Arrival,
    recipe::Hook,
    world::{Buckets, GROUP, HOLE, World},
};

/// What a program answers to let a packet go on.
const NEXT: u32 = u32::MAX;
/// `TC_ACT_REDIRECT`.
const REDIRECT: u32 = 7;
/// Room for the longest packet that a test run takes, a page.
const OUTPUT_BYTES: usize = 4_096;

/// A flow key as the maps have it.
pub type RawKey = [u8; size_of::<FlowKey>()];
/// A flow entry as the maps have it.
pub type RawEntry = [u8; size_of::<FlowEntry>()];
/// A fragment's key as the maps have it.
pub(super) type RawFragmentKey = [u8; size_of::<FragmentKey>()];
/// A fragment as the maps have it.
pub(super) type RawFragment = [u8; size_of::<Fragment>()];
/// The tick of each CPU, and the time in nanoseconds that its programs have seen in it.
const TICK_CLOCK: &str = "tick_clock";

/// What a program did with a packet.
#[derive(Debug)]
pub struct Ran {
    /// It redirected the packet; otherwise it let it go on.
    pub redirected: bool,
    /// The packet afterwards.
    pub bytes: Vec<u8>,
    /// Its mark afterwards.
    pub mark: u32,
    /// What it has in its control block afterwards, for another program of ours.
    pub marker: u32,
    /// Time of one run.
    pub duration: Duration,
}

/// The programs and their maps; all vanish with this.
pub struct Kernel {
    ebpf: Ebpf,
    /// With the bare redirect.
    bench: Ebpf,
}

impl Kernel {
    /// Loads the object, with room for as many flows, and fills its maps for these devices.
    pub fn load(world: &World, devices: &Devices, max_flows: u32) -> Result<Self> {
        let mut ebpf = EbpfLoader::new()
            .map_max_entries(maps::FLOWS, max_flows)
            .load(OBJECT)
            .context("the object")?;
        for name in programs::ALL {
            load(&mut ebpf, name)?;
        }
        load(&mut ebpf, programs::MOVE)?;
        let mut bench = Ebpf::load(BENCH_OBJECT).context("the benchmark's object")?;
        load(&mut bench, bench::programs::REDIRECT)?;
        let mut kernel = Self { ebpf, bench };
        kernel.fill(world, devices)?;
        Ok(kernel)
    }

    fn fill(&mut self, world: &World, devices: &Devices) -> Result<()> {
        self.set_settings(&world.settings)?;
        for (id, group) in &world.groups {
            self.set_group(*id, group)?;
        }
        for &(addr, length, group) in &world.prefixes {
            self.set_prefix(addr, length, group)?;
        }
        for (&(id, tunnel), (_, group)) in world.tunnels.iter().zip(world.tunnel_devices()) {
            self.set_tunnel(id, tunnel)?;
            let value = TunnelRef {
                tunnel: id.into(),
                group: group.into(),
            };
            let mut devices =
                HashMap::<_, u32, [u8; 8]>::try_from(self.map_mut(maps::TUNNEL_DEVICES)?)?;
            devices.insert(tunnel.ifindex, raw::<_, 8>(&value), 0)?;
        }
        for (addr, known) in &world.addresses {
            let mut map =
                HashMap::<_, [u8; 16], [u8; 8]>::try_from(self.map_mut(maps::ADDRESSES)?)?;
            map.insert(addr, raw::<_, 8>(known), 0)?;
        }
        for (ifindex, link_layer, hook_ifindex) in [
            (devices.lan, LinkLayer::Ethernet, devices.lan),
            (devices.vlan, LinkLayer::Ethernet, devices.lan),
            (devices.bare, LinkLayer::Network, devices.bare),
        ] {
            const BYTES: usize = size_of::<LanDevice>();
            let device = LanDevice {
                link_layer,
                hook_ifindex,
            };
            let mut map =
                HashMap::<_, u32, [u8; BYTES]>::try_from(self.map_mut(maps::LAN_DEVICES)?)?;
            map.insert(ifindex, raw::<_, BYTES>(&device), 0)?;
        }
        for (key, ifindex) in world.vlans(devices.lan) {
            let mut map = HashMap::<_, [u8; 8], u32>::try_from(self.map_mut(maps::VLANS)?)?;
            map.insert(raw::<_, 8>(&key), ifindex, 0)?;
        }
        for (group, table) in &world.tables {
            self.set_table(*group, table)?;
        }
        Ok(())
    }

    pub(super) fn map(&self, name: &str) -> Result<&Map> {
        self.ebpf
            .map(name)
            .ok_or_else(|| anyhow!("no map {name} in the object"))
    }

    pub(super) fn map_mut(&mut self, name: &str) -> Result<&mut Map> {
        self.ebpf
            .map_mut(name)
            .ok_or_else(|| anyhow!("no map {name} in the object"))
    }

    /// Writes the settings.
    pub fn set_settings(&mut self, settings: &Settings) -> Result<()> {
        const BYTES: usize = size_of::<Settings>();
        let mut map = Array::<_, [u8; BYTES]>::try_from(self.map_mut(maps::SETTINGS)?)?;
        Ok(map.set(0, raw::<_, BYTES>(settings), 0)?)
    }

    /// Writes a group's element.
    pub fn set_group(&mut self, id: GroupId, group: &Group) -> Result<()> {
        const BYTES: usize = size_of::<Group>();
        let mut map = Array::<_, [u8; BYTES]>::try_from(self.map_mut(maps::GROUPS)?)?;
        Ok(map.set(id.into(), raw::<_, BYTES>(group), 0)?)
    }

    /// Says which group a prefix belongs to.
    pub fn set_prefix(&mut self, addr: [u8; 16], length: u32, group: GroupId) -> Result<()> {
        let value = match group {
            HOLE => Prefix {
                group: GROUP.into(),
                kind: PrefixKind::Hole,
            },
            group => Prefix {
                group: group.into(),
                kind: PrefixKind::Steered,
            },
        };
        let mut map = LpmTrie::<_, [u8; 16], [u8; 8]>::try_from(self.map_mut(maps::PREFIXES)?)?;
        Ok(map.insert(&Key::new(length, addr), raw(&value), 0)?)
    }

    /// Writes a tunnel's element.
    pub fn set_tunnel(&mut self, id: TunnelId, tunnel: Tunnel) -> Result<()> {
        let mut map = Array::<_, [u8; 8]>::try_from(self.map_mut(maps::TUNNELS)?)?;
        Ok(map.set(id.into(), raw::<_, 8>(&tunnel), 0)?)
    }

    /// Replaces a group's bucket table.
    pub fn set_table(&mut self, group: GroupId, table: &Buckets) -> Result<()> {
        let mut map =
            HashMap::<_, [u8; 4], [u8; BUCKETS]>::try_from(self.map_mut(maps::BUCKET_TABLES)?)?;
        Ok(map.insert(u32::from(group).to_ne_bytes(), **table, 0)?)
    }

    /// A flow's entry.
    pub fn flow(&self, key: &FlowKey) -> Result<Option<FlowEntry>> {
        let map = HashMap::<_, RawKey, RawEntry>::try_from(self.map(maps::FLOWS)?)?;
        match map.get(&raw(key), 0) {
            Ok(entry) => Ok(Some(checked(&entry)?)),
            Err(aya::maps::MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a flow's entry.
    pub fn set_flow(&mut self, key: &FlowKey, entry: &FlowEntry) -> Result<()> {
        let mut map = HashMap::<_, RawKey, RawEntry>::try_from(self.map_mut(maps::FLOWS)?)?;
        Ok(map.insert(raw(key), raw::<_, { size_of::<FlowEntry>() }>(entry), 0)?)
    }

    /// How many flows are entered.
    pub fn flow_count(&self) -> Result<usize> {
        Ok(self.flow_keys()?.len())
    }

    /// The keys of all flows.
    pub fn flow_keys(&self) -> Result<Vec<FlowKey>> {
        let map = HashMap::<_, RawKey, RawEntry>::try_from(self.map(maps::FLOWS)?)?;
        map.keys().map(|key| checked(&key?)).collect()
    }

    /// All fragments that are remembered.
    pub fn fragments(&self) -> Result<Vec<(FragmentKey, Fragment)>> {
        let map = HashMap::<_, RawFragmentKey, RawFragment>::try_from(self.map(maps::FRAGMENTS)?)?;
        map.iter()
            .map(|element| {
                let (key, fragment) = element?;
                Ok((checked(&key)?, checked(&fragment)?))
            })
            .collect()
    }

    /// Writes what is remembered of a fragment.
    pub fn set_fragment(&mut self, key: &FragmentKey, fragment: &Fragment) -> Result<()> {
        let map = self.map_mut(maps::FRAGMENTS)?;
        let mut map = HashMap::<_, RawFragmentKey, RawFragment>::try_from(map)?;
        let (key, fragment): (RawFragmentKey, RawFragment) = (raw(key), raw(fragment));
        Ok(map.insert(key, fragment, 0)?)
    }

    /// The time that the programs saw last on this CPU.
    pub fn clock_ns(&self) -> Result<u64> {
        let map = PerCpuArray::<_, [u64; 2]>::try_from(self.map(TICK_CLOCK)?)?;
        let cpu = sched_getcpu()?;
        let clocks = map.get(&0, 0)?;
        let [_, now_ns] = clocks
            .get(cpu)
            .with_context(|| format!("clock of CPU {cpu}"))?;
        Ok(*now_ns)
    }

    /// Packets passed by reason, of all CPUs.
    pub fn pass_counters(&self) -> Result<[u64; PassReason::ALL.len()]> {
        self.sum(maps::PASS_COUNTERS, 0)
    }

    /// What happened besides, on all CPUs.
    pub fn counters(&self) -> Result<Counters> {
        const WORDS: usize = size_of::<Counters>() / 8;
        Ok(bytemuck::must_cast(self.sum::<WORDS>(maps::COUNTERS, 0)?))
    }

    /// A tunnel's counters, of all CPUs.
    pub fn tunnel_counters(&self, id: TunnelId) -> Result<TunnelCounters> {
        const WORDS: usize = size_of::<TunnelCounters>() / 8;
        let sum = self.sum::<WORDS>(maps::TUNNEL_COUNTERS, id.into())?;
        Ok(bytemuck::must_cast(sum))
    }

    /// An element of counters, of all CPUs.
    fn sum<const WORDS: usize>(&self, name: &str, at: u32) -> Result<[u64; WORDS]> {
        let map = PerCpuArray::<_, [u64; WORDS]>::try_from(self.map(name)?)?;
        let mut sum = [0; WORDS];
        for of_cpu in map.get(&at, 0)?.iter() {
            for (sum, count) in sum.iter_mut().zip(of_cpu) {
                *sum += count;
            }
        }
        Ok(sum)
    }

    /// A program.
    pub fn program(&self, name: &str) -> Result<&SchedClassifier> {
        let program = self
            .ebpf
            .program(name)
            .or_else(|| self.bench.program(name))
            .with_context(|| format!("no program {name}"))?;
        Ok(program.try_into()?)
    }

    /// Attaches the program to the ingress of a device, for as long as this lives.
    pub fn attach(&mut self, name: &str, device: &str) -> Result<()> {
        if KernelVersion::current()? < KernelVersion::new(6, 6, 0) {
            tc::qdisc_add_clsact(device).with_context(|| format!("qdisc of {device}"))?;
        }
        let program = self
            .ebpf
            .program_mut(name)
            .with_context(|| format!("no program {name}"))?;
        let program: &mut SchedClassifier = program.try_into()?;
        program.attach(device, TcAttachType::Ingress)?;
        Ok(())
    }

    /// What the kernel knows of a program.
    pub fn info(&self, name: &str) -> Result<ProgramInfo> {
        Ok(self.program(name)?.info()?)
    }

    /// The maps' numbers, by name.
    pub fn map_ids(&self) -> Result<BTreeMap<&str, u32>> {
        self.ebpf
            .maps()
            .map(|(name, map)| Ok((name, data_of(map)?.info()?.id())))
            .collect()
    }

    /// Lets a packet arrive.
    pub fn arrive(&self, devices: &Devices, arrival: &Arrival) -> Result<Ran> {
        let program = match arrival.hook {
            Hook::Lan => programs::INGRESS,
            Hook::LanL3 => programs::INGRESS_L3,
            Hook::Mark => programs::MARK,
            Hook::MarkL3 => programs::MARK_L3,
            Hook::Egress => programs::EGRESS,
            Hook::Tunnel => programs::LEARN,
            Hook::Return => programs::RETURN,
        };
        self.call(program, devices.of(arrival), arrival, 1)
    }

    /// Sends a packet through the egress of a tunnel where marks choose.
    pub fn own(&self, devices: &Devices, arrival: &Arrival) -> Result<Ran> {
        self.call(programs::OWN, devices.of(arrival), arrival, 1)
    }

    /// Sends a frame through the program on the LAN device.
    pub fn ingress(&self, devices: &Devices, frame: &[u8]) -> Result<Ran> {
        self.run(programs::INGRESS, frame, devices.lan, 1)
    }

    /// Runs a program on a packet, again and again on what it left of it.
    pub fn run(&self, program: &str, packet: &[u8], device: u32, repeat: u32) -> Result<Ran> {
        let arrival = Arrival::plain(Hook::Lan, packet.to_vec());
        self.call(program, device, &arrival, repeat)
    }

    fn call(&self, program: &str, device: u32, arrival: &Arrival, repeat: u32) -> Result<Ran> {
        let context = context(device, arrival);
        let mut bytes = vec![0; OUTPUT_BYTES];
        let mut after = [0; SKB_BYTES];
        let result = self
            .program(program)?
            .test_run(TestRunOptions {
                data_in: Some(&arrival.bytes),
                data_out: Some(&mut bytes),
                ctx_in: Some(&context),
                ctx_out: Some(&mut after),
                repeat,
                ..TestRunOptions::default()
            })
            .with_context(|| format!("test run of {program}"))?;
        bytes.truncate(result.data_size_out as usize);
        let redirected = match result.return_value {
            REDIRECT => true,
            NEXT => false,
            other => bail!("{program} returned {other}"),
        };
        Ok(Ran {
            redirected,
            bytes,
            mark: skb::mark(&after),
            marker: skb::marker(&after),
            duration: result.duration,
        })
    }
}

/// Loads a program. A signal ends the verifier's work in the middle (`do_check` in
/// `kernel/bpf/verifier.c`), so that is tried again, as often as libbpf does.
fn load(object: &mut Ebpf, name: &str) -> Result<()> {
    const TRIES: usize = 5;
    let program = object
        .program_mut(name)
        .with_context(|| format!("no program {name}"))?;
    let program: &mut SchedClassifier = program.try_into()?;
    let mut loaded = program.load();
    for _ in 1..TRIES {
        match &loaded {
            Err(ProgramError::LoadError { io_error, .. })
                if io_error.kind() == ErrorKind::WouldBlock => {}
            _ => break,
        }
        loaded = program.load();
    }
    loaded.with_context(|| format!("program {name}"))
}

/// The map behind the type.
fn data_of(map: &Map) -> Result<&MapData> {
    Ok(match map {
        Map::Array(data)
        | Map::ArrayOfMaps(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::LpmTrie(data)
        | Map::PerCpuArray(data)
        | Map::RingBuf(data)
        | Map::PerfEventArray(data) => data,
        other => bail!("unexpected kind of map: {other:?}"),
    })
}

/// A value as the bytes that aya takes.
pub(super) fn raw<T: NoUninit, const N: usize>(value: &T) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(bytemuck::bytes_of(value));
    bytes
}

/// A value from the bytes that aya gives.
pub(super) fn checked<T: CheckedBitPattern>(bytes: &[u8]) -> Result<T> {
    bytemuck::checked::try_pod_read_unaligned(bytes)
        .map_err(|error| anyhow!("a map holds an invalid value: {error}"))
}
