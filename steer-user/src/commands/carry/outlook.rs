//! What a start or a reload goes by: what there is, and what is to become of it. Nothing is touched.

use steer_common::abi::{Cause, Hook, HookKey};

use crate::{
    commands::{
        Failure,
        carry::{machine, wanted::Wanted},
        owned::hooks::{self, HookTargets},
        routes::Follower,
        state,
        verbs::detach,
    },
    datapath::{
        DatapathError,
        maps::{self, Maps},
        pins::PinDir,
        programs::{self, AttachMode},
    },
    net::{Devices, Netlink},
    plan::{self, Existing, Plan},
    sys,
};

/// What is pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::commands) enum Pinned {
    Nothing,
    /// What a start left that did not finish, or somebody who removed some pins.
    Remains,
    /// All of a steer.
    Steer,
}

/// A plan, and all that it was made from.
pub(in crate::commands) struct Outlook {
    pub(in crate::commands) pinned: Pinned,
    pub(in crate::commands) netns: u64,
    pub(in crate::commands) devices: Devices,
    pub(in crate::commands) existing: Existing,
    /// The hooks that there are.
    pub(in crate::commands) hooks: Vec<(HookKey, Hook)>,
    pub(in crate::commands) plan: Plan,
    /// The routes that are followed, as they are.
    pub(in crate::commands) follower: Follower,
    pub(in crate::commands) targets: HookTargets,
}

impl Outlook {
    /// Plans what is asked for. The caller holds the write lock.
    pub(in crate::commands) async fn of(
        pins: &PinDir,
        netlink: &Netlink,
        wanted: &Wanted,
        mode: AttachMode,
    ) -> Result<Self, Failure> {
        let netns = sys::netns_inode()?;
        let devices = netlink.devices().await?;
        maps::check_abi(pins)?;
        maps::check_shapes(pins)?;
        let pinned = match (pins.is_used(), maps::pinned_abi(pins)) {
            (false, _) => Pinned::Nothing,
            (true, None | Some(0)) => Pinned::Remains,
            (true, Some(_)) if !pins.holds_maps() => Pinned::Remains,
            (true, Some(_)) => Pinned::Steer,
        };
        let (existing, hooks) = known(pins, pinned, netns)?;
        let mut follower = Follower::new(&wanted.follows)?;
        follower.read(netlink).await?;
        let machine = machine::ask(netlink, &devices).await?;
        let mut plan = plan::plan(&wanted.request, &machine, &existing)?;
        if let Some(probes) = &wanted.probes {
            plan.check_probes(probes, &existing)?;
        }
        plan.notes.extend(follower.preview(&plan, &existing));
        let there = plan.tunnels().filter(|tunnel| tunnel.ifindex != 0);
        let there = there.map(|tunnel| tunnel.name.as_str());
        let forwarding = machine::forwarding(netlink, plan.prefixes(), there).await?;
        plan.check_forwarding(&forwarding, &devices)?;
        let targets = HookTargets::ask(netlink, hook_devices(&plan), mode).await?;
        refuse_others(pins, netlink, &plan, &hooks).await?;
        Ok(Self {
            pinned,
            netns,
            devices,
            existing,
            hooks,
            plan,
            follower,
            targets,
        })
    }

    /// Removes what an unfinished start left.
    pub(in crate::commands) async fn remove_remains(
        &mut self,
        pins: &PinDir,
        netlink: &Netlink,
        mode: AttachMode,
    ) -> Result<(), Failure> {
        if self.pinned != Pinned::Remains {
            return Ok(());
        }
        log::info!(
            "{}: not all of a steer: removing what is left",
            pins.path().display()
        );
        for error in detach::remove_everything(pins, Cause::Operator).await {
            log::warn!("{error}");
        }
        // Clsact qdiscs of its own went along.
        self.targets = HookTargets::ask(netlink, hook_devices(&self.plan), mode).await?;
        Ok(())
    }
}

/// What is pinned, and its hooks.
fn known(
    pins: &PinDir,
    pinned: Pinned,
    netns: u64,
) -> Result<(Existing, Vec<(HookKey, Hook)>), Failure> {
    if pinned == Pinned::Steer {
        let maps = Maps::open(pins)?;
        // Device numbers mean nothing in another namespace.
        if maps.settings()?.netns != netns {
            let dir = pins.path().to_owned();
            return Err(DatapathError::OtherNetns { dir }.into());
        }
        return Ok((state::existing(&maps)?, maps.hooks()?));
    }
    // What an unfinished start left is ours, too.
    let Some(maps) = detach::maps_of_any_layout(pins)? else {
        let hooks = Maps::pinned_hooks(pins).unwrap_or_default();
        return Ok((Existing::default(), hooks));
    };
    let existing = Existing {
        routing_slot: maps.settings()?.routing_slot,
        ..Existing::default()
    };
    Ok((existing, maps.hooks()?))
}

fn hook_devices(plan: &Plan) -> impl Iterator<Item = (&str, u32)> {
    let attachments = plan.attachments().into_iter();
    attachments.map(|(attachment, _)| (attachment.name, attachment.ifindex))
}

/// Refuses devices on which another steer works.
async fn refuse_others(
    pins: &PinDir,
    netlink: &Netlink,
    plan: &Plan,
    known: &[(HookKey, Hook)],
) -> Result<(), Failure> {
    let ours = hooks::own_programs(pins, known);
    for (attachment, _) in plan.attachments() {
        programs::refuse_other_instance(attachment.name, attachment.kind, &ours)?;
        let foreign = hooks::foreign_filter(netlink, attachment, known, &ours).await?;
        if let Some(program_id) = foreign {
            let device = attachment.name.to_owned();
            return Err(DatapathError::OtherInstance { device, program_id }.into());
        }
    }
    Ok(())
}
