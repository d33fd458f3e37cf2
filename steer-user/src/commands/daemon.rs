//! The part of `steerctl run` that stays: it follows the devices and forgets idle flows.
//!
//! Packets do not depend on it. When it dies they keep their ways, and the
//! next `run` goes on where it stopped.

use std::time::Duration;

use steer_common::{
    abi::{AttachKind, Health, Hook, HookKind, TunnelRef},
    decide,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Interval, MissedTickBehavior, interval},
};

use super::{
    Failure,
    apply::{self, Attacher, HookTargets},
    state::{self, decode_name, hook_key, tunnel_state},
    surroundings,
};
use crate::{
    datapath::{
        DatapathError,
        maps::Maps,
        pins::{DaemonRole, PinDir},
        programs::{self, AttachMode, Programs},
    },
    net::{DeviceEvents, Devices, Netlink},
    plan,
};

/// How often the daemon looks whether it is still wanted.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How often idle flows are removed from the table.
const COLLECT: Duration = Duration::from_secs(10);

/// The signals that end the daemon.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hand_over: Signal,
}

impl Signals {
    /// Listens from now on, so that an early one is not lost and leaves nothing half done.
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hand_over: signal(SignalKind::user_defined1())?,
        })
    }
}

/// Why the daemon ends.
enum End {
    /// The operator said so.
    Signal,
    /// Another steerctl took over, or removed everything.
    Replaced,
}

/// The state of the daemon: all of it can be had again from the pins.
pub(super) struct Daemon {
    pins: PinDir,
    maps: Maps,
    programs: Programs,
    mode: AttachMode,
    keep: bool,
    netlink: Netlink,
}

impl Daemon {
    /// A daemon for what is pinned.
    pub(super) fn new(
        pins: PinDir,
        programs: Programs,
        mode: AttachMode,
        keep: bool,
    ) -> Result<Self, Failure> {
        let maps = Maps::open(&pins)?;
        Ok(Self {
            pins,
            maps,
            programs,
            mode,
            keep,
            netlink: Netlink::connect()?,
        })
    }

    /// Works until it is told to stop, or is replaced.
    pub(super) async fn work(
        mut self,
        mut signals: Signals,
        role: DaemonRole,
    ) -> Result<(), Failure> {
        let mut events = DeviceEvents::subscribe()?;
        // What changed between the start and the subscription is looked for at once.
        let mut must_follow = true;
        let mut heartbeat = steady(HEARTBEAT);
        let mut collect = steady(COLLECT);
        let end = loop {
            tokio::select! {
                _ = signals.interrupt.recv() => break End::Signal,
                _ = signals.terminate.recv() => break End::Signal,
                _ = signals.hand_over.recv() => break End::Replaced,
                event = events.next() => {
                    if event.is_none() {
                        log::warn!("the kernel's device messages stopped; listening anew");
                        events = DeviceEvents::subscribe()?;
                    }
                    must_follow = !self.follow_or_warn().await;
                }
                _ = heartbeat.tick() => {
                    if !self.pins.holds_maps() {
                        break End::Replaced;
                    }
                    if must_follow {
                        must_follow = !self.follow_or_warn().await;
                    }
                }
                _ = collect.tick() => {
                    if let Err(error) = self.collect_idle() {
                        log::warn!("removing idle flows: {error}");
                    }
                }
            }
        };
        match end {
            End::Signal if !self.keep => {
                let _lock = self.pins.lock()?;
                if !self.is_current()? {
                    log::info!("another steerctl took over; nothing is removed");
                    return Ok(());
                }
                for error in apply::remove_everything(&self.pins).await {
                    log::error!("{error}");
                }
                log::info!("detached");
            }
            End::Signal => log::info!("stopped; packets keep being steered (--keep)"),
            End::Replaced => log::info!("replaced by another steerctl"),
        }
        // Only now may another one begin.
        drop(role);
        Ok(())
    }

    /// Whether what was attached last are the programs of this process.
    fn is_current(&mut self) -> Result<bool, Failure> {
        if !self.pins.holds_maps() {
            return Ok(false);
        }
        let own = self.programs.ids()?;
        let hooks = Maps::open(&self.pins)?.hooks()?;
        // Ids only grow; a hook whose device is gone keeps an old one.
        let latest = hooks.iter().map(|(_, hook)| hook.program_id).max();
        Ok(latest.is_none_or(|id| own.contains(&id)))
    }

    /// Follows the devices; what went wrong is tried again at the next heartbeat.
    async fn follow_or_warn(&mut self) -> bool {
        let result = self.follow_devices().await;
        if let Err(error) = &result {
            log::warn!("following the devices: {error}");
        }
        result.is_ok()
    }

    /// Brings the maps up to date with the devices: up, down, gone, made anew, another number.
    async fn follow_devices(&mut self) -> Result<(), Failure> {
        let devices = self.netlink.devices().await?;
        let _lock = self.pins.lock()?;
        // Another steerctl may have changed everything while this one waited.
        if !self.is_current()? {
            return Ok(());
        }
        self.attach_lost(&devices).await?;
        self.forget_dead_hooks(&devices)?;
        self.follow_tunnels(&devices)?;
        self.follow_surroundings(&devices)?;
        Ok(())
    }

    /// Attaches what devices of known names lack.
    async fn attach_lost(&mut self, devices: &Devices) -> Result<(), Failure> {
        let hooks = self.maps.hooks()?;
        let Some((_, sample)) = hooks.first() else {
            return Ok(());
        };
        let number = |name: &str| devices.by_name(name).map_or(0, |device| device.ifindex);
        let tunnels = state::tunnels(&self.maps)?;
        let lan = state::lan_devices(&hooks);
        let wanted = plan::attachments(
            self.maps.settings()?.hook,
            tunnels.iter().map(|t| (t.name.as_str(), number(&t.name))),
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
        let names = lost
            .iter()
            .map(|attachment| (attachment.name, attachment.ifindex));
        let mut targets = HookTargets::ask(&self.netlink, names, self.mode).await?;
        for attachment in lost {
            let group = tunnels
                .iter()
                .find(|tunnel| tunnel.name == attachment.name)
                .map(|tunnel| tunnel.info.group)
                .or_else(|| {
                    let of_name = |(name, _): &&(String, u32)| name == attachment.name;
                    lan.iter().find(of_name).map(|(_, group)| *group)
                });
            let result = Attacher {
                pins: &self.pins,
                maps: &mut self.maps,
                programs: &mut self.programs,
                targets: &mut targets,
                mode: self.mode,
            }
            .attach(
                attachment,
                sample.order,
                group
                    .and_then(|group| u8::try_from(group).ok())
                    .unwrap_or(0),
            );
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
        let lan: Vec<u32> = state::lan_devices(&self.maps.hooks()?)
            .iter()
            .filter_map(|(name, _)| Some(devices.by_name(name)?.ifindex))
            .collect();
        if surroundings::write(&mut self.maps, devices, &lan)? {
            let mut settings = self.maps.settings()?;
            settings.epoch = settings.epoch.wrapping_add(1);
            self.maps.set_settings(&settings)?;
            log::debug!("the addresses changed: every flow is checked again");
        }
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
            let is_of_tunnel = matches!(key.kind, HookKind::Learn | HookKind::Egress);
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

    fn follow_tunnels(&mut self, devices: &Devices) -> Result<(), DatapathError> {
        let known = state::tunnels(&self.maps)?;
        let mut changed_groups = Vec::new();
        for tunnel in &known {
            let device = devices.by_name(&tunnel.name).filter(|device| device.layer3);
            let (ifindex, up) = device.map_or((0, false), |device| (device.ifindex, device.up));
            let next = tunnel_state(ifindex, up, tunnel.state.admin);
            if next == tunnel.state {
                continue;
            }
            if ifindex != 0 {
                let tunnel_ref = TunnelRef {
                    tunnel: tunnel.id.into(),
                    group: tunnel.info.group,
                };
                self.maps.set_tunnel_device(ifindex, tunnel_ref)?;
            }
            self.maps.set_tunnel(tunnel.id, &next)?;
            let was = tunnel.state.ifindex;
            if was != 0 && was != ifindex {
                self.maps.remove_tunnel_device(was)?;
            }
            let reason = match next.health {
                Health::Down if ifindex == 0 => "its device is gone",
                Health::Down => "its device is down",
                _ => "its device is up",
            };
            log::info!("tunnel {}: {reason}", tunnel.name);
            if !changed_groups.contains(&tunnel.info.group) {
                changed_groups.push(tunnel.info.group);
            }
        }
        for group in changed_groups {
            state::rebuild(&mut self.maps, u8::try_from(group).unwrap_or(0))?;
        }
        Ok(())
    }

    /// Removes the entries of flows that have been idle for longer than their time-out.
    fn collect_idle(&mut self) -> Result<(), Failure> {
        let settings = self.maps.settings()?;
        let now_ns = super::show::now_ns();
        let mut idle = Vec::new();
        self.maps.for_each_flow(|key, entry| {
            if decide::is_idle(&settings, key, entry.phase, entry.last_seen_ns, now_ns) {
                idle.push((*key, entry.last_seen_ns));
            }
        })?;
        let mut removed = 0;
        for (key, last_seen_ns) in idle {
            // One that woke up meanwhile stays.
            let is_unchanged =
                |entry: steer_common::abi::FlowEntry| entry.last_seen_ns == last_seen_ns;
            if self.maps.flow(&key)?.is_some_and(is_unchanged) && self.maps.remove_flow(&key)? {
                removed += 1;
            }
        }
        if removed > 0 {
            log::debug!("{removed} idle flows forgotten");
        }
        Ok(())
    }
}

fn steady(period: Duration) -> Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
