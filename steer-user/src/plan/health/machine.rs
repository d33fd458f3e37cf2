//! The health of one tunnel, from what is known of it.

use std::net::IpAddr;
use std::time::Duration;

use steer_common::abi::{Health, HealthReason, TunnelHealth, address_bytes};

use super::damping::Damping;
use super::estimate::{Estimate, misses_max};
use super::flight::{Answer, Flight};
use super::signals::{Sample, Signals};
use super::{DeviceState, Means, ProbeSpec, Transition, Verdict, nanos};

/// How long nobody may look until what flew meanwhile is not judged, at least.
const STALL: Duration = Duration::from_millis(500);
/// How often a tunnel is knocked at that is down and has nobody to ask.
const KNOCK: Duration = Duration::from_secs(5);
/// How many times as many answers in a row as make a tunnel up again it takes until the silence of its target
/// means something: one that answers now and then, as its own rules allow, is never so far.
const TRUST: u32 = 2;
/// How long a target has to be silent, while WireGuard shakes hands with the far end, until it is one that
/// does not answer probes.
const MUTE: Duration = Duration::from_mins(1);

/// What a tunnel that is down has to show until it is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    /// Nothing but its device.
    Nothing,
    /// Any sign of life.
    Life,
    /// Answers to probes: it did give them.
    Answers,
}

/// The health of one tunnel: a state machine that is told what happens and when, and judges.
///
/// Times are nanoseconds of one clock that does not go back.
#[derive(Clone, Debug)]
pub struct Machine {
    spec: ProbeSpec,
    device: DeviceState,
    means: Option<Means>,
    flight: Flight,
    estimate: Estimate,
    signals: Signals,
    damping: Damping,
    /// The target that has answered, ever.
    answered_by: Option<IpAddr>,
    /// Whether it has answered often enough in a row for its silence to mean something.
    is_trusted: bool,
    /// Since when answers are missing: the last one came then, or somebody began to ask.
    heard_ns: u64,
    /// Answers since the last miss.
    answers: u32,
    /// Misses since the last answer.
    misses: u32,
    /// How many of them are needed, by what was known at the last answer.
    misses_needed: u32,
    proof: Proof,
    verdict: Verdict,
    attended_ns: u64,
    probed_ns: u64,
}

impl Machine {
    /// Goes on from what is known of the tunnel: one that was down because of its far end stays so
    /// until it has shown life.
    pub fn new(spec: ProbeSpec, known: Verdict, now_ns: u64) -> Self {
        let proof = match (known.health, known.reason) {
            (Health::Down, HealthReason::NoReplies) => Proof::Life,
            (
                Health::Down,
                HealthReason::NotAnswering | HealthReason::Flapping | HealthReason::NoAnswerYet,
            ) => Proof::Answers,
            _ => Proof::Nothing,
        };
        Self {
            device: DeviceState::Up,
            means: None,
            flight: Flight::default(),
            estimate: Estimate::default(),
            signals: Signals::default(),
            damping: Damping::default(),
            answered_by: None,
            is_trusted: false,
            heard_ns: now_ns,
            answers: 0,
            misses: 0,
            misses_needed: spec.misses,
            proof,
            verdict: known,
            attended_ns: now_ns,
            probed_ns: 0,
            spec,
        }
    }

    /// Goes on from this address having answered probes: its silence means something from the start.
    pub fn recall(&mut self, answered_by: IpAddr) {
        self.answered_by = Some(answered_by);
    }

    /// What it is now.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// What there is to judge by; `None` until somebody has said.
    pub fn means(&self) -> Option<Means> {
        self.means
    }

    /// Other thresholds hold from now on.
    pub fn set_spec(&mut self, spec: &ProbeSpec) {
        self.spec.clone_from(spec);
        self.misses_needed = spec.misses;
    }

    /// The device is now so.
    pub fn set_device(&mut self, device: DeviceState) {
        if self.device == device {
            return;
        }
        self.device = device;
        self.interrupt();
        self.signals = Signals::default();
        if self.proof == Proof::Life {
            self.proof = Proof::Nothing;
        }
        if self.has_answered() {
            self.proof = Proof::Answers;
        }
    }

    /// There is this to judge by from now on.
    pub fn set_means(&mut self, means: Means) {
        let Some(before) = self.means.replace(means) else {
            if means == Means::WireGuard && self.proof == Proof::Answers {
                self.proof = Proof::Life;
            }
            return;
        };
        if before != means {
            self.interrupt();
            self.estimate = Estimate::default();
            self.proof = match (means, self.proof, self.verdict.reason) {
                // A device that came back was not silent when it was asked in that way.
                (
                    ..,
                    HealthReason::DeviceDown | HealthReason::DeviceGone | HealthReason::NoAnswerYet,
                ) => Proof::Nothing,
                // To be asked in another way is no sign of life.
                (Means::WireGuard, Proof::Answers, _) => Proof::Life,
                (_, proof, _) => proof,
            };
        }
    }

    /// How often a probe is to be sent; `None` when none is.
    pub fn probe_interval(&self) -> Option<Duration> {
        match (self.device, self.means) {
            (DeviceState::Up, Some(Means::Echo(_))) => Some(self.spec.interval),
            // Nobody else would send through it, and WireGuard alone does not try for long.
            (DeviceState::Up, Some(Means::WireGuard)) if self.verdict.health == Health::Down => {
                Some(KNOCK)
            }
            _ => None,
        }
    }

    /// A probe is sent; gives its number.
    pub fn probe(&mut self, now_ns: u64) -> u64 {
        self.attend(now_ns);
        self.probed_ns = now_ns;
        let number = self.flight.send(now_ns);
        if !matches!(self.means, Some(Means::Echo(_))) {
            // WireGuard's counters tell what becomes of a knock.
            self.flight.void();
        }
        number
    }

    /// A probe was answered.
    pub fn answered(&mut self, number: u64, now_ns: u64) {
        self.attend(now_ns);
        let Some(answer) = self.flight.answer(number, now_ns) else {
            return;
        };
        match answer {
            Answer::InTime { rtt_ns } => {
                self.estimate.answered(rtt_ns);
                self.answers = self.answers.saturating_add(1);
            }
            Answer::Late { rtt_ns } => self.estimate.measured(rtt_ns),
            Answer::Untimed => {}
        }
        self.misses = 0;
        if let Some(Means::Echo(target)) = self.means
            && self.answered_by != Some(target)
        {
            self.answered_by = Some(target);
            self.is_trusted = false;
            // Nobody lost what nobody wanted to answer.
            self.estimate.restart();
        }
        self.heard_ns = now_ns;
        self.is_trusted |= self.answers >= self.spec.up_after.saturating_mul(TRUST);
        self.misses_needed = self.estimate.misses(self.spec.misses);
    }

    /// WireGuard told this.
    pub fn sampled(&mut self, now_ns: u64, sample: Sample) {
        self.signals.sample(now_ns, sample);
    }

    /// Whether WireGuard's signals matter now.
    pub fn wants_samples(&self) -> bool {
        match self.means {
            Some(Means::Echo(_)) => !self.has_answered() || self.verdict.health == Health::Down,
            Some(Means::WireGuard) => true,
            _ => false,
        }
    }

    /// When something changes though nothing happens.
    pub fn deadline_ns(&self) -> Option<u64> {
        self.flight.deadline_ns(self.patience_ns())
    }

    /// Judges by what is known at this moment. Has to be called more often than probes are sent.
    pub fn judge(&mut self, now_ns: u64) -> Option<Transition> {
        self.attend(now_ns);
        let missed = self.flight.expire(now_ns, self.patience_ns());
        for _ in 0..missed.all {
            self.estimate.missed();
        }
        if missed.fresh > 0 {
            self.misses = self.misses.saturating_add(missed.fresh);
            self.answers = 0;
        }
        let (health, reason) = self.deserved(now_ns);
        let before = self.verdict;
        if (health, reason) == (before.health, before.reason) {
            return None;
        }
        if health != before.health {
            self.verdict.since_ns = now_ns;
            if health == Health::Down {
                self.goes_down(reason, now_ns);
            }
        }
        (self.verdict.health, self.verdict.reason) = (health, reason);
        Some(Transition {
            before,
            after: self.verdict,
        })
    }

    /// What is told of it.
    pub fn figures(&self) -> TunnelHealth {
        let micros = |time: Option<Duration>| {
            // 0 means that nothing was measured.
            time.map_or(0, |time| {
                u32::try_from(time.as_micros()).unwrap_or(u32::MAX).max(1)
            })
        };
        TunnelHealth {
            since_ns: self.verdict.since_ns,
            probed_ns: self.probed_ns,
            rtt_us: micros(self.estimate.rtt()),
            jitter_us: micros(self.estimate.jitter()),
            loss_ppm: millionths(self.estimate.loss().unwrap_or_default()),
            reason: self.verdict.reason,
            answered_by: self
                .answered_by
                .filter(|_| self.is_trusted)
                .map_or([0; 16], address_bytes),
        }
    }

    /// Whether the target, as it is now, has ever answered.
    fn has_answered(&self) -> bool {
        matches!(self.means, Some(Means::Echo(target)) if self.answered_by == Some(target))
    }

    fn patience_ns(&self) -> u64 {
        nanos(self.estimate.patience(self.spec.interval))
    }

    /// Somebody looks. If nobody did for long, what flew meanwhile is not held against the tunnel, and how
    /// long it flew is not known.
    fn attend(&mut self, now_ns: u64) {
        let stall_ns = nanos(STALL.max(self.spec.interval * 2));
        if now_ns.saturating_sub(self.attended_ns) > stall_ns {
            self.flight.void();
        }
        self.attended_ns = self.attended_ns.max(now_ns);
    }

    /// What was under way leads to nothing any more.
    fn interrupt(&mut self) {
        self.flight.clear();
        self.estimate.restart();
        (self.answers, self.misses) = (0, 0);
        self.heard_ns = self.attended_ns;
    }

    /// What follows from going down.
    fn goes_down(&mut self, reason: HealthReason, now_ns: u64) {
        if reason == HealthReason::NotAnswering {
            self.estimate.put_aside(self.misses);
        }
        self.answers = 0;
        // The device's state is certain; it needs no patience.
        if self.device == DeviceState::Up {
            self.damping.down(now_ns);
            self.proof = match reason {
                HealthReason::NoReplies => Proof::Life,
                _ => Proof::Answers,
            };
        }
    }

    fn deserved(&mut self, now_ns: u64) -> (Health, HealthReason) {
        match self.device {
            DeviceState::Gone => return (Health::Down, HealthReason::DeviceGone),
            DeviceState::Down => return (Health::Down, HealthReason::DeviceDown),
            DeviceState::Up => {}
        }
        let means = match self.means {
            // Nothing is known yet but that the device is up.
            None if self.proof == Proof::Nothing => return (Health::Up, HealthReason::DeviceUp),
            None => return (self.verdict.health, self.verdict.reason),
            Some(Means::Device) => return (Health::Up, HealthReason::DeviceUp),
            Some(means) => means,
        };
        if self.verdict.health == Health::Down && self.proof != Proof::Nothing {
            if !self.is_proven(now_ns) {
                return (Health::Down, self.missing_proof());
            }
            if !self.damping.is_over(now_ns) {
                return (Health::Down, HealthReason::Flapping);
            }
            self.is_used_again(now_ns);
        }
        self.evidence(means)
    }

    /// A tunnel that was down has shown what it had to.
    fn is_used_again(&mut self, now_ns: u64) {
        self.proof = Proof::Nothing;
        self.signals.forgive();
        if self.is_mute(now_ns) {
            self.answered_by = None;
        } else if self.answers >= self.spec.up_after {
            self.estimate.take_back();
            // They left while more patience was had.
            self.flight.void();
        }
        self.misses_needed = self.estimate.misses(self.spec.misses);
    }

    /// What a tunnel in use shows.
    fn evidence(&self, means: Means) -> (Health, HealthReason) {
        let is_echo = matches!(means, Means::Echo(_));
        if self.has_answered() {
            let needed = if self.is_trusted {
                self.misses_needed
            } else {
                misses_max(self.spec.misses)
            };
            if self.misses >= needed {
                return (Health::Down, HealthReason::NotAnswering);
            }
            let already = |reason| self.verdict.reason == reason;
            let (loss, rtt) = (self.spec.degraded_loss, self.spec.degraded_rtt);
            if self.estimate.is_lossy(loss, already(HealthReason::Lossy)) {
                return (Health::Degraded, HealthReason::Lossy);
            }
            if self.estimate.is_slow(rtt, already(HealthReason::Slow)) {
                return (Health::Degraded, HealthReason::Slow);
            }
            return (Health::Up, HealthReason::Answering);
        }
        if self.signals.is_silent() {
            return (Health::Down, HealthReason::NoReplies);
        }
        if is_echo && self.misses >= self.spec.misses {
            return (Health::Unknown, HealthReason::NoAnswerYet);
        }
        match self.verdict {
            // Nothing speaks against what was known of it before.
            Verdict { health, reason, .. } if is_echo && health != Health::Down => (health, reason),
            _ => (Health::Up, HealthReason::DeviceUp),
        }
    }

    fn is_proven(&self, now_ns: u64) -> bool {
        let answers = self.answers >= self.spec.up_after;
        match self.proof {
            Proof::Nothing => true,
            Proof::Answers => answers || self.is_steady() || self.is_mute(now_ns),
            Proof::Life => answers || self.signals.was_heard_after(self.verdict.since_ns),
        }
    }

    /// Whether so few answers come, but steadily, that more will not: the target answers only some.
    fn is_steady(&self) -> bool {
        self.estimate.is_steady(misses_max(self.spec.misses))
    }

    /// Whether no probe at all was answered for long, though packets go both ways: the target has stopped to answer
    /// them. What only answers some, and what loses a lot, is not that.
    fn is_mute(&self, now_ns: u64) -> bool {
        let since_ns = self.verdict.since_ns.max(self.heard_ns);
        self.misses >= self.spec.misses
            && now_ns.saturating_sub(since_ns) >= nanos(MUTE)
            && self.signals.shook_hands_after(since_ns)
    }

    /// Why a tunnel is down that has not shown what it has to.
    fn missing_proof(&self) -> HealthReason {
        match (self.proof, self.verdict.reason) {
            (Proof::Life, _) => HealthReason::NoReplies,
            (
                _,
                HealthReason::DeviceDown | HealthReason::DeviceGone | HealthReason::NoAnswerYet,
            ) => HealthReason::NoAnswerYet,
            _ => HealthReason::NotAnswering,
        }
    }
}

/// A share as the maps have it.
fn millionths(share: f64) -> u32 {
    // A share of at most 1 in whole microseconds of a second, which spares a cast.
    u32::try_from(Duration::from_secs_f64(share.clamp(0.0, 1.0)).as_micros()).unwrap_or(u32::MAX)
}
