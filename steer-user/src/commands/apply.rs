//! Bringing the maps and hooks to what a plan says, and removing all of it.

use std::collections::HashMap;

use steer_common::abi::{
    ABI_VERSION, Admin, AttachKind, Group, GroupId, Health, Hook, HookKey, HookKind, HookOrder,
    Placement, Settings, Tunnel, TunnelInfo, TunnelRef,
};

use super::{
    Context, Failure, print_either, show,
    state::{self, decode_name, encode_name, hook_key, tunnel_state},
    surroundings,
};
use crate::{
    datapath::{
        DatapathError,
        maps::{self, Maps},
        pins::PinDir,
        programs::{self, AttachMode, Programs, Target},
    },
    net::{Devices, IngressQdisc, NetError, Netlink},
    output::DetachReport,
    plan::{Attachment, Plan},
};

/// The devices that are to have a hook, and whether each has a clsact qdisc.
pub(super) struct HookTargets(HashMap<u32, bool>);

impl HookTargets {
    /// Asks the kernel about the devices; one with another ingress qdisc is refused if clsact may
    /// be needed.
    pub(super) async fn ask(
        netlink: &Netlink,
        devices: impl IntoIterator<Item = (&str, u32)>,
        mode: AttachMode,
    ) -> Result<Self, Failure> {
        let mut found = HashMap::new();
        for (name, ifindex) in devices {
            let has_clsact = match netlink.ingress_qdisc(ifindex).await? {
                IngressQdisc::Clsact => true,
                IngressQdisc::Other(kind) if mode == AttachMode::Clsact => {
                    return Err(DatapathError::OtherQdisc {
                        device: name.to_owned(),
                        kind,
                    }
                    .into());
                }
                // TCX does not mind another one.
                IngressQdisc::Absent | IngressQdisc::Other(_) => false,
            };
            found.insert(ifindex, has_clsact);
        }
        Ok(Self(found))
    }

    fn set_clsact(&mut self, ifindex: u32) {
        self.0.insert(ifindex, true);
    }

    fn has_clsact(&self, ifindex: u32) -> bool {
        self.0.get(&ifindex).copied().unwrap_or(false)
    }
}

/// All that attaching takes.
pub(super) struct Attacher<'a> {
    pub(super) pins: &'a PinDir,
    pub(super) maps: &'a mut Maps,
    pub(super) programs: &'a mut Programs,
    pub(super) targets: &'a mut HookTargets,
    pub(super) mode: AttachMode,
}

impl Attacher<'_> {
    /// Attaches one hook and notes it in the maps, before and after, so that no crash leaves a hook
    /// that nobody knows of.
    pub(super) fn attach(
        &mut self,
        attachment: Attachment<'_>,
        order: HookOrder,
        group: GroupId,
    ) -> Result<AttachKind, DatapathError> {
        let Attachment {
            kind,
            name,
            ifindex,
            layer3,
        } = attachment;
        let key = hook_key(kind, ifindex);
        let hooks = self.maps.hooks()?;
        let before = hooks
            .into_iter()
            .find(|(found, _)| *found == key)
            .map(|(_, hook)| hook);
        let has_clsact = self.targets.has_clsact(ifindex);
        let mut hook = before.unwrap_or(Hook {
            name: encode_name(name),
            attach: if has_clsact {
                AttachKind::Clsact
            } else {
                AttachKind::ClsactOwned
            },
            group: group.into(),
            program_id: 0,
            order,
        });
        self.maps.set_hook(key, &hook)?;
        let target = Target {
            kind,
            name,
            ifindex,
            layer3,
            has_clsact,
            order,
        };
        hook.attach = self
            .programs
            .attach(self.pins, target, self.mode, before.as_ref())?;
        hook.group = group.into();
        hook.order = order;
        hook.program_id = self.programs.id_at(kind, layer3)?;
        self.maps.set_hook(key, &hook)?;
        if hook.attach != AttachKind::Tcx {
            // The next one on this device finds the qdisc.
            self.targets.set_clsact(ifindex);
        }
        Ok(hook.attach)
    }

    /// Attaches the hooks of a plan; after an error some may be attached.
    pub(super) fn attach_all(&mut self, plan: &Plan) -> Result<AttachKind, DatapathError> {
        let mut way = AttachKind::Tcx;
        for attachment in plan.attachments() {
            way = self.attach(attachment, plan.order, plan.group_id)?;
        }
        Ok(way)
    }
}

/// Writes a plan into the maps. What makes packets move comes last.
pub(super) fn write(
    maps: &mut Maps,
    plan: &Plan,
    seed: u64,
    netns: u64,
    devices: &Devices,
) -> Result<(), DatapathError> {
    let before = maps.settings()?;
    let known = state::tunnels(maps)?;
    let group = u32::from(plan.group_id);
    let placed_before: Vec<_> = maps
        .prefixes()?
        .into_iter()
        .filter(|(_, of)| *of == plan.group_id)
        .collect();
    let gone: Vec<_> = known
        .iter()
        .filter(|tunnel| tunnel.info.group == group)
        .filter(|tunnel| plan.tunnels.iter().all(|planned| planned.id != tunnel.id))
        .collect();
    let changes_members = !gone.is_empty()
        || plan
            .tunnels
            .iter()
            .any(|planned| known.iter().all(|tunnel| tunnel.id != planned.id))
        || plan.prefixes.len() != placed_before.len()
        || plan
            .prefixes
            .iter()
            .any(|prefix| !placed_before.contains(&(*prefix, plan.group_id)));

    let mut settings = settings_of(plan, seed, netns);
    settings.abi_version = before.abi_version;
    settings.epoch = before.epoch;
    maps.set_settings(&settings)?;

    for tunnel in &plan.tunnels {
        let name = encode_name(&tunnel.name);
        let same = known
            .iter()
            .find(|known| known.id == tunnel.id && known.info.name == name);
        let admin = same.map_or(Admin::Active, |known| known.state.admin);
        maps.set_tunnel_info(
            tunnel.id,
            &TunnelInfo {
                name,
                weight: tunnel.weight,
                group,
                rp_filter_before: same.map_or(0, |known| known.info.rp_filter_before),
            },
        )?;
        maps.set_tunnel(tunnel.id, &tunnel_state(tunnel.ifindex, tunnel.up, admin))?;
        if tunnel.ifindex != 0 {
            let tunnel_ref = TunnelRef {
                tunnel: tunnel.id.into(),
                group,
            };
            maps.set_tunnel_device(tunnel.ifindex, tunnel_ref)?;
        }
    }
    for tunnel in &gone {
        maps.set_tunnel(tunnel.id, &ABSENT)?;
    }
    let lan: Vec<u32> = plan.hooks.iter().map(|hook| hook.ifindex).collect();
    let changes_addresses = surroundings::write(maps, devices, &lan)?;
    state::rebuild(maps, plan.group_id)?;
    maps.set_group(
        plan.group_id,
        &Group {
            name: encode_name(&plan.group),
            placement: Placement::Hash,
        },
    )?;
    for prefix in &plan.prefixes {
        maps.set_prefix(*prefix, plan.group_id)?;
    }
    for (prefix, _) in placed_before
        .iter()
        .filter(|(prefix, _)| !plan.prefixes.contains(prefix))
    {
        maps.remove_prefix(*prefix)?;
    }
    if changes_members || changes_addresses {
        settings.epoch = settings.epoch.wrapping_add(1);
    }
    settings.abi_version = ABI_VERSION;
    maps.set_settings(&settings)
}

/// A tunnel that is not there.
const ABSENT: Tunnel = Tunnel {
    ifindex: 0,
    admin: Admin::Absent,
    health: Health::Unknown,
    reserved: 0,
};

/// Removes the hooks of this group that the plan does not have: of tunnels that were removed, of
/// devices that were deleted and made anew.
pub(super) async fn detach_others(
    pins: &PinDir,
    maps: &mut Maps,
    plan: &Plan,
) -> Result<(), Failure> {
    let planned = plan.attachments();
    let is_planned = |key: &HookKey| {
        planned
            .iter()
            .any(|planned| planned.ifindex == key.ifindex && planned.kind == key.kind)
    };
    for (key, hook) in maps.hooks()? {
        if hook.group == u32::from(plan.group_id) && !is_planned(&key) {
            remove_hook(pins, key, &hook).await?;
            maps.remove_hook(key)?;
        }
    }
    for (ifindex, tunnel) in maps.tunnel_devices()? {
        let is_planned = plan
            .tunnels
            .iter()
            .any(|planned| planned.ifindex == ifindex);
        if tunnel.group == u32::from(plan.group_id) && !is_planned {
            maps.remove_tunnel_device(ifindex)?;
        }
    }
    Ok(())
}

fn settings_of(plan: &Plan, seed: u64, netns: u64) -> Settings {
    let idle = &plan.idle;
    let nanos =
        |duration: std::time::Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    Settings {
        abi_version: 0,
        epoch: 0,
        seed,
        idle_tcp_ns: nanos(idle.tcp),
        idle_closing_ns: nanos(idle.closing),
        idle_udp_ns: nanos(idle.udp),
        idle_other_ns: nanos(idle.other),
        netns,
        hook: plan.mode,
        mss_clamp: plan.mss_clamp,
        mark_mask: plan.mark_mask,
        reserved: 0,
    }
}

/// `steerctl detach`.
pub(super) async fn detach(context: &Context, dry_run: bool) -> Result<(), Failure> {
    super::requirements::check()??;
    let pins = &context.pins;
    // Before the lock: a daemon that waits for it could not step back.
    if !dry_run && pins.is_used() {
        pins.dismiss_daemon()?;
    }
    let _lock = pins.lock()?;
    let mut report = DetachReport {
        pin_dir: pins.path().display().to_string(),
        hooks: Vec::new(),
        flows: 0,
        dry_run,
    };
    if pins.is_used() {
        // Pins of another layout are removed all the same, only not described.
        if let Ok(maps) = Maps::open(pins) {
            report.hooks = show::hook_reports(pins, &maps, &Netlink::connect()?, None).await?;
            maps.for_each_flow(|_, _| report.flows += 1)?;
        }
    }
    if !dry_run && pins.has_remains() {
        report_first(remove_everything(pins).await)?;
    }
    print_either(context, &report, || report.render())
}

fn report_first(errors: Vec<Failure>) -> Result<(), Failure> {
    let mut errors = errors.into_iter();
    let Some(first) = errors.next() else {
        return Ok(());
    };
    for error in errors {
        log::error!("{error}");
    }
    Err(first)
}

/// Detaches every hook and removes every pin. Errors are collected, so that one does not keep the
/// rest.
pub(super) async fn remove_everything(pins: &PinDir) -> Vec<Failure> {
    let mut errors = Vec::new();
    match hooks_of_any_layout(pins) {
        Ok(hooks) => {
            for (key, hook) in hooks {
                if let Err(error) = remove_hook(pins, key, &hook).await {
                    errors.push(error);
                }
            }
        }
        Err(error) => errors.push(error.into()),
    }
    errors.extend(pins.remove().into_iter().map(Failure::from));
    errors
}

/// The hooks of these pins. Another layout's TCX hooks go with their pins; its filters on clsact
/// cannot be known.
pub(super) fn hooks_of_any_layout(pins: &PinDir) -> Result<Vec<(HookKey, Hook)>, DatapathError> {
    if maps::check_abi(pins).is_err() || maps::check_shapes(pins).is_err() {
        log::warn!(
            "{}: of another layout; only what is pinned is removed",
            pins.path().display()
        );
        return Ok(Vec::new());
    }
    match Maps::open(pins) {
        Ok(maps) => maps.hooks(),
        // A start that was killed before it had made all maps had attached nothing.
        Err(DatapathError::Map { .. } | DatapathError::NotRunning { .. }) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Detaches the hooks that were not there before: a start failed that was to change what there is.
pub(super) async fn remove_new_hooks(
    pins: &PinDir,
    maps: &mut Maps,
    before: &[(HookKey, Hook)],
) -> Result<(), Failure> {
    for (key, hook) in maps.hooks()? {
        if before.iter().all(|(known, _)| *known != key) {
            remove_hook(pins, key, &hook).await?;
            maps.remove_hook(key)?;
        }
    }
    Ok(())
}

async fn remove_hook(pins: &PinDir, key: HookKey, hook: &Hook) -> Result<(), Failure> {
    let name = decode_name(&hook.name);
    if hook.attach == AttachKind::Tcx {
        return Ok(programs::detach(pins, key, &name, hook)?);
    }
    let netlink = Netlink::connect()?;
    let devices = netlink.devices().await?;
    if !is_still(&devices, &name, key.ifindex) {
        log::warn!("device {name} is not here; if it only moved, its filter moved along (--netns)");
        return Ok(());
    }
    programs::detach(pins, key, &name, hook)?;
    if hook.attach == AttachKind::ClsactOwned {
        delete_if_empty(&netlink, key.ifindex).await?;
    }
    Ok(())
}

/// Whether the device is the one that the hook was attached to.
fn is_still(devices: &Devices, name: &str, ifindex: u32) -> bool {
    devices
        .by_name(name)
        .is_some_and(|device| device.ifindex == ifindex)
}

async fn delete_if_empty(netlink: &Netlink, ifindex: u32) -> Result<(), NetError> {
    let is_empty = netlink.clsact_filters(ifindex).await?.is_empty();
    if is_empty && netlink.ingress_qdisc(ifindex).await? == IngressQdisc::Clsact {
        netlink.delete_clsact(ifindex).await?;
    }
    Ok(())
}

/// Refuses a device on whose clsact qdisc a filter of steer sits that these pins do not know of.
pub(super) async fn refuse_foreign_filter(
    netlink: &Netlink,
    attachment: Attachment<'_>,
    known: &[(HookKey, Hook)],
) -> Result<(), Failure> {
    let Attachment {
        kind,
        name,
        ifindex,
        ..
    } = attachment;
    let is_known = known
        .iter()
        .any(|(key, hook)| *key == hook_key(kind, ifindex) && hook.attach != AttachKind::Tcx);
    if !is_known && has_filter(netlink, kind, ifindex).await? {
        return Err(DatapathError::OtherInstance {
            device: name.to_owned(),
            program_id: 0,
        }
        .into());
    }
    Ok(())
}

/// Whether a filter of steer, this one's or another's, sits on a device's clsact qdisc.
pub(super) async fn has_filter(
    netlink: &Netlink,
    kind: HookKind,
    ifindex: u32,
) -> Result<bool, NetError> {
    let filters = netlink.clsact_filters(ifindex).await?;
    Ok(filters
        .iter()
        .any(|filter| programs::is_filter(kind, filter.ingress, filter.priority, filter.handle)))
}
