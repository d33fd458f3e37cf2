//! One tunnel that is watched: its machine, and the socket through which it is probed.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use steer_common::abi::{Health, TunnelHealth, TunnelId};
use tokio::{sync::mpsc::UnboundedSender, task::AbortHandle};

use crate::{
    commands::state::KnownTunnel,
    net::{Device, Echo, WireGuard},
    plan::health::{self, DeviceState, Machine, Means, ProbeSpec, Sample, Verdict},
    sys::now_ns,
};

/// After an error of a socket: it is not asked again at once.
const AFTER_ERROR: Duration = Duration::from_millis(20);
/// So many times in a row it cannot be opened until that is worth a word: an address may take a moment.
const FAILURES: u32 = 3;
/// Hops of a packet that only has to reach the far end.
const KNOCK_HOPS: u8 = 1;

/// An answer that a socket got.
pub(super) struct Heard {
    pub(super) tunnel: TunnelId,
    pub(super) number: u64,
    pub(super) at_ns: u64,
}

/// Where probes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Route {
    source: IpAddr,
    target: IpAddr,
    hops: Option<u8>,
}

/// An open socket, and the task that listens to it.
struct Open {
    route: Route,
    echo: Arc<Echo>,
    listener: AbortHandle,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// A tunnel that is watched.
pub(super) struct Watched {
    pub(super) id: TunnelId,
    pub(super) name: String,
    /// The device that it is about; 0 when there is none.
    pub(super) ifindex: u32,
    pub(super) machine: Machine,
    spec: ProbeSpec,
    device: Option<Device>,
    open: Option<Open>,
    /// The target that was complained about.
    refused: Option<IpAddr>,
    /// How often in a row the socket could not be opened.
    failures: u32,
    /// Whether WireGuard is being asked.
    pub(super) is_sampled: bool,
}

impl Watched {
    /// Goes on from what is in the maps.
    pub(super) fn new(known: &KnownTunnel, told: &TunnelHealth, spec: &ProbeSpec) -> Self {
        let verdict = Verdict {
            health: known.state.health,
            reason: told.reason,
            since_ns: told.since_ns,
        };
        let mut machine = Machine::new(spec.clone(), verdict, now_ns());
        if told.answered_by != [0; 16] {
            machine.recall(IpAddr::from(told.answered_by).to_canonical());
        }
        Self {
            id: known.id,
            name: known.name.clone(),
            ifindex: 0,
            machine,
            spec: spec.clone(),
            device: None,
            open: None,
            refused: None,
            failures: 0,
            is_sampled: false,
        }
    }

    /// Brings it up to date with its device and with what is wanted of it.
    pub(super) fn follow(&mut self, device: Option<&Device>, spec: &ProbeSpec) {
        if self.spec != *spec {
            self.spec.clone_from(spec);
            self.machine.set_spec(spec);
        }
        let ifindex = device.map_or(0, |device| device.ifindex);
        if self.ifindex != ifindex {
            self.ifindex = ifindex;
            self.open = None;
            // Another one of the same name is a device that was gone.
            self.machine.set_device(DeviceState::Gone);
        }
        self.device = device.cloned();
        let Some(device) = device else {
            self.machine.set_device(DeviceState::Gone);
            return;
        };
        if !device.up {
            self.open = None;
            self.machine.set_device(DeviceState::Down);
            return;
        }
        let means = self.means(device);
        self.machine.set_device(DeviceState::Up);
        self.machine.set_means(means);
    }

    fn means(&mut self, device: &Device) -> Means {
        let target = match health::means(device, &self.spec) {
            Ok(means) => {
                self.refused = None;
                return means;
            }
            Err(target) => target,
        };
        if self.refused.replace(target) != Some(target) {
            let family = if target.is_ipv4() { "IPv4" } else { "IPv6" };
            log::warn!(
                "tunnel {}: it has no {family} address from which {target} could be probed",
                self.name
            );
        }
        match device.wireguard {
            Some(_) => Means::WireGuard,
            None => Means::Device,
        }
    }

    /// Opens, or closes, the socket for the probes that the machine wants now.
    pub(super) fn arrange(&mut self, answers: &UnboundedSender<Heard>) {
        let route = self.route();
        if self.open.as_ref().map(|open| open.route) == route {
            return;
        }
        self.open = None;
        let Some(route) = route else { return };
        let Route {
            source,
            target,
            hops,
        } = route;
        // Of a kind that nobody can guess.
        let token = RandomState::new().build_hasher().finish();
        match Echo::open(&self.name, source, target, hops, token) {
            Ok(echo) => {
                let echo = Arc::new(echo);
                let listener = tokio::spawn(listen(Arc::clone(&echo), self.id, answers.clone()));
                self.open = Some(Open {
                    route,
                    echo,
                    listener: listener.abort_handle(),
                });
                self.failures = 0;
                log::debug!("tunnel {}: probing {target} from {source}", self.name);
            }
            // It is tried again; until then nothing is asked, and nothing held against the tunnel.
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                let level = if self.failures == FAILURES {
                    log::Level::Warn
                } else {
                    log::Level::Debug
                };
                let name = &self.name;
                log::log!(level, "tunnel {name}: {target} cannot be probed: {error}");
            }
        }
    }

    /// Where probes should go now.
    fn route(&self) -> Option<Route> {
        self.machine.probe_interval()?;
        let device = self.device.as_ref()?;
        let (target, hops) = match self.machine.means()? {
            Means::Echo(target) => (target, None),
            Means::WireGuard => (health::door(device)?, Some(KNOCK_HOPS)),
            Means::Device => return None,
        };
        Some(Route {
            source: health::source(device, target)?,
            target,
            hops,
        })
    }

    /// Sends a probe, if there is a socket; one that cannot be sent is one that is not answered.
    pub(super) fn probe(&mut self) {
        let Some(open) = &self.open else { return };
        let number = self.machine.probe(now_ns());
        if let Err(error) = open.echo.send(number) {
            log::debug!("tunnel {}: probe: {error}", self.name);
        }
    }

    /// Takes in the answers that nobody has heard yet.
    pub(super) fn hear(&mut self) {
        let Some(open) = &self.open else { return };
        while let Some(number) = open.echo.waiting_answer() {
            self.machine.answered(number, now_ns());
        }
    }

    /// The device to ask WireGuard about, if that is wanted now.
    pub(super) fn to_sample(&self) -> Option<&Device> {
        let device = self.device.as_ref().filter(|device| device.up)?;
        let is_wanted = self.machine.wants_samples() && !self.is_sampled;
        (is_wanted && device.wireguard.is_some()).then_some(device)
    }

    /// What WireGuard told.
    pub(super) fn sampled(&mut self, at_ns: u64, wireguard: &WireGuard) {
        let peer = match self.machine.means() {
            Some(Means::Echo(target)) => wireguard.peer_of(target),
            _ => None,
        };
        let sample = match peer {
            Some(peer) => Sample {
                rx_bytes: peer.rx_bytes,
                tx_bytes: peer.tx_bytes,
                latest_handshake: peer.latest_handshake,
            },
            None => Sample {
                rx_bytes: wireguard.peers.iter().map(|peer| peer.rx_bytes).sum(),
                tx_bytes: wireguard.peers.iter().map(|peer| peer.tx_bytes).sum(),
                latest_handshake: wireguard.latest_handshake(),
            },
        };
        self.machine.sampled(at_ns, sample);
    }

    /// Its health in the packet path's word.
    pub(super) fn health(&self) -> Health {
        self.machine.verdict().health
    }
}

/// Passes on every answer of a socket.
async fn listen(echo: Arc<Echo>, tunnel: TunnelId, answers: UnboundedSender<Heard>) {
    loop {
        match echo.answer().await {
            Ok(number) => {
                let at_ns = now_ns();
                let heard = Heard {
                    tunnel,
                    number,
                    at_ns,
                };
                if answers.send(heard).is_err() {
                    return;
                }
            }
            Err(_) => tokio::time::sleep(AFTER_ERROR).await,
        }
    }
}
