//! Carrying a plan out as one step: all of it, or back to what there was.

use steer_common::abi::{AttachKind, Cause, Hook, HookKey, Settings};

use crate::{
    commands::{
        Failure,
        carry::{
            apply::{self, Values},
            journal,
            outlook::{Outlook, Pinned},
            snapshot::Snapshot,
        },
        owned::{
            hooks::{self, Attacher},
            routing, surroundings, sysctls,
        },
        state::{self, KnownTunnel},
        verbs::detach,
    },
    datapath::{
        maps::Maps,
        pins::PinDir,
        programs::{AttachMode, Programs},
    },
    net::{Devices, Netlink},
    plan::Plan,
    sys,
};

/// What carrying out takes. The caller holds the write lock.
pub(in crate::commands) struct CarryOut<'a> {
    pub(in crate::commands) pins: &'a PinDir,
    pub(in crate::commands) netlink: &'a Netlink,
    pub(in crate::commands) maps: &'a mut Maps,
    pub(in crate::commands) programs: &'a mut Programs,
    pub(in crate::commands) mode: AttachMode,
    /// Whether there is, or will be, a daemon that watches the tunnels' health.
    pub(in crate::commands) is_watched: bool,
    /// The number of a daemon that takes over by this.
    pub(in crate::commands) daemon: Option<u64>,
    /// Who wants it.
    pub(in crate::commands) cause: Cause,
}

impl CarryOut<'_> {
    /// Does what an outlook's plan says.
    pub(in crate::commands) async fn carry_out(
        self,
        outlook: &mut Outlook,
    ) -> Result<AttachKind, Failure> {
        let Self {
            pins,
            netlink,
            maps,
            programs,
            mode,
            is_watched,
            daemon,
            cause,
        } = self;
        let seed = match outlook.plan.seed {
            Some(seed) => seed,
            None => sys::random_number()?,
        };
        let values = Values {
            seed,
            netns: outlook.netns,
            is_watched,
            daemon,
        };
        let before = Before {
            settings: maps.settings()?,
            hooks: std::mem::take(&mut outlook.hooks),
            tunnels: state::tunnels(maps)?,
            maps: Snapshot::take(maps)?,
        };
        let (plan, devices) = (&outlook.plan, &outlook.devices);
        let mut attacher = Attacher {
            pins,
            maps,
            programs,
            targets: &mut outlook.targets,
            mode,
        };
        let follower = &mut outlook.follower;
        let done = bring_about(&mut attacher, netlink, plan, values, devices).await;
        // Last: it is here that packets begin to be steered by routes.
        let done = done.and_then(|way| {
            follower.apply(attacher.maps)?;
            follower.push_events(attacher.maps)?;
            Ok(way)
        });
        let way = match done {
            Ok(way) => way,
            // The first error is the one to tell.
            Err(error) => {
                if outlook.pinned == Pinned::Steer {
                    if let Err(error) = before.restore(&mut attacher, netlink, plan, devices).await
                    {
                        log::warn!("{error}");
                    }
                } else {
                    for error in detach::remove_everything(pins, cause).await {
                        log::warn!("{error}");
                    }
                }
                return Err(error);
            }
        };
        // It is done; what goes wrong with cleaning up and writing down takes nothing of that back.
        let cleaned = [
            hooks::detach_others(pins, maps, plan).await,
            routing::settle(netlink, maps, devices).await,
            journal::record_hooks(maps, &before.hooks, cause).map_err(Failure::from),
            journal::record(maps, &outlook.existing, cause).map_err(Failure::from),
        ];
        for error in cleaned.iter().filter_map(|done| done.as_ref().err()) {
            log::warn!("{error}");
        }
        Ok(way)
    }
}

/// Does what a plan says. Packets are steered last, so what they need is there by then.
async fn bring_about(
    attacher: &mut Attacher<'_>,
    netlink: &Netlink,
    plan: &Plan,
    values: Values,
    devices: &Devices,
) -> Result<AttachKind, Failure> {
    // Whoever cleans up after this must know where.
    let settings = Settings {
        netns: values.netns,
        ..attacher.maps.settings()?
    };
    attacher.maps.set_settings(&settings)?;
    routing::prepare(netlink, attacher.maps, plan, devices).await?;
    sysctls::change(attacher.maps, plan)?;
    let way = attacher.attach_all(plan)?;
    apply::write(attacher.maps, plan, values, devices)?;
    Ok(way)
}

/// What there was that is to be changed.
struct Before {
    settings: Settings,
    hooks: Vec<(HookKey, Hook)>,
    tunnels: Vec<KnownTunnel>,
    maps: Snapshot,
}

impl Before {
    /// Goes back to it, after the change failed.
    async fn restore(
        &self,
        attacher: &mut Attacher<'_>,
        netlink: &Netlink,
        plan: &Plan,
        devices: &Devices,
    ) -> Result<(), Failure> {
        let settings = attacher.maps.settings()?;
        attacher.maps.set_settings(&Settings {
            routing_slot: settings.routing_slot,
            epoch: settings.epoch,
            ..self.settings
        })?;
        self.maps.restore(attacher.maps)?;
        sysctls::undo(attacher.maps, plan, &self.tunnels);
        sysctls::change_again(&self.tunnels);
        let lan = state::lan_ifindexes(&self.hooks, devices);
        surroundings::write(attacher.maps, devices, &lan)?;
        let now = attacher.maps.hooks()?;
        let is_replaced = self.hooks.iter().any(|known| !now.contains(known));
        if is_replaced && self.settings.hook != plan.mode {
            let mut programs = Programs::load(attacher.pins, plan.max_flows, self.settings.hook)?;
            let mut attacher = Attacher {
                programs: &mut programs,
                maps: attacher.maps,
                targets: attacher.targets,
                ..*attacher
            };
            attacher.attach_again(&self.hooks, devices)?;
        }
        hooks::remove_new(attacher.pins, attacher.maps, &self.hooks).await?;
        hooks::give_back(attacher.maps, &self.hooks)?;
        routing::settle(netlink, attacher.maps, devices).await
    }
}
