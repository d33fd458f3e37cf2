//! The part of `steerctl run` that stays: it follows the devices and forgets idle flows.
//!
//! Packets do not depend on it. When it dies they keep their ways, and the
//! next `run` goes on where it stopped.

use std::{collections::HashMap, time::Duration};

use steer_common::{
    abi::{AttachKind, Health, HookKind, TunnelRef},
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
};
use crate::{
    datapath::{
        DatapathError,
        maps::Maps,
        pins::{DaemonRole, PinDir},
        programs::{self, AttachMode, Programs},
    },
    net::{DeviceEvents, Devices, Netlink},
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
        let own = [
            self.programs.id(HookKind::Ingress)?,
            self.programs.id(HookKind::Learn)?,
        ];
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
        let attach = self.wanted_hooks(&devices)?;
        let names = attach
            .iter()
            .map(|(_, name, ifindex, _)| (name.as_str(), *ifindex));
        let targets = HookTargets::ask(&self.netlink, names, self.mode).await?;
        for (kind, name, ifindex, group) in &attach {
            let mut attacher = Attacher {
                pins: &self.pins,
                maps: &mut self.maps,
                programs: &mut self.programs,
                targets: &targets,
                mode: self.mode,
            };
            let group = u8::try_from(*group).unwrap_or(0);
            let result = attacher.attach(*kind, (name, *ifindex), group);
            match result {
                Ok(_) => log::info!("device {name} is back: attached again"),
                // It may be gone again by now; its next message tells.
                Err(error) => log::warn!("{error}"),
            }
        }
        self.forget_dead_hooks(&devices)?;
        self.follow_tunnels(&devices)?;
        Ok(())
    }

    /// Devices of known names that lack their hook: kind, name, number, group.
    fn wanted_hooks(
        &self,
        devices: &Devices,
    ) -> Result<Vec<(HookKind, String, u32, u32)>, DatapathError> {
        let hooks = self.maps.hooks()?;
        let tunnels = state::tunnels(&self.maps)?;
        let mut wanted: HashMap<(HookKind, u32), (String, u32)> = HashMap::new();
        let learners = tunnels
            .iter()
            .map(|t| (HookKind::Learn, t.name.clone(), t.info.group));
        let ingress = hooks
            .iter()
            .filter(|(key, _)| key.kind == HookKind::Ingress)
            .map(|(key, hook)| (key.kind, decode_name(&hook.name), hook.group));
        for (kind, name, group) in learners.chain(ingress) {
            if let Some(device) = devices.by_name(&name) {
                let key = hook_key(kind, device.ifindex);
                let is_there = hooks.iter().any(|(found, hook)| {
                    *found == key
                        && (hook.attach != AttachKind::Tcx
                            || programs::linked_program(&self.pins, key).is_some())
                });
                if !is_there {
                    wanted.insert((kind, device.ifindex), (name, group));
                }
            }
        }
        Ok(wanted
            .into_iter()
            .map(|((kind, ifindex), (name, group))| (kind, name, ifindex, group))
            .collect())
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
            if !is_alive && (key.kind == HookKind::Learn || has_successor) {
                programs::detach(&self.pins, *key, &name, AttachKind::Tcx)?;
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
