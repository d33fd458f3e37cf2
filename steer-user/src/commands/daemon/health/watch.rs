//! The loop of the thread that probes.

use std::{collections::BTreeMap, time::Duration};

use steer_common::abi::{Tunnel, TunnelId};
use tokio::{
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        watch as channel,
    },
    task::JoinHandle,
};

use super::{
    Orders,
    settle::{Change, settle},
    told,
    tunnel::{Heard, Watched},
};
use crate::{
    commands::{Failure, state},
    datapath::{
        maps::{Maps, TunnelWords},
        pins::PinDir,
    },
    net::{self, WireGuard},
    plan::health::{Pace, Transition, phrase},
    sys::{nanos, now_ns},
};

/// How often the maps are looked at and written: tunnels that came and went, and what was measured.
const REFRESH: Duration = Duration::from_secs(1);

/// When to try again what failed.
const RETRY: Duration = Duration::from_secs(1);

/// What WireGuard told of a tunnel.
struct Told {
    tunnel: TunnelId,
    at_ns: u64,
    wireguard: Option<WireGuard>,
}

/// Watches the tunnels until it is told to end.
pub(super) async fn run(
    pins: PinDir,
    maps: Maps,
    mut orders: channel::Receiver<Orders>,
) -> Result<(), Failure> {
    let mut watch = Watch::new(pins, maps)?;
    loop {
        let wake_ns = watch.wake_ns();
        tokio::select! {
            // An error says that whoever gives orders is gone.
            changed = orders.changed() => {
                let now = orders.borrow_and_update().clone();
                if changed.is_err() || now.ends {
                    return watch.end().await;
                }
                watch.refresh(&now)?;
            }
            Some(heard) = watch.answers.1.recv() => watch.heard(&heard),
            Some(told) = watch.samples.1.recv() => watch.told(told),
            result = settled(&mut watch.settling) => watch.after_settling(result),
            () = sleep_until(wake_ns) => {}
        }
        while let Ok(heard) = watch.answers.1.try_recv() {
            watch.heard(&heard);
        }
        if now_ns() >= watch.refresh_ns {
            let now = orders.borrow().clone();
            watch.refresh(&now)?;
        }
        watch.probe_one();
        watch.judge_all()?;
        watch.settle();
    }
}

/// All tunnels that are watched, and what is under way.
struct Watch {
    pins: PinDir,
    maps: Maps,
    words: TunnelWords,
    tunnels: BTreeMap<TunnelId, Watched>,
    pace: Pace,
    refresh_ns: u64,
    answers: (UnboundedSender<Heard>, UnboundedReceiver<Heard>),
    samples: (UnboundedSender<Told>, UnboundedReceiver<Told>),
    /// What bucket tables and events do not show yet.
    unsettled: Vec<Change>,
    settling: Option<JoinHandle<Settled>>,
    /// After a failure: when it is tried again.
    settle_again_ns: Option<u64>,
}

/// The end of settling: what failed is to be done again.
type Settled = Result<(), (Failure, Vec<Change>)>;

impl Watch {
    fn new(pins: PinDir, maps: Maps) -> Result<Self, Failure> {
        Ok(Self {
            pins,
            words: maps.tunnel_words()?,
            maps,
            tunnels: BTreeMap::new(),
            pace: Pace::default(),
            refresh_ns: now_ns(),
            answers: unbounded_channel(),
            samples: unbounded_channel(),
            unsettled: Vec::new(),
            settling: None,
            settle_again_ns: None,
        })
    }

    /// Brings everything up to date with the maps and the devices, and tells what was measured.
    fn refresh(&mut self, orders: &Orders) -> Result<(), Failure> {
        self.refresh_ns = now_ns().saturating_add(nanos(REFRESH));
        let Some(devices) = &orders.devices else {
            return Ok(());
        };
        let known = state::tunnels(&self.maps)?;
        self.tunnels.retain(|id, watched| {
            let is_it = |tunnel: &&state::KnownTunnel| tunnel.id == *id;
            known
                .iter()
                .find(is_it)
                .is_some_and(|tunnel| tunnel.name == watched.name)
        });
        for tunnel in &known {
            let spec = orders.probes.of(&tunnel.name);
            if !self.tunnels.contains_key(&tunnel.id) {
                let told = self.maps.tunnel_health(tunnel.id)?;
                self.tunnels
                    .insert(tunnel.id, Watched::new(tunnel, &told, spec));
            }
            if let Some(watched) = self.tunnels.get_mut(&tunnel.id) {
                let device = devices.by_name(&tunnel.name);
                watched.follow(device.filter(|device| device.layer3), spec);
            }
        }
        self.judge_all()?;
        self.arrange();
        for watched in self.tunnels.values() {
            self.maps
                .set_tunnel_health(watched.id, &watched.machine.figures())?;
        }
        self.ask_wireguard();
        Ok(())
    }

    /// Opens the sockets that are needed now, and sets the pace.
    fn arrange(&mut self) {
        let now_ns = now_ns();
        for watched in self.tunnels.values_mut() {
            watched.arrange(&self.answers.0);
        }
        self.pace.keep(|id| self.tunnels.contains_key(&id));
        for watched in self.tunnels.values() {
            let interval = watched.machine.probe_interval();
            self.pace.set(watched.id, interval, now_ns);
        }
    }

    /// Asks WireGuard of the tunnels of which nobody else tells.
    fn ask_wireguard(&mut self) {
        for watched in self.tunnels.values_mut() {
            let Some(device) = watched.to_sample().cloned() else {
                continue;
            };
            watched.is_sampled = true;
            let (tunnel, answers) = (watched.id, self.samples.0.clone());
            tokio::spawn(async move {
                let wireguard = net::ask_wireguard(&device).await;
                let at_ns = now_ns();
                // Without a reader nobody wants to know.
                let _ = answers.send(Told {
                    tunnel,
                    at_ns,
                    wireguard,
                });
            });
        }
    }

    fn told(&mut self, told: Told) {
        let Some(watched) = self.tunnels.get_mut(&told.tunnel) else {
            return;
        };
        watched.is_sampled = false;
        if let Some(wireguard) = told.wireguard {
            watched.sampled(told.at_ns, &wireguard);
        }
    }

    fn heard(&mut self, heard: &Heard) {
        if let Some(watched) = self.tunnels.get_mut(&heard.tunnel) {
            watched.machine.answered(heard.number, heard.at_ns);
        }
    }

    /// Sends a probe, if it is time for one.
    fn probe_one(&mut self) {
        let tunnel = self.pace.next(now_ns());
        if let Some(watched) = tunnel.and_then(|id| self.tunnels.get_mut(&id)) {
            watched.probe();
        }
    }

    /// When there is something to do though nothing happens.
    fn wake_ns(&self) -> u64 {
        let deadlines = self.tunnels.values();
        deadlines
            .filter_map(|watched| watched.machine.deadline_ns())
            .chain(self.pace.wake_ns())
            .chain(self.settle_again_ns.filter(|_| self.settling.is_none()))
            .fold(self.refresh_ns, u64::min)
    }

    /// Judges every tunnel, and tells the packet path.
    fn judge_all(&mut self) -> Result<(), Failure> {
        let mut changed = Vec::new();
        for watched in self.tunnels.values_mut() {
            if watched
                .machine
                .deadline_ns()
                .is_some_and(|at_ns| at_ns <= now_ns())
            {
                // An answer that waits is no answer that is missing.
                watched.hear();
            }
            let transition = watched.machine.judge(now_ns());
            let (ifindex, health) = (watched.ifindex, watched.health());
            // Of a device that is not this one any more, whoever knows it tells.
            let is_untold = |word: &Tunnel| word.ifindex == ifindex && word.health != health;
            let tell = |word| {
                Some(word)
                    .filter(is_untold)
                    .map(|word| Tunnel { health, ..word })
            };
            let was_told = self.words.update(watched.id, tell).is_some();
            if let Some(transition) = &transition {
                log_transition(watched, transition);
            }
            if transition.is_some() || was_told {
                changed.push(Change {
                    id: watched.id,
                    name: watched.name.clone(),
                    transition,
                });
            }
        }
        if changed.is_empty() {
            return Ok(());
        }
        for change in &changed {
            if let Some(watched) = self.tunnels.get(&change.id) {
                self.maps
                    .set_tunnel_health(change.id, &watched.machine.figures())?;
            }
        }
        self.unsettled.append(&mut changed);
        self.arrange();
        Ok(())
    }

    /// Begins to settle what is unsettled, unless that is under way or has just failed.
    fn settle(&mut self) {
        let rests = self.settle_again_ns.is_some_and(|at_ns| now_ns() < at_ns);
        if self.unsettled.is_empty() || self.settling.is_some() || rests {
            return;
        }
        let (pins, changes) = (self.pins.clone(), std::mem::take(&mut self.unsettled));
        // The write lock may be held for long; probes do not wait for it.
        self.settling = Some(tokio::task::spawn_blocking(move || {
            settle(&pins, &changes).map_err(|failure| (failure, changes))
        }));
    }

    fn after_settling(&mut self, settled: Settled) {
        self.settling = None;
        match settled {
            Ok(()) => {
                if self.settle_again_ns.take().is_some() {
                    log::info!("new bucket tables are made");
                }
            }
            Err((failure, mut changes)) => {
                let is_first = self.settle_again_ns.is_none();
                let level = if is_first {
                    log::Level::Warn
                } else {
                    log::Level::Debug
                };
                log::log!(
                    level,
                    "making new bucket tables: {failure}; tried again every {RETRY:?}"
                );
                self.settle_again_ns = Some(now_ns().saturating_add(nanos(RETRY)));
                changes.append(&mut self.unsettled);
                self.unsettled = changes;
            }
        }
    }

    /// Ends in order: what is being written is finished.
    async fn end(mut self) -> Result<(), Failure> {
        if self.settling.is_some() {
            let result = settled(&mut self.settling).await;
            self.after_settling(result);
        }
        Ok(())
    }
}

/// The end of what is being settled; never, when nothing is.
async fn settled(settling: &mut Option<JoinHandle<Settled>>) -> Settled {
    match settling {
        Some(task) => match task.await {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        },
        None => std::future::pending().await,
    }
}

async fn sleep_until(at_ns: u64) {
    let left = Duration::from_nanos(at_ns.saturating_sub(now_ns()));
    tokio::time::sleep(left).await;
}

/// One line for a change of health, with numbers; less for a change of reason.
fn log_transition(watched: &Watched, transition: &Transition) {
    let figures = watched.machine.figures();
    let Transition { before, after } = transition;
    let phrase = phrase(after.health, &figures).unwrap_or_default();
    let (rtt, jitter) = (figures.rtt_us, figures.jitter_us);
    let ms = |us: u32| f64::from(us) / 1_000.0;
    let mut numbers = String::new();
    if told::is_measured(&figures) {
        let loss = f64::from(figures.loss_ppm) / 10_000.0;
        numbers = format!(
            " (round trip {:.1} ms, jitter {:.1} ms, loss {loss:.1} %)",
            ms(rtt),
            ms(jitter)
        );
    }
    let (name, from, to) = (&watched.name, before.health.name(), after.health.name());
    if transition.changes_health() {
        log::info!("tunnel {name}: {from} → {to}: {phrase}{numbers}");
    } else {
        log::debug!("tunnel {name}: {to}: {phrase}{numbers}");
    }
}
