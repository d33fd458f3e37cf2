//! `steerctl status` and `flows`: reading what is pinned.

use std::{
    cmp::Reverse,
    collections::HashMap,
    net::IpAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use steer_common::{
    abi::{
        AttachKind, Endpoint, FlowEntry, FlowKey, GroupId, HealthReason, Hook, HookKey, Placement,
        Settings, TunnelCounters,
    },
    decide,
};

use crate::{
    cli::{FlowSort, FlowsArgs},
    commands::{
        Context, Failure, colour,
        owned::hooks,
        print_either, requirements, routes,
        state::{self, KnownTunnel, decode_name},
    },
    datapath::{DatapathError, maps::Maps, pins::PinDir, programs},
    net::{Device, Devices, Netlink},
    output::{
        CountersReport, FlowReport, FlowTableReport, GroupReport, HookReport, PassedReport,
        RouteHopReport, RoutesReport, StatusReport, TunnelReport, render_flows,
    },
    plan::{self, FlowNumbers, RoutedSet, RoutedShare, Target, health},
    sys,
    sys::now_ns,
};

/// `steerctl status`.
pub(in crate::commands) async fn status(context: &Context) -> Result<(), Failure> {
    requirements::check()??;
    let maps = Maps::open(&context.pins)?;
    let report = status_report(context, &maps, &Netlink::connect()?).await?;
    print_either(context, &report, || report.render(colour()))
}

async fn status_report(
    context: &Context,
    maps: &Maps,
    netlink: &Netlink,
) -> Result<StatusReport, Failure> {
    let devices = &netlink.devices().await?;
    let settings = maps.settings()?;
    let now_ns = now_ns();
    let mut entries = 0;
    let mut flows_of: HashMap<u32, u64> = HashMap::new();
    maps.for_each_flow(|key, entry| {
        entries += 1;
        if !is_idle(&settings, key, entry, now_ns) {
            *flows_of.entry(entry.tunnel.into()).or_default() += 1;
        }
    })?;
    let tunnels = state::tunnels(maps)?;
    let mut full_packets = 0;
    for tunnel in &tunnels {
        full_packets += maps.tunnel_counters(tunnel.id)?.table_full;
    }
    let pinned = routes::read_pinned(maps, &state::groups(maps)?)?;
    let mut groups = Vec::new();
    for (id, group) in state::home_groups(maps)? {
        let of_group: Vec<&KnownTunnel> = tunnels
            .iter()
            .filter(|tunnel| tunnel.info.group == u32::from(id))
            .collect();
        let routes = routes::report(maps, id, &group, &pinned)?;
        let shares = shares(&of_group, routes.as_ref());
        let mut reports = Vec::new();
        for (tunnel, share) in of_group.iter().zip(shares) {
            let flows = flows_of.get(&tunnel.id.into()).copied().unwrap_or(0);
            reports.push(tunnel_report(maps, devices, tunnel, share, flows)?);
        }
        let is_of_group =
            |target: &Target| matches!(target, Target::Group(_)) && pinned.home_of(*target) == id;
        let prefixes = pinned.prefixes.iter();
        let prefixes = prefixes.filter(|(_, target)| is_of_group(target));
        groups.push(GroupReport {
            name: decode_name(&group.name),
            id,
            prefixes: prefixes.map(|(prefix, _)| prefix.to_string()).collect(),
            placement: match group.placement {
                Placement::Absent => "absent".into(),
                Placement::Hash => "hash".into(),
            },
            seed: settings.seed,
            epoch: settings.epoch,
            hooks: hook_reports(&context.pins, maps, netlink, Some(id)).await?,
            tunnels: reports,
            routes,
        });
    }
    Ok(StatusReport {
        version: env!("CARGO_PKG_VERSION").into(),
        abi: Some(settings.abi_version),
        pin_dir: context.pins.path().display().to_string(),
        kernel: sys::kernel_release().ok(),
        hook: settings.hook.name().into(),
        mss_clamp: plan::mss_clamp_name(settings.mss_clamp),
        mark_mask: Some(settings.mark_mask).filter(|mask| *mask != 0),
        groups,
        passed: PassedReport::new(&maps.pass_counters()?),
        counters: CountersReport::new(&maps.counters()?),
        flow_table: FlowTableReport {
            entries,
            capacity: maps.flow_capacity().into(),
            full_packets,
        },
    })
}

/// The shares of a group's tunnels, by their own weights and by the routes that its prefixes come from.
fn shares(tunnels: &[&KnownTunnel], routes: Option<&RoutesReport>) -> Vec<RoutedShare> {
    let candidate = |tunnel: &&KnownTunnel| plan::Candidate {
        weight: tunnel.info.weight,
        tier: tunnel.info.tier,
        takes_new_flows: tunnel.state.takes_new_flows(),
    };
    let candidates: Vec<_> = tunnels.iter().map(candidate).collect();
    let hop = |hop: &RouteHopReport| {
        let index = tunnels.iter().position(|tunnel| tunnel.name == hop.name)?;
        Some((index, hop.weight))
    };
    let sets = routes.iter().flat_map(|routes| &routes.sets);
    let sets: Vec<_> = sets
        .map(|set| RoutedSet {
            prefixes: set.prefixes,
            hops: set.tunnels.iter().filter_map(hop).collect(),
        })
        .collect();
    plan::routed_shares(&candidates, &sets)
}

fn tunnel_report(
    maps: &Maps,
    devices: &Devices,
    tunnel: &KnownTunnel,
    share: RoutedShare,
    flows: u64,
) -> Result<TunnelReport, Failure> {
    let TunnelCounters {
        tx_packets,
        tx_bytes,
        rx_packets,
        rx_bytes,
        new_flows,
        moved_in,
        moved_out,
        ..
    } = maps.tunnel_counters(tunnel.id)?;
    let device = devices.by_name(&tunnel.name);
    let told = maps.tunnel_health(tunnel.id)?;
    let health_reason = match device {
        // Without a daemon nobody has told the packet path yet.
        None if told.reason != HealthReason::DeviceGone => {
            Some("its device is gone; steerctl run would notice".into())
        }
        Some(device) if !device.up && told.reason != HealthReason::DeviceDown => {
            Some("its device is down; steerctl run would notice".into())
        }
        _ => health::phrase_at(tunnel.state.health, &told, now_ns()),
    };
    // What was measured long ago says nothing about now.
    let measured = Some(told).filter(|told| health::is_fresh(told, now_ns()) && told.rtt_us != 0);
    let ms = |us: u32| f64::from(us) / 1_000.0;
    Ok(TunnelReport {
        name: tunnel.name.clone(),
        id: tunnel.id,
        ifindex: Some(tunnel.state.ifindex).filter(|ifindex| *ifindex != 0),
        weight: tunnel.info.weight,
        share: share.mean,
        share_min: share.least,
        share_max: share.most,
        admin: tunnel.state.admin.name().into(),
        health: tunnel.state.health.name().into(),
        health_reason,
        mtu: device.map(|device| device.mtu_bytes),
        flows,
        tx_packets,
        tx_bytes,
        rx_packets,
        rx_bytes,
        new_flows,
        moved_in,
        moved_out,
        rtt_ms: measured.map(|told| ms(told.rtt_us)),
        jitter_ms: measured.map(|told| ms(told.jitter_us)),
        loss: measured.map(|told| f64::from(told.loss_ppm) / 1_000_000.0),
        tier: tunnel.info.tier,
        handshake_age_secs: device.and_then(handshake_age_secs),
    })
}

/// How long ago WireGuard last agreed on keys.
fn handshake_age_secs(device: &Device) -> Option<u64> {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let latest = device.wireguard.as_ref()?.latest_handshake()?;
    // The clock may have been set back since.
    Some(since_epoch.saturating_sub(latest).as_secs())
}

pub(in crate::commands) async fn hook_reports(
    pins: &PinDir,
    maps: &Maps,
    netlink: &Netlink,
    group: Option<GroupId>,
) -> Result<Vec<HookReport>, Failure> {
    let mut known = maps.hooks()?;
    // Those on LAN devices steer for all groups.
    let is_of = |key: &HookKey, hook: &Hook, group: GroupId| {
        hooks::is_on_lan(key.kind) || hook.group == u32::from(group)
    };
    known.retain(|(key, hook)| group.is_none_or(|group| is_of(key, hook, group)));
    known.sort_by_key(|(key, _)| (key.kind as u32, key.ifindex));
    let devices = netlink.devices().await?;
    let mut reports = Vec::new();
    for (key, hook) in known {
        // What the kernel has, not what was noted when attaching.
        let program_id = match hook.attach {
            // The link of a deleted device still names its program.
            AttachKind::Tcx => programs::linked_program(pins, key)
                .filter(|_| devices.by_index(key.ifindex).is_some()),
            AttachKind::Clsact | AttachKind::ClsactOwned => {
                hooks::program_of_filter(netlink, key.kind, key.ifindex).await?
            }
        };
        reports.push(HookReport {
            iface: decode_name(&hook.name),
            ifindex: key.ifindex,
            hook: key.kind.name().into(),
            attach: match hook.attach {
                AttachKind::Tcx => "tcx".into(),
                AttachKind::Clsact | AttachKind::ClsactOwned => "clsact".into(),
            },
            program_id,
        });
    }
    Ok(reports)
}

/// `steerctl flows`.
pub(in crate::commands) fn flows(context: &Context, args: &FlowsArgs) -> Result<(), Failure> {
    requirements::check()??;
    let maps = Maps::open(&context.pins)?;
    let names = Names::read(&maps)?;
    if let Some(name) = &args.tunnel {
        state::existing(&maps)?.tunnel(name)?;
    }
    let settings = maps.settings()?;
    let now_ns = now_ns();
    let mut found = Vec::new();
    maps.for_each_flow(|key, entry| {
        let wanted = args
            .tunnel
            .as_ref()
            .is_none_or(|name| names.tunnel(entry.tunnel.into()) == Some(name));
        if wanted && !is_idle(&settings, key, entry, now_ns) {
            found.push((*key, *entry));
        }
    })?;
    let total = found.len();
    match args.sort {
        FlowSort::Bytes => found.sort_by_key(|(_, entry)| Reverse(entry.tx_bytes + entry.rx_bytes)),
        FlowSort::Idle => found.sort_by_key(|(_, entry)| entry.last_seen_ns),
        FlowSort::Age => found.sort_by_key(|(_, entry)| entry.created_ns),
    }
    found.truncate(args.top.unwrap_or(usize::MAX));
    let reports: Vec<_> = found
        .iter()
        .map(|(key, entry)| names.flow_report(key, entry, now_ns))
        .collect();
    print_either(context, &reports, || {
        render_flows(&reports, total, colour())
    })
}

/// How many live flows are on a tunnel.
pub(in crate::commands) fn live_flows(maps: &Maps, tunnel: u32) -> Result<u64, DatapathError> {
    let settings = maps.settings()?;
    let now_ns = now_ns();
    let mut count = 0;
    maps.for_each_flow(|key, entry| {
        count +=
            u64::from(u32::from(entry.tunnel) == tunnel && !is_idle(&settings, key, entry, now_ns));
    })?;
    Ok(count)
}

pub(in crate::commands) fn is_idle(
    settings: &Settings,
    key: &FlowKey,
    entry: &FlowEntry,
    now_ns: u64,
) -> bool {
    decide::is_idle(settings, key, entry.phase, entry.last_seen_ns, now_ns)
}

/// Names for the numbers in flow entries.
pub(in crate::commands) struct Names {
    tunnels: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Names {
    pub(in crate::commands) fn read(maps: &Maps) -> Result<Self, DatapathError> {
        Ok(Self {
            tunnels: state::tunnels(maps)?
                .into_iter()
                .map(|tunnel| (tunnel.id.into(), tunnel.name))
                .collect(),
            groups: state::groups(maps)?
                .into_iter()
                .map(|(id, group)| (id.into(), decode_name(&group.name)))
                .collect(),
        })
    }

    pub(in crate::commands) fn group(&self, id: u32) -> Option<&String> {
        self.groups.get(&id)
    }

    pub(in crate::commands) fn tunnel(&self, id: u32) -> Option<&String> {
        self.tunnels.get(&id)
    }

    pub(in crate::commands) fn flow_report(
        &self,
        key: &FlowKey,
        entry: &FlowEntry,
        now_ns: u64,
    ) -> FlowReport {
        let (near, far) = (entry.local, entry.local.other());
        let number = u8::try_from(key.protocol).unwrap_or(u8::MAX);
        let numbers = FlowNumbers::of(number);
        let has_ports = matches!(numbers, FlowNumbers::Ports | FlowNumbers::Echo);
        let port = |endpoint| has_ports.then(|| key.port(endpoint));
        let shared = u32::from(key.low_port) << 16 | u32::from(key.high_port);
        let has_number = numbers == FlowNumbers::Number && shared != 0;
        let secs_since = |then_ns: u64| now_ns.saturating_sub(then_ns) / 1_000_000_000;
        FlowReport {
            protocol: plan::protocol_name(number),
            src_addr: address(key, near),
            src_port: port(near),
            dst_addr: address(key, far),
            dst_port: port(far),
            group: self.group(entry.home).cloned(),
            tunnel: self.tunnel(entry.tunnel.into()).cloned(),
            origin: entry.origin.name().into(),
            age_secs: secs_since(entry.created_ns),
            idle_secs: secs_since(entry.last_seen_ns),
            tx_packets: entry.tx_packets,
            tx_bytes: entry.tx_bytes,
            rx_packets: entry.rx_packets,
            rx_bytes: entry.rx_bytes,
            identifier: has_number.then_some(shared),
        }
    }
}

fn address(key: &FlowKey, endpoint: Endpoint) -> IpAddr {
    IpAddr::from(*key.addr(endpoint)).to_canonical()
}
