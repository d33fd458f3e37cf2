//! How the daemon follows the devices: what came back gets its programs, rules and settings again.

use steer_common::abi::{AttachKind, Cause, Event, EventKind, Hook, HookKind, Tunnel, TunnelRef};

use crate::{
    commands::{
        Failure,
        daemon::Daemon,
        owned::{
            hooks::{Attacher, HookTargets},
            routing, surroundings, sysctls,
        },
        state::{self, decode_name, encode_name, hook_key},
    },
    datapath::{
        DatapathError,
        programs::{self, Programs},
    },
    net::Devices,
    plan,
};

impl Daemon {
    /// Brings the maps up to date with the devices: up, down, gone, made anew, another number.
    pub(in crate::commands) async fn follow_devices(&mut self) -> Result<(), Failure> {
        let devices = self.netlink.devices().await?;
        let _lock = self.lock()?;
        // Another steerctl may have changed everything while this one waited.
        if !self.is_current()? {
            return Ok(());
        }
        // In this order: before a tunnel is used again, it has all that it needs. What fails does not keep the
        // others from it.
        let done = [
            sysctls::follow(&mut self.maps, &devices),
            routing::settle(&self.netlink, &mut self.maps, &devices).await,
            self.attach_lost(&devices).await,
            self.forget_dead_hooks(&devices).map_err(Failure::from),
            self.follow_tunnels(&devices).map_err(Failure::from),
            self.follow_surroundings(&devices).map_err(Failure::from),
        ];
        self.health.follow(devices);
        done.into_iter().collect()
    }

    /// Whether packets are marked, so that there are rules and routes to look after.
    pub(in crate::commands) fn has_marks(&self) -> bool {
        let settings = self.maps.settings();
        settings.is_ok_and(|settings| settings.routing_slot != 0)
    }

    /// Attaches what devices of known names lack.
    async fn attach_lost(&mut self, devices: &Devices) -> Result<(), Failure> {
        let hooks = self.maps.hooks()?;
        let number = |name: &str| devices.by_name(name).map_or(0, |device| device.ifindex);
        let tunnels = state::tunnels(&self.maps)?;
        let there: Vec<_> = tunnels
            .iter()
            .map(|t| (t.name.as_str(), number(&t.name)))
            .collect();
        let lan = state::lan_devices(&hooks);
        let wanted = plan::attachments(
            self.maps.settings()?.hook,
            &there,
            lan.iter().filter_map(|(name, _)| {
                let device = devices.by_name(name)?;
                Some((name.as_str(), device.ifindex, device.layer3))
            }),
        );
        let lost: Vec<_> = wanted
            .into_iter()
            .filter(|attachment| {
                let key = hook_key(attachment.kind, attachment.ifindex);
                !hooks.iter().any(|(found, hook)| {
                    *found == key
                        && (hook.attach != AttachKind::Tcx
                            || programs::linked_program(&self.pins, key).is_some())
                })
            })
            .collect();
        if lost.is_empty() {
            return Ok(());
        }
        let mode = self.maps.settings()?.hook;
        if self.programs.mode() != mode {
            // An attach beside this daemon wanted another one.
            self.programs = Programs::load(&self.pins, self.maps.flow_capacity(), mode)?;
        }
        let names = lost
            .iter()
            .map(|attachment| (attachment.name, attachment.ifindex));
        let mut targets = HookTargets::ask(&self.netlink, names, self.args.steer.attach).await?;
        for attachment in lost {
            let group = tunnels
                .iter()
                .find(|tunnel| tunnel.name == attachment.name)
                .map(|tunnel| tunnel.info.group)
                .or_else(|| {
                    let of_name = |(name, _): &&(String, u32)| name == attachment.name;
                    lan.iter().find(of_name).map(|(_, group)| *group)
                })
                .unwrap_or(0);
            let of_group = hooks.iter().find(|(_, hook)| hook.group == group);
            let order = of_group.map_or(self.order, |(_, hook)| hook.order);
            let result = Attacher {
                pins: &self.pins,
                maps: &mut self.maps,
                programs: &mut self.programs,
                targets: &mut targets,
                mode: self.args.steer.attach,
            }
            .attach(attachment, order, u8::try_from(group).unwrap_or(0));
            match result {
                Ok(_) => log::info!("device {} is back: attached again", attachment.name),
                // It may be gone again by now; its next message tells.
                Err(error) => log::warn!("{error}"),
            }
        }
        Ok(())
    }

    /// Brings addresses, VLANs and LAN devices up to date.
    fn follow_surroundings(&mut self, devices: &Devices) -> Result<(), DatapathError> {
        let lan = state::lan_ifindexes(&self.maps.hooks()?, devices);
        if surroundings::write(&mut self.maps, devices, &lan)? {
            state::next_epoch(&mut self.maps)?;
            log::debug!("the addresses changed: every flow is checked again");
        }
        self.conflicts
            .warn(surroundings::conflicts(&self.maps, devices)?);
        Ok(())
    }

    /// Removes the remains of tunnel hooks whose device is gone, and of LAN hooks whose device is
    /// attached under a new number. (A LAN hook that is gone for good stays known by its name.)
    fn forget_dead_hooks(&mut self, devices: &Devices) -> Result<(), DatapathError> {
        let hooks = self.maps.hooks()?;
        for (key, hook) in &hooks {
            let is_alive = devices.by_index(key.ifindex).is_some();
            let name = decode_name(&hook.name);
            let has_successor = hooks.iter().any(|(other, of)| {
                other.kind == key.kind && of.name == hook.name && other.ifindex != key.ifindex
            });
            let is_of_tunnel =
                matches!(key.kind, HookKind::Learn | HookKind::Egress | HookKind::Own);
            if !is_alive && (is_of_tunnel || has_successor) {
                // A filter went with its device.
                let link = Hook {
                    attach: AttachKind::Tcx,
                    ..*hook
                };
                programs::detach(&self.pins, *key, &name, &link)?;
                self.maps.remove_hook(*key)?;
            }
        }
        Ok(())
    }

    /// Says which devices the tunnels are now. What that means for their health is for the thread that watches it.
    fn follow_tunnels(&mut self, devices: &Devices) -> Result<(), DatapathError> {
        for tunnel in state::tunnels(&self.maps)? {
            let device = devices.by_name(&tunnel.name).filter(|device| device.layer3);
            let (ifindex, was) = (
                device.map_or(0, |device| device.ifindex),
                tunnel.state.ifindex,
            );
            if ifindex == was {
                continue;
            }
            if ifindex != 0 {
                let tunnel_ref = TunnelRef {
                    tunnel: tunnel.id.into(),
                    group: tunnel.info.group,
                };
                self.maps.set_tunnel_device(ifindex, tunnel_ref)?;
            }
            let words = self.maps.tunnel_words()?;
            words.update(tunnel.id, |state| Some(Tunnel { ifindex, ..state }));
            if was != 0 {
                self.maps.remove_tunnel_device(was)?;
            }
            self.maps.push_event(&Event {
                tunnel: tunnel.id.into(),
                group: tunnel.info.group,
                before: was,
                after: ifindex,
                name: encode_name(&tunnel.name),
                ..Event::new(EventKind::DeviceChanged, Cause::Daemon)
            })?;
        }
        Ok(())
    }
}
