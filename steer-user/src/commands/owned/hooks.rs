//! Attaching programs to devices, and detaching them.

use std::collections::HashMap;

use steer_common::abi::{AttachKind, GroupId, Hook, HookKey, HookKind, HookMode, HookOrder};

use crate::{
    commands::{
        Failure,
        state::{self, decode_name, encode_name, hook_key},
    },
    datapath::{
        DatapathError,
        maps::Maps,
        pins::PinDir,
        programs::{self, AttachMode, Programs, Target},
    },
    net::{Devices, IngressQdisc, NetError, Netlink},
    plan::{Attachment, Plan},
};

/// The devices that are to have a hook, and whether each has a clsact qdisc.
pub(in crate::commands) struct HookTargets(HashMap<u32, bool>);

impl HookTargets {
    /// Asks the kernel about the devices; one with another ingress qdisc is refused if clsact may
    /// be needed.
    pub(in crate::commands) async fn ask(
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
pub(in crate::commands) struct Attacher<'a> {
    pub(in crate::commands) pins: &'a PinDir,
    pub(in crate::commands) maps: &'a mut Maps,
    pub(in crate::commands) programs: &'a mut Programs,
    pub(in crate::commands) targets: &'a mut HookTargets,
    pub(in crate::commands) mode: AttachMode,
}

impl Attacher<'_> {
    /// Attaches one hook and notes it in the maps, before and after, so that no crash leaves a hook
    /// that nobody knows of.
    pub(in crate::commands) fn attach(
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
        let known = self.maps.hooks()?;
        let before = known.iter().find(|(found, _)| *found == key);
        let before = before.map(|(_, hook)| *hook);
        let has_clsact = self.targets.has_clsact(ifindex);
        // The last one to leave a qdisc of ours removes it.
        let is_owner = |(other, hook): &(HookKey, Hook)| {
            other.ifindex == ifindex && hook.attach == AttachKind::ClsactOwned
        };
        let is_ours = !has_clsact || known.iter().any(is_owner);
        let owned = |attach| match attach {
            AttachKind::Clsact if is_ours => AttachKind::ClsactOwned,
            attach => attach,
        };
        let mut hook = before.unwrap_or(Hook {
            name: encode_name(name),
            attach: owned(AttachKind::Clsact),
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
        let attach = self
            .programs
            .attach(self.pins, target, self.mode, before.as_ref())?;
        hook.attach = owned(attach);
        if let Some(before) = before.filter(|before| before.order != order) {
            let is_replaced = before.attach == AttachKind::Tcx && hook.attach == AttachKind::Tcx;
            if !is_replaced {
                programs::detach(self.pins, key, name, &before)?;
            }
        }
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
    pub(in crate::commands) fn attach_all(
        &mut self,
        plan: &Plan,
    ) -> Result<AttachKind, DatapathError> {
        let known = self.maps.hooks()?;
        let mut way = AttachKind::Tcx;
        for (attachment, group) in plan.attachments() {
            let key = hook_key(attachment.kind, attachment.ifindex);
            // A LAN device is noted for the group that named it first.
            let owner = known
                .iter()
                .find(|(found, _)| *found == key && is_on_lan(key.kind) && !plan.is_whole)
                .and_then(|(_, hook)| GroupId::try_from(hook.group).ok());
            way = self.attach(attachment, group.order, owner.unwrap_or(group.id))?;
        }
        Ok(way)
    }

    /// Attaches hooks that are there, by the programs of this attacher.
    pub(in crate::commands) fn attach_again(
        &mut self,
        known: &[(HookKey, Hook)],
        devices: &Devices,
    ) -> Result<(), Failure> {
        for (key, hook) in known {
            let Some(device) = devices.by_index(key.ifindex) else {
                continue;
            };
            let attachment = Attachment {
                kind: key.kind,
                name: &device.name,
                ifindex: device.ifindex,
                layer3: device.layer3,
            };
            let group = GroupId::try_from(hook.group).unwrap_or(0);
            self.attach(attachment, hook.order, group)?;
        }
        Ok(())
    }
}

/// Whether a hook is on a LAN device, where it steers for all groups.
pub(in crate::commands) fn is_on_lan(kind: HookKind) -> bool {
    matches!(kind, HookKind::Ingress | HookKind::Mark)
}

fn is_of_mode(kind: HookKind, mode: HookMode) -> bool {
    match kind {
        HookKind::Ingress => mode == HookMode::Ingress,
        HookKind::Mark | HookKind::Own => mode == HookMode::Mark,
        HookKind::Egress => mode != HookMode::Mark,
        HookKind::Learn => true,
    }
}

/// Removes the hooks of a plan's groups that the plan does not have: of tunnels that were removed, of
/// devices that were deleted and made anew.
pub(in crate::commands) async fn detach_others(
    pins: &PinDir,
    maps: &mut Maps,
    plan: &Plan,
) -> Result<(), Failure> {
    let planned = plan.attachments();
    let is_planned = |key: &HookKey| {
        planned
            .iter()
            .any(|(planned, _)| planned.ifindex == key.ifindex && planned.kind == key.kind)
    };
    let hooks = maps.hooks()?;
    // A device that another group shares stays, for that one.
    let others = state::groups(maps)?
        .into_iter()
        .map(|(id, _)| u32::from(id));
    let heir = others.filter(|id| !plan.concerns(*id)).find(|id| {
        let has_own = |(key, hook): &(HookKey, Hook)| is_on_lan(key.kind) && hook.group == *id;
        !hooks.iter().any(has_own)
    });
    let mode = maps.settings()?.hook;
    for (key, mut hook) in hooks {
        if !plan.concerns(hook.group) || is_planned(&key) {
            continue;
        }
        match heir {
            Some(heir) if is_on_lan(key.kind) && is_of_mode(key.kind, mode) => {
                hook.group = heir;
                maps.set_hook(key, &hook)?;
            }
            _ => {
                remove(pins, key, &hook).await?;
                maps.remove_hook(key)?;
            }
        }
    }
    for (ifindex, tunnel) in maps.tunnel_devices()? {
        let is_planned = plan.tunnels().any(|planned| planned.ifindex == ifindex);
        if plan.concerns(tunnel.group) && !is_planned {
            maps.remove_tunnel_device(ifindex)?;
        }
    }
    Ok(())
}

/// Detaches the hooks that were not there before: a start failed that was to change what there is.
pub(in crate::commands) async fn remove_new(
    pins: &PinDir,
    maps: &mut Maps,
    before: &[(HookKey, Hook)],
) -> Result<(), Failure> {
    for (key, hook) in maps.hooks()? {
        if before.iter().all(|(known, _)| *known != key) {
            remove(pins, key, &hook).await?;
            maps.remove_hook(key)?;
        }
    }
    Ok(())
}

/// Gives hooks back to the groups that they were noted for.
pub(in crate::commands) fn give_back(
    maps: &mut Maps,
    before: &[(HookKey, Hook)],
) -> Result<(), DatapathError> {
    for (key, hook) in maps.hooks()? {
        let known = before.iter().find(|(known, _)| *known == key);
        if let Some((_, known)) = known.filter(|(_, known)| known.group != hook.group) {
            let group = known.group;
            maps.set_hook(key, &Hook { group, ..hook })?;
        }
    }
    Ok(())
}

pub(in crate::commands) async fn remove(
    pins: &PinDir,
    key: HookKey,
    hook: &Hook,
) -> Result<(), Failure> {
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
    // A start that was to move it may have left it at both places.
    for order in HookOrder::ALL {
        programs::detach(pins, key, &name, &Hook { order, ..*hook })?;
    }
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

/// Removes the filters of this namespace whose programs work with the maps of these pins, noted or not. Whose
/// the qdiscs are is not known: those stay.
pub(in crate::commands) async fn remove_filters_of_maps(pins: &PinDir) -> Result<(), Failure> {
    let netlink = Netlink::connect()?;
    let mut programs = None;
    for device in &netlink.devices().await? {
        for filter in netlink.clsact_filters(device.ifindex).await? {
            let place = programs::place_of_filter(filter.ingress, filter.priority, filter.handle);
            let (Some((kind, order)), Some(id)) = (place, filter.program_id) else {
                continue;
            };
            let own = match &programs {
                Some(own) => own,
                // Not before there is something to compare: not everybody may list programs.
                None => programs.insert(programs::programs_of_maps(pins)?),
            };
            if own.contains(&id) {
                programs::detach_filter(&device.name, kind, order)?;
                log::info!("device {}: a filter of ours is removed", device.name);
            }
        }
    }
    Ok(())
}

/// The programs that belong to these pins: behind a link, noted, or working with a map, as far as programs can be
/// listed.
pub(in crate::commands) fn own_programs(pins: &PinDir, known: &[(HookKey, Hook)]) -> Vec<u32> {
    let mut ours = programs::pinned_programs(pins);
    // A hook that was noted before its program was attached has none.
    ours.extend(
        known
            .iter()
            .map(|(_, hook)| hook.program_id)
            .filter(|id| *id != 0),
    );
    match programs::programs_of_maps(pins) {
        Ok(found) => ours.extend(found),
        Err(error) => log::debug!("{error}"),
    }
    ours
}

/// The program of a filter of steer on a device's clsact qdisc that these pins do not know of, and whose
/// program is none of `ours`.
pub(in crate::commands) async fn foreign_filter(
    netlink: &Netlink,
    attachment: Attachment<'_>,
    known: &[(HookKey, Hook)],
    ours: &[u32],
) -> Result<Option<u32>, NetError> {
    let key = hook_key(attachment.kind, attachment.ifindex);
    // `ours` has no filters' programs where programs cannot be listed.
    let is_known = known
        .iter()
        .any(|(other, hook)| *other == key && hook.attach != AttachKind::Tcx);
    if is_known {
        return Ok(None);
    }
    let program = program_of_filter(netlink, key.kind, key.ifindex).await?;
    Ok(program.filter(|id| !ours.contains(id)))
}

/// The program of the filter of steer, this one's or another's, on a device's clsact qdisc.
pub(in crate::commands) async fn program_of_filter(
    netlink: &Netlink,
    kind: HookKind,
    ifindex: u32,
) -> Result<Option<u32>, NetError> {
    let filters = netlink.clsact_filters(ifindex).await?;
    let own = filters
        .iter()
        .find(|filter| programs::is_filter(kind, filter.ingress, filter.priority, filter.handle));
    Ok(own.and_then(|filter| filter.program_id))
}
