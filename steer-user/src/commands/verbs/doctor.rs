//! `steerctl doctor`: gathering what the checks go by. What cannot be known is left out, and does not
//! stop the rest.

mod configuration;
mod hooks;
mod steered;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use steer_common::abi::{HookMode, PassReason};

use crate::{
    cli::DoctorArgs,
    commands::{
        Context, Failure,
        carry::machine,
        colour, print_either,
        state::{self},
    },
    datapath::{DatapathError, maps, maps::Maps, pins::PinDir, probe},
    net::{
        Devices, Family, IngressQdisc, NetError, Netlink, PacketOrigin, RouteQuery, ipsec_policies,
        offload, sysctl,
    },
    output::DoctorReport,
    plan::{
        self,
        doctor::{
            self, Facts, Host, Level, Loaded, PinPlace, Pins, Steered, Sysctls, Traffic, Underlay,
            XdpFacts,
        },
    },
    sys::{self, Capabilities},
};

/// `steerctl doctor`.
pub(in crate::commands) async fn doctor(
    context: &Context,
    args: &DoctorArgs,
) -> Result<(), Failure> {
    let netlink = Netlink::connect()?;
    let devices = netlink.devices().await?;
    let facts = gather(context, args, &netlink, &devices).await?;
    let findings = doctor::examine(&facts);
    let is_failing = findings.iter().any(|finding| finding.level == Level::Fail);
    let report = DoctorReport::new(
        facts.host.release,
        context.pins.path().display().to_string(),
        findings,
    );
    print_either(context, &report, || report.render(colour()))?;
    if is_failing {
        // The report has said it.
        return Err(Failure::told());
    }
    Ok(())
}

async fn gather<'a>(
    context: &Context,
    args: &DoctorArgs,
    netlink: &Netlink,
    devices: &'a Devices,
) -> Result<Facts<'a>, Failure> {
    let pins = &context.pins;
    let (pinned, maps) = pinned(pins)?;
    let named = args.config.as_deref();
    let (config, by_config) = configuration::read(context, netlink, &pinned, named).await?;
    let probe_targets = configuration::probe_targets(&pinned);
    let steered = match (&maps, by_config) {
        (Some(maps), _) => steered::read(maps)?,
        (None, Some(steered)) => steered,
        (None, None) => doctor::found_without_pins(devices),
    };
    let names = tunnels_and_lan(&steered);
    let there: Vec<_> = names
        .iter()
        .filter_map(|name| devices.by_name(name))
        .collect();
    let hooks = match &maps {
        Some(maps) => hooks::read(pins, maps, netlink, devices, &steered).await?,
        None => Vec::new(),
    };
    let mut other_qdiscs = Vec::new();
    for device in &there {
        if let IngressQdisc::Other(kind) = netlink.ingress_qdisc(device.ifindex).await? {
            other_qdiscs.push((device.name.clone(), kind));
        }
    }
    let xdp = netlink.xdp_programs().await?;
    let xdp = xdp.iter().filter_map(|xdp| {
        let device = there.iter().find(|device| device.ifindex == xdp.ifindex)?;
        let name = probe::program_name(xdp.id).filter(|name| !name.is_empty());
        let name = name.map(|name| format!(" ({name})")).unwrap_or_default();
        Some(XdpFacts {
            device: device.name.clone(),
            program: format!("program {}{name}", xdp.id),
            place: xdp.place,
        })
    });
    let prefixes = steered.groups.iter().flat_map(|group| &group.prefixes);
    let forwarding = machine::forwarding(
        netlink,
        prefixes.copied(),
        steered
            .tunnels
            .iter()
            .filter(|tunnel| devices.by_name(&tunnel.name).is_some())
            .map(|tunnel| tunnel.name.as_str()),
    )
    .await?;
    let tunnel_routes = match steered.marks {
        Some(marks) => {
            netlink
                .tunnel_routes(&plan::own_routing(marks.slot).tables)
                .await?
        }
        None => Vec::new(),
    };
    let of_kernel: Vec<_> = there
        .iter()
        .filter(|device| device.kind.as_deref() == Some("wireguard"))
        .map(|device| (device.name.as_str(), device.ifindex))
        .collect();
    Ok(Facts {
        host: host(pins, maps.as_ref(), &steered, &there)?,
        pins: pinned,
        config,
        machine: machine::ask(netlink, devices).await?,
        hooks,
        xdp: xdp.collect(),
        // Who may not ask is told so by another check.
        ipsec: ipsec_policies().await.unwrap_or_default(),
        probe_targets,
        other_qdiscs,
        forwarding,
        sysctls: sysctls(&steered, devices)?,
        underlay: underlay(netlink, devices, &steered).await?,
        threaded: if of_kernel.len() > 1 {
            offload::threaded_napi(&of_kernel)
        } else {
            Vec::new()
        },
        // A device that cannot tell has none.
        lro: steered
            .lan
            .iter()
            .filter(|name| offload::has_lro(name).unwrap_or(false))
            .cloned()
            .collect(),
        tunnel_routes,
        traffic: maps.as_ref().map(traffic).transpose()?,
        now: since_epoch(),
        steered,
    })
}

/// Names of everything that has, or would have, a program.
fn tunnels_and_lan(steered: &Steered) -> Vec<&str> {
    let tunnels = steered.tunnels.iter().map(|tunnel| tunnel.name.as_str());
    tunnels
        .chain(steered.lan.iter().map(String::as_str))
        .collect()
}

fn since_epoch() -> Duration {
    // A clock before the epoch makes every handshake a new one.
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// What is pinned, and the maps if they can be used.
fn pinned(pins: &PinDir) -> Result<(Pins, Option<Maps>), Failure> {
    let unusable = |error: &DatapathError| (Pins::Unusable(error.to_string(), error.hint()), None);
    if let Some(error) = pins.unreadable() {
        return Ok((
            Pins::Unusable(
                error.to_string(),
                Some("run it as root: sudo steerctl …".into()),
            ),
            None,
        ));
    }
    if !pins.is_used() {
        return Ok((Pins::None, None));
    }
    if let Err(error) = maps::check_abi(pins).and_then(|()| maps::check_shapes(pins)) {
        return Ok(unusable(&error));
    }
    if maps::pinned_abi(pins).is_none_or(|abi| abi == 0) {
        return Ok((Pins::Unfinished, None));
    }
    let maps = match Maps::open(pins) {
        Ok(maps) => maps,
        Err(error) => return Ok(unusable(&error)),
    };
    if maps.settings()?.netns != sys::netns_inode()? {
        let dir = pins.path().to_owned();
        return Ok(unusable(&DatapathError::OtherNetns { dir }));
    }
    let daemon = pins.daemon();
    Ok((Pins::Steering { daemon }, Some(maps)))
}

fn host(
    pins: &PinDir,
    maps: Option<&Maps>,
    steered: &Steered,
    devices: &[&crate::net::Device],
) -> Result<Host, Failure> {
    let capabilities = Capabilities::effective()?;
    let mode = match steered.mode {
        // Its programs are the largest.
        HookMode::Unset => HookMode::Ingress,
        mode => mode,
    };
    let may_try = plan::check_capabilities(capabilities).is_ok();
    let hooks = maps.map(Maps::hooks).transpose()?.unwrap_or_default();
    let ids: Vec<u32> = hooks.iter().map(|(_, hook)| hook.program_id).collect();
    let programs = may_try.then(|| {
        // Those that run were taken. To try others takes the kernel a while.
        let jitted = match probe::are_jitted(&ids) {
            Some(jitted) => jitted,
            None => probe::try_programs(mode).map_err(|error| error.to_string())?,
        };
        let any = devices.first().map_or("lo", |device| device.name.as_str());
        Ok(Loaded {
            jitted,
            tcx: probe::has_tcx(any),
        })
    });
    Ok(Host {
        release: sys::kernel_release()?,
        capabilities,
        programs,
        pin_place: match pins.has_bpffs() {
            Ok(true) => PinPlace::Bpffs,
            Ok(false) => PinPlace::Mountable,
            Err(error) => PinPlace::Impossible(error.to_string()),
        },
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
    })
}

fn sysctls(steered: &Steered, devices: &Devices) -> Result<Sysctls, NetError> {
    let mut found = Sysctls::default();
    for family in Family::ALL {
        if sysctl::fwmark_reflect(family)? {
            found.fwmark_reflect.push(family);
        }
    }
    for name in &steered.lan {
        if sysctl::src_valid_mark(name)? {
            found.src_valid_mark.push(name.clone());
        }
    }
    for name in tunnels_and_lan(steered) {
        if sysctl::device_forwarding(name)? == Some(false) {
            found.not_forwarding.push(name.to_owned());
        }
    }
    for tunnel in &steered.tunnels {
        let is_there = devices.by_name(&tunnel.name).is_some();
        if is_there && sysctl::ipv6_disabled(&tunnel.name)? == Some(true) {
            found.ipv6_off.push(tunnel.name.clone());
        }
    }
    Ok(found)
}

async fn underlay(
    netlink: &Netlink,
    devices: &Devices,
    steered: &Steered,
) -> Result<Vec<Underlay>, NetError> {
    let mut found = Vec::new();
    for tunnel in &steered.tunnels {
        let device = devices.by_name(&tunnel.name);
        let Some(wireguard) = device.and_then(|device| device.wireguard.as_ref()) else {
            continue;
        };
        for endpoint in wireguard.peers.iter().filter_map(|peer| peer.endpoint) {
            let query = RouteQuery {
                destination: endpoint.ip().to_canonical(),
                mark: wireguard.fwmark.unwrap_or(0),
                origin: PacketOrigin::Own,
            };
            found.push(Underlay {
                tunnel: tunnel.name.clone(),
                endpoint,
                route: netlink.route_devices(&query).await?,
            });
        }
    }
    Ok(found)
}

fn traffic(maps: &Maps) -> Result<Traffic, DatapathError> {
    let mut found = Traffic {
        capacity: maps.flow_capacity().into(),
        ..Traffic::default()
    };
    maps.for_each_flow(|_, _| found.entries += 1)?;
    for tunnel in state::tunnels(maps)? {
        let counters = maps.tunnel_counters(tunnel.id)?;
        found.full_packets += counters.table_full;
        found.steered_packets += counters.tx_packets + counters.rx_packets;
    }
    let counts: [u64; PassReason::ALL.len()] = bytemuck::cast(maps.pass_counters()?);
    found.passed = PassReason::ALL.into_iter().zip(counts).collect();
    Ok(found)
}
