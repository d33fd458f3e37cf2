//! The part of `steerctl run` that stays: it follows devices and routes.
//!
//! Packets do not depend on it. When it dies they keep their ways, and the
//! next `run` goes on where it stopped.

pub(super) mod auto_weights;
pub(super) mod follow;
pub(super) mod health;
pub(super) mod idle;
pub(super) mod manager;
pub(super) mod reload;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use steer_common::abi::{Cause, Event, EventKind, HookOrder, Settings};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Interval, MissedTickBehavior, interval},
};

use crate::{
    cli::RunArgs,
    commands::{
        Failure,
        daemon::{auto_weights::Controllers, health::HealthThread, idle::IdleThread},
        owned::surroundings::Conflicts,
        routes::RouteWatch,
        verbs::{detach, start::Started},
    },
    config::{Config, Weights},
    datapath::{
        DatapathError,
        maps::Maps,
        pins::{DaemonRole, HAND_OVER, LOCK_PATIENCE, PinDir, WriteLock},
        programs::Programs,
    },
    net::{DeviceEvents, Netlink},
};

/// How often the daemon looks whether it is still wanted.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How often it looks after what the kernel does not tell of: rules.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// The signals that the daemon heeds.
pub(in crate::commands) struct Signals {
    hang_up: Signal,
    interrupt: Signal,
    terminate: Signal,
    hand_over: Signal,
}

impl Signals {
    /// Listens from now on, so that an early one is not lost and leaves nothing half done.
    pub(in crate::commands) fn listen() -> std::io::Result<Self> {
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
    /// Another steerctl took over, or removes everything.
    Replaced,
    /// Somebody removed pins.
    Lost(DatapathError),
}

/// The state of the daemon: all of it can be had again from the pins.
pub(in crate::commands) struct Daemon {
    /// What the maps call it.
    number: u64,
    /// Since when they name another one.
    displaced: Option<Instant>,
    pub(in crate::commands) pins: PinDir,
    pub(in crate::commands) maps: Maps,
    pub(in crate::commands) programs: Programs,
    /// What the command line said.
    pub(in crate::commands) args: RunArgs,
    /// The configuration file.
    pub(in crate::commands) file: Option<PathBuf>,
    /// What it said when it was read last; without one, the group of the command line.
    pub(in crate::commands) config: Config,
    /// Where programs stand of which nothing else tells.
    pub(in crate::commands) order: HookOrder,
    controllers: Controllers,
    pub(in crate::commands) netlink: Netlink,
    pub(in crate::commands) conflicts: Conflicts,
    pub(in crate::commands) health: HealthThread,
    pub(in crate::commands) routes: RouteWatch,
    idle: IdleThread,
}

impl Daemon {
    /// A daemon for what is pinned.
    pub(in crate::commands) fn new(
        pins: PinDir,
        args: &RunArgs,
        started: Started,
    ) -> Result<Self, Failure> {
        let maps = Maps::open(&pins)?;
        let wanted = started.wanted;
        let probes = wanted.probes.unwrap_or_default();
        Ok(Self {
            number: started.daemon,
            displaced: None,
            health: HealthThread::start(pins.clone(), Maps::open(&pins)?, probes)?,
            idle: IdleThread::start(Maps::open(&pins)?)?,
            pins,
            maps,
            programs: started.programs,
            args: args.clone(),
            file: wanted.file,
            config: wanted.config,
            order: started.order,
            controllers: Controllers::default(),
            netlink: Netlink::connect()?,
            conflicts: Conflicts::default(),
            routes: RouteWatch::new(started.follower)?,
        })
    }

    /// Works until it is told to stop, or is replaced.
    pub(in crate::commands) async fn work(
        mut self,
        mut signals: Signals,
        role: DaemonRole,
    ) -> Result<(), Failure> {
        let mut events = DeviceEvents::subscribe()?;
        // What changed between the start and the subscription is looked for at once.
        let mut must_follow = true;
        let mut heartbeat = steady(HEARTBEAT);
        let mut look_again = steady(LOOK_AGAIN);
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
                    // Of a burst of messages one look tells all.
                    let more = events.take_all();
                    log::debug!("device messages: {}", 1 + more);
                    must_follow = !self.follow_or_warn().await;
                    self.routes.devices_changed();
                }
                failure = self.health.failure() => return Err(failure),
                () = self.routes.wait() => self.follow_routes_or_warn().await,
                _ = heartbeat.tick() => {
                    if !self.pins.holds_maps()
                        && let Err(error) = Maps::open(&self.pins)
                    {
                        break End::Lost(error);
                    }
                    match self.go_on_alone() {
                        Ok(goes_on) => must_follow |= goes_on,
                        Err(error) => log::warn!("{error}"),
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
                // The kernel tells of devices, not of rules and routes.
                _ = look_again.tick() => must_follow |= self.has_marks(),
            }
        };
        self.health.end();
        self.idle.end();
        match end {
            End::Signal if !self.args.keep => {
                manager::stopping("detaching");
                let _lock = self.pins.lock_within(HAND_OVER)?;
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
            End::Lost(error) => return Err(error.into()),
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

    /// Whether nobody else took over, or removed what this one looks after.
    pub(in crate::commands) fn is_current(&mut self) -> Result<bool, Failure> {
        if !self.pins.holds_maps() || !self.maps.is_pinned(&self.pins) {
            return Ok(false);
        }
        Ok(self.maps.settings()?.daemon == self.number)
    }

    /// The write lock, unless somebody else holds it for long: what is due is tried again later.
    pub(in crate::commands) fn lock(&self) -> Result<WriteLock, DatapathError> {
        self.pins.lock_within(LOCK_PATIENCE)
    }

    /// Takes over again, and says so, when the steerctl that took over is not there: it was killed, or it failed,
    /// before it became the daemon.
    fn go_on_alone(&mut self) -> Result<bool, Failure> {
        if self.is_current()? {
            self.displaced = None;
            return Ok(false);
        }
        let since = *self.displaced.get_or_insert_with(Instant::now);
        if since.elapsed() < HAND_OVER * 2 {
            return Ok(false);
        }
        let _lock = self.lock()?;
        if !self.maps.is_pinned(&self.pins) {
            return Ok(false);
        }
        let settings = self.maps.settings()?;
        self.maps.set_settings(&Settings {
            daemon: self.number,
            ..settings
        })?;
        log::warn!("the steerctl that took over is gone; going on in its place");
        self.routes.devices_changed();
        Ok(true)
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
        let _lock = self.lock()?;
        if self.is_current()? {
            self.controllers.tick(&mut self.maps)?;
        }
        Ok(())
    }
}

fn steady(period: Duration) -> Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
