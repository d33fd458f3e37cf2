//! The part of `steerctl run` that stays: it follows devices and routes, and forgets idle flows.
//!
//! Packets do not depend on it. When it dies they keep their ways, and the
//! next `run` goes on where it stopped.

use std::path::PathBuf;
use std::time::Duration;

use steer_common::{
    abi::{Cause, Event, EventKind, HookOrder},
    decide,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Interval, MissedTickBehavior, interval},
};

use super::{
    Failure,
    auto_weights::{self, Controllers},
    detach,
    health::HealthThread,
    manager,
    routes::{Follower, RouteWatch},
    surroundings::Conflicts,
    wanted::Wanted,
};
use crate::{
    cli::RunArgs,
    config::{Config, Weights},
    datapath::{
        maps::Maps,
        pins::{DaemonRole, PinDir},
        programs::Programs,
    },
    net::{DeviceEvents, Netlink},
};

/// How often the daemon looks whether it is still wanted.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How often idle flows are removed from the table.
const COLLECT: Duration = Duration::from_secs(10);

/// The signals that the daemon heeds.
pub(super) struct Signals {
    hang_up: Signal,
    interrupt: Signal,
    terminate: Signal,
    hand_over: Signal,
}

impl Signals {
    /// Listens from now on, so that an early one is not lost and leaves nothing half done.
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            hang_up: signal(SignalKind::hangup())?,
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
    pub(super) pins: PinDir,
    pub(super) maps: Maps,
    pub(super) programs: Programs,
    /// What the command line said.
    pub(super) args: RunArgs,
    /// The configuration file.
    pub(super) file: Option<PathBuf>,
    /// What it said when it was read last; without one, the group of the command line.
    pub(super) config: Config,
    /// Where programs stand of which nothing else tells.
    pub(super) order: HookOrder,
    controllers: Controllers,
    pub(super) netlink: Netlink,
    pub(super) conflicts: Conflicts,
    pub(super) health: HealthThread,
    pub(super) routes: RouteWatch,
}

impl Daemon {
    /// A daemon for what is pinned.
    pub(super) fn new(
        pins: PinDir,
        programs: Programs,
        args: &RunArgs,
        order: HookOrder,
        wanted: Wanted,
        follower: Follower,
    ) -> Result<Self, Failure> {
        let maps = Maps::open(&pins)?;
        let probes = wanted.probes.unwrap_or_default();
        Ok(Self {
            health: HealthThread::start(pins.clone(), probes)?,
            pins,
            maps,
            programs,
            args: args.clone(),
            file: wanted.file,
            config: wanted.config,
            order,
            controllers: Controllers::default(),
            netlink: Netlink::connect()?,
            conflicts: Conflicts::default(),
            routes: RouteWatch::new(follower)?,
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
        let mut adjust = steady(auto_weights::TICK);
        let is_watched = manager::watchdog().is_some();
        self.note(EventKind::Started, Cause::Daemon, 0);
        let end = loop {
            tokio::select! {
                _ = signals.interrupt.recv() => break End::Signal,
                _ = signals.terminate.recv() => break End::Signal,
                _ = signals.hand_over.recv() => break End::Replaced,
                _ = signals.hang_up.recv() => self.reload().await,
                event = events.next() => {
                    if event.is_none() {
                        log::warn!("the kernel's device messages stopped; listening anew");
                        events = DeviceEvents::subscribe()?;
                    }
                    must_follow = !self.follow_or_warn().await;
                    self.routes.devices_changed();
                }
                failure = self.health.failure() => return Err(failure),
                () = self.routes.wait() => self.follow_routes_or_warn().await,
                _ = heartbeat.tick() => {
                    if !self.pins.holds_maps() {
                        break End::Replaced;
                    }
                    if is_watched {
                        manager::alive();
                    }
                    if must_follow {
                        must_follow = !self.follow_or_warn().await;
                    }
                    if let Err(error) = self.look_after_routes() {
                        log::warn!("following the routes: {error}");
                    }
                }
                _ = adjust.tick() => {
                    if let Err(error) = self.adjust_weights() {
                        log::warn!("adjusting weights: {error}");
                    }
                }
                _ = collect.tick() => {
                    if let Err(error) = self.collect_idle() {
                        log::warn!("removing idle flows: {error}");
                    }
                    // The kernel tells of devices, not of rules and routes.
                    must_follow |= self.has_marks();
                }
            }
        };
        self.health.end();
        match end {
            End::Signal if !self.args.keep => {
                manager::stopping("detaching");
                let _lock = self.pins.lock()?;
                if !self.is_current()? {
                    log::info!("another steerctl took over; nothing is removed");
                    return Ok(());
                }
                let stopped = Event::new(EventKind::Stopped, Cause::Daemon);
                if let Err(error) = self.maps.push_event(&stopped) {
                    log::warn!("noting an event: {error}");
                }
                for error in detach::remove_everything(&self.pins, Cause::Daemon).await {
                    log::error!("{error}");
                }
                log::info!("detached");
            }
            End::Signal => self.leave("stopped; packets keep being steered (--keep)"),
            End::Replaced => self.leave("replaced by another steerctl"),
        }
        // Only now may another one begin.
        drop(role);
        Ok(())
    }

    /// Ends, and leaves everything as it is.
    fn leave(&mut self, words: &str) {
        manager::stopping(words);
        if self.pins.holds_maps() {
            self.note(EventKind::Stopped, Cause::Daemon, 0);
        }
        log::info!("{words}");
    }

    /// Whether what was attached last are the programs of this process.
    pub(super) fn is_current(&mut self) -> Result<bool, Failure> {
        if !self.pins.holds_maps() || !self.maps.is_pinned(&self.pins) {
            return Ok(false);
        }
        let own = self.programs.ids()?;
        // Ids only grow; a hook whose device is gone keeps an old one.
        let latest = self
            .maps
            .hooks()?
            .iter()
            .map(|(_, hook)| hook.program_id)
            .max();
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

    /// Changes weights by what was measured, if that is wanted.
    fn adjust_weights(&mut self) -> Result<(), Failure> {
        if self.args.weights.unwrap_or(self.config.weights) == Weights::Fixed {
            self.controllers = Controllers::default();
            return Ok(());
        }
        let _lock = self.pins.lock()?;
        if self.is_current()? {
            self.controllers.tick(&mut self.maps)?;
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
