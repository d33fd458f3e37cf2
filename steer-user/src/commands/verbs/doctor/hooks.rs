//! Whether every program is where it should be, and who is there besides.

use steer_common::abi::{AttachKind, Hook, HookKey, HookKind};

use crate::{
    commands::{
        Failure,
        owned::hooks::{foreign_filter, own_programs},
        state::hook_key,
    },
    datapath::{
        DatapathError,
        maps::Maps,
        pins::PinDir,
        probe::{self, TcxProgram},
        programs,
    },
    net::{Devices, Netlink, TcFilter},
    plan::{
        self, Attachment,
        doctor::{HookFacts, HookState, Steered},
    },
};

/// All programs of what is steered, on the devices that there are.
pub(super) async fn read(
    pins: &PinDir,
    maps: &Maps,
    netlink: &Netlink,
    devices: &Devices,
    steered: &Steered,
) -> Result<Vec<HookFacts>, Failure> {
    let noted = maps.hooks()?;
    let tunnels: Vec<_> = steered
        .tunnels
        .iter()
        .filter_map(|tunnel| {
            let device = devices.by_name(&tunnel.name)?;
            Some((device.name.as_str(), device.ifindex))
        })
        .collect();
    let lan = steered.lan.iter().filter_map(|name| {
        let device = devices.by_name(name)?;
        Some((device.name.as_str(), device.ifindex, device.layer3))
    });
    let ours = own_programs(pins, &noted);
    let mut found = Vec::new();
    for attachment in plan::attachments(steered.mode, &tunnels, lan) {
        let place = Place {
            tcx: probe::tcx_programs(attachment.name, attachment.kind),
            filters: netlink.clsact_filters(attachment.ifindex).await?,
            kind: attachment.kind,
        };
        let key = hook_key(attachment.kind, attachment.ifindex);
        let hook = noted.iter().find(|(known, _)| *known == key);
        let hook = hook.map(|(_, hook)| hook);
        found.push(HookFacts {
            kind: attachment.kind,
            device: attachment.name.to_owned(),
            state: place.state(pins, key, hook),
            before: hook
                .map(|hook| place.before(hook, &ours))
                .unwrap_or_default(),
            other_steer: other_steer(netlink, attachment, &ours, &noted).await?,
        });
    }
    Ok(found)
}

/// What there is at the place of a hook.
struct Place {
    /// In their order; `None` where the kernel has no TCX.
    tcx: Option<Vec<TcxProgram>>,
    /// Filters of the device's clsact qdisc, both ways.
    filters: Vec<TcFilter>,
    kind: HookKind,
}

impl Place {
    fn state(&self, pins: &PinDir, key: HookKey, hook: Option<&Hook>) -> HookState {
        let Some(hook) = hook else {
            return HookState::Missing;
        };
        if hook.attach != AttachKind::Tcx {
            return match self.own_filter().map(|filter| filter.program_id) {
                Some(Some(id)) if id == hook.program_id => HookState::Attached(hook.attach),
                // A filter of classic BPF has no program.
                Some(by) => HookState::Replaced { by },
                None => HookState::Missing,
            };
        }
        // The link of a deleted device, or a detached one, still names its program.
        let linked = programs::linked_program(pins, key);
        let mut there = self.tcx.iter().flatten();
        match linked.and_then(|id| there.find(|program| program.id == id)) {
            Some(program) if !program.is_steer() => HookState::Replaced {
                by: Some(program.id),
            },
            Some(_) => HookState::Attached(AttachKind::Tcx),
            None => HookState::Missing,
        }
    }

    fn own_filter(&self) -> Option<&TcFilter> {
        self.filters.iter().find(|filter| {
            programs::is_filter(self.kind, filter.ingress, filter.priority, filter.handle)
        })
    }

    /// Programs of others that see packets before steer's, in words.
    fn before(&self, hook: &Hook, ours: &[u32]) -> Vec<String> {
        let tcx = self.tcx.iter().flatten();
        let is_tcx = hook.attach == AttachKind::Tcx;
        // All of TCX is before clsact.
        let tcx = tcx.take_while(|program| !(is_tcx && ours.contains(&program.id)));
        let tcx = tcx.filter(|program| !program.is_steer()).map(|program| {
            let name = match program.name.as_str() {
                "" => String::new(),
                name => format!(" ({name})"),
            };
            format!("TCX program {}{name}", program.id)
        });
        let own = self.own_filter().filter(|_| !is_tcx);
        let filters = self.filters.iter().filter(|filter| {
            own.is_some_and(|own| filter.ingress == own.ingress && filter.priority < own.priority)
        });
        let filters =
            filters.map(|filter| format!("{} filter of priority {}", filter.kind, filter.priority));
        tcx.chain(filters).collect()
    }
}

/// The program of another steer at this place.
async fn other_steer(
    netlink: &Netlink,
    attachment: Attachment<'_>,
    ours: &[u32],
    noted: &[(HookKey, Hook)],
) -> Result<Option<u32>, Failure> {
    let Attachment { kind, name, .. } = attachment;
    match programs::refuse_other_instance(name, kind, ours) {
        Err(DatapathError::OtherInstance { program_id, .. }) => return Ok(Some(program_id)),
        result => result?,
    }
    // Where a start would find one, it would refuse.
    Ok(foreign_filter(netlink, attachment, noted, ours).await?)
}
