//! `steerctl explain`: which tunnel a flow uses or would use, by the packet path's own decision.

use std::{cell::Cell, net::IpAddr};

use steer_common::{
    abi::{
        AddressKind, BucketTable, Counters, FlowEntry, FlowKey, Fragment, FragmentKey, GroupId,
        HookMode, KnownAddress, Move, NO_TUNNEL, Origin, PassReason, PrefixKind, Settings, Tunnel,
        TunnelCounters, TunnelId, VlanKey, address_bytes,
    },
    decide::{self, Place},
    key::Address,
    parse::Parsed,
    tables::{Fit, Inserted, SharedFlow, Tables},
};

use crate::{
    cli::ExplainArgs,
    commands::{
        Context, Failure, print_either, requirements,
        state::{self, KnownTunnel},
        verbs::show::{Names, is_idle},
    },
    datapath::{DatapathError, maps::Maps},
    net::{Devices, Netlink},
    output::ExplainReport,
    plan::FlowNumbers,
    sys::now_ns,
};

/// `steerctl explain`.
pub(in crate::commands) async fn explain(
    context: &Context,
    args: &ExplainArgs,
) -> Result<(), Failure> {
    requirements::check()??;
    let maps = Maps::open(&context.pins)?;
    let devices = Netlink::connect()?.devices().await?;
    let report = explain_report(&maps, &devices, args)?;
    print_either(context, &report, || report.render())
}

fn explain_report(
    maps: &Maps,
    devices: &Devices,
    args: &ExplainArgs,
) -> Result<ExplainReport, Failure> {
    let names = Names::read(maps)?;
    let settings = maps.settings()?;
    let now_ns = now_ns();
    let ports = ports(args);
    let mut key = FlowKey::EMPTY;
    let (src, dst) = (in_memory(args.src.addr), in_memory(args.dst.addr));
    key.set(src, dst, ports.0, ports.1, args.protocol);

    // A flow can be asked for from either side.
    let prefixes = maps.prefixes_and_holes()?;
    let longest = |addr: IpAddr| {
        prefixes
            .iter()
            .filter(|(prefix, _)| prefix.contains(&addr))
            .max_by_key(|(prefix, _)| prefix.prefix_len())
            .filter(|(_, found)| found.kind == PrefixKind::Steered)
            .and_then(|(_, found)| GroupId::try_from(found.group).ok())
    };
    let none = |reason: &str, home: Option<u32>| ExplainReport {
        group: home.and_then(|home| names.group(home).cloned()),
        tunnel: None,
        reason: reason.into(),
        existing: false,
        entry: None,
    };
    let Some(group) = longest(args.dst.addr).or_else(|| longest(args.src.addr)) else {
        return Ok(none(PassReason::NotSteered.name(), None));
    };
    let element = maps.group(group)?;
    let home = element.parent;
    let (near, far) = if longest(args.dst.addr).is_some() {
        (args.src.addr, args.dst.addr)
    } else {
        (args.dst.addr, args.src.addr)
    };
    let known = |addr| maps.address(&bytemuck::cast(in_memory(addr)));
    if let Some(known) = known(far)? {
        let reason = match known.kind {
            AddressKind::Own => PassReason::OwnAddress,
            AddressKind::Endpoint => PassReason::TunnelEndpoint,
        };
        return Ok(none(reason.name(), Some(home)));
    }
    let own = known(near)?.filter(|known| known.kind == AddressKind::Own);
    if own.is_some() && settings.hook == HookMode::Mark {
        // This gateway's own packets enter by no LAN device.
        return Ok(none(PassReason::OwnAddress.name(), Some(home)));
    }
    let is_checked = |entry: &FlowEntry| entry.epoch == settings.epoch;
    let entry = maps
        .flow(&key)?
        .filter(|entry| !is_idle(&settings, &key, entry, now_ns))
        .filter(|entry| is_checked(entry) || entry.home == home);
    let is_member = |entry: &FlowEntry| {
        let tunnel = TunnelId::try_from(entry.tunnel);
        entry.origin == Origin::Pinned || tunnel.is_ok_and(|id| element.has_member(id))
    };
    let view = View::read(maps, devices, settings, group)?;
    let of_table = |entry: &FlowEntry| ExplainReport {
        group: names.group(entry.home).cloned(),
        tunnel: names.tunnel(entry.tunnel.into()).cloned(),
        reason: "flow_table".into(),
        existing: true,
        entry: Some(names.flow_report(&key, entry, now_ns)),
    };
    let stays = entry.filter(|entry| is_checked(entry) || is_member(entry));
    let is_usable = |id: u32| view.state(id).is_some_and(Tunnel::is_usable);
    if let Some(entry) = stays.filter(|entry| is_usable(entry.tunnel.into())) {
        return Ok(of_table(&entry));
    }
    if let Some(owner) = own.filter(|own| own.tunnel != u32::from(NO_TUNNEL)) {
        if !is_usable(owner.tunnel) {
            return Ok(none(PassReason::NoTunnel.name(), Some(home)));
        }
        return Ok(ExplainReport {
            tunnel: names.tunnel(owner.tunnel).cloned(),
            ..none(Origin::Pinned.name(), Some(home))
        });
    }
    let parsed = Parsed {
        key,
        ..Parsed::EMPTY
    };
    if let Some(exit) = decide::pick(&view, &parsed, group, Place::Mark) {
        return Ok(ExplainReport {
            group: names.group(home).cloned(),
            tunnel: names.tunnel(exit.tunnel.into()).cloned(),
            reason: "hash".into(),
            existing: entry.is_some(),
            entry: entry.map(|entry| names.flow_report(&key, &entry, now_ns)),
        });
    }
    // With every tunnel down a flow stays where it is.
    let is_kept = |entry: &FlowEntry| {
        let state = view.state(entry.tunnel.into());
        entry.origin != Origin::Pinned && state.is_some_and(Tunnel::is_wanted)
    };
    let kept = stays.filter(is_kept);
    Ok(kept.map_or_else(
        || none(PassReason::NoTunnel.name(), Some(home)),
        |entry| of_table(&entry),
    ))
}

/// The ports of the flow's key: of its ends, or made of the number that both have.
fn ports(args: &ExplainArgs) -> (u16, u16) {
    let low = |number: u32| u16::try_from(number & 0xffff).unwrap_or(u16::MAX);
    let shared = args.src.number.or(args.dst.number).unwrap_or(0);
    match FlowNumbers::of(args.protocol) {
        FlowNumbers::Echo => (low(shared), low(shared)),
        FlowNumbers::Number => (low(shared >> 16), low(shared)),
        FlowNumbers::Ports | FlowNumbers::None => (
            low(args.src.number.unwrap_or(0)),
            low(args.dst.number.unwrap_or(0)),
        ),
    }
}

/// An address as the packet path holds it.
fn in_memory(addr: IpAddr) -> Address {
    bytemuck::cast(address_bytes(addr))
}

/// The maps as the packet path would see them, for a question that changes nothing.
struct View<'a> {
    devices: &'a Devices,
    settings: Settings,
    buckets: Option<Box<BucketTable>>,
    tunnels: Vec<KnownTunnel>,
}

impl<'a> View<'a> {
    fn read(
        maps: &Maps,
        devices: &'a Devices,
        settings: Settings,
        group: GroupId,
    ) -> Result<Self, DatapathError> {
        Ok(Self {
            devices,
            settings,
            buckets: maps.buckets(group)?,
            tunnels: state::tunnels(maps)?,
        })
    }

    fn state(&self, id: u32) -> Option<Tunnel> {
        self.tunnels
            .iter()
            .find(|tunnel| u32::from(tunnel.id) == id)
            .map(|tunnel| tunnel.state)
    }
}

impl Tables for View<'_> {
    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn now_ns(&self) -> u64 {
        now_ns()
    }

    fn group_of(&self, _addr: &[u8; 16]) -> Option<GroupId> {
        None
    }

    fn home_of(&self, group: GroupId) -> GroupId {
        group
    }

    fn is_member(&self, _group: GroupId, _tunnel: TunnelId) -> bool {
        false
    }

    fn flow(&self, _key: &FlowKey) -> Option<&SharedFlow> {
        None
    }

    fn insert_flow(&self, _key: &FlowKey, _entry: &FlowEntry) -> Inserted {
        Inserted::Full
    }

    fn address(&self, _addr: &[u8; 16]) -> Option<KnownAddress> {
        None
    }

    fn fragment(&self, _key: &FragmentKey) -> Option<Fragment> {
        None
    }

    fn remember_fragment(&self, _key: &FragmentKey, _fragment: &Fragment) {}

    fn vlan(&self, _key: &VlanKey) -> Option<u32> {
        None
    }

    fn bucket(&self, _group: GroupId, bucket: u32) -> TunnelId {
        let found = self
            .buckets
            .as_ref()
            .and_then(|table| table.buckets.get(bucket as usize));
        found.copied().unwrap_or(NO_TUNNEL)
    }

    fn tunnel(&self, id: TunnelId) -> Option<Tunnel> {
        self.state(id.into())
    }

    fn fit(&self, ifindex: u32, _l3_len_bytes: u32) -> Fit {
        // A question has no packet, so it fits wherever there is a device.
        if self.devices.by_index(ifindex).is_some() {
            Fit::Fits
        } else {
            Fit::Gone
        }
    }

    fn mtu_bytes(&self, ifindex: u32) -> Option<u32> {
        Some(self.devices.by_index(ifindex)?.mtu_bytes)
    }

    fn note(&self, _change: impl FnOnce(&mut Counters)) {}

    fn count(&self, _id: TunnelId, _change: impl FnOnce(&mut TunnelCounters)) {}

    fn log_move(&self, _moved: &Move) {}

    fn add(&self, _counter: &Cell<u64>, _n: u64) {}

    fn replace(&self, _number: &Cell<u64>, _from: u64, _to: u64) -> bool {
        false
    }
}
