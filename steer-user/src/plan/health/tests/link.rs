//! Tunnels that do what tunnels do: they delay, lose, die and come back.

use proptest::prelude::*;

use super::*;

/// A tunnel and its machine, stepped by hand.
#[expect(
    clippy::struct_excessive_bools,
    reason = "what may happen to a link, each by itself"
)]
struct Link {
    machine: Machine,
    now_ns: u64,
    interval: Duration,
    next_probe_ns: u64,
    next_sample_ns: u64,
    /// Answers under way, with the time at which they come.
    answers: Vec<(u64, u64)>,
    rtt_ns: u64,
    is_cut: bool,
    /// Whether the far end answers probes at all.
    is_talkative: bool,
    /// The least time between two answers, as a firewall at the far end may want it.
    limit: Duration,
    limited_until_ns: u64,
    /// Of a thousand packets so many are lost.
    loss: u64,
    dice: u64,
    /// What is sent waits somewhere, and comes later all at once.
    is_held: bool,
    /// Nobody looks: neither probes nor answers, but answers wait.
    is_stopped: bool,
    wireguard: Sample,
    /// What changed, and when.
    log: Vec<(u64, Health, HealthReason)>,
}

impl Link {
    fn new(spec: &ProbeSpec, rtt_ms: u64) -> Self {
        Self::known(spec, rtt_ms, FRESH)
    }

    fn known(spec: &ProbeSpec, rtt_ms: u64, known: Verdict) -> Self {
        let mut machine = Machine::new(spec.clone(), known, 0);
        machine.set_device(DeviceState::Up);
        machine.set_means(Means::Echo(TARGET));
        Self {
            machine,
            now_ns: 0,
            interval: spec.interval,
            next_probe_ns: 0,
            next_sample_ns: 0,
            answers: Vec::new(),
            rtt_ns: rtt_ms * MS,
            is_cut: false,
            is_talkative: true,
            limit: Duration::ZERO,
            limited_until_ns: 0,
            loss: 0,
            dice: 0x9e37_79b9_7f4a_7c15,
            is_held: false,
            is_stopped: false,
            wireguard: Sample {
                latest_handshake: Some(Duration::from_secs(1)),
                ..Sample::default()
            },
            log: Vec::new(),
        }
    }

    /// Lets time pass, a millisecond at a time.
    fn run(&mut self, time: Duration) -> &mut Self {
        let end_ns = self.now_ns + nanos(time);
        while self.now_ns < end_ns {
            self.now_ns += MS;
            if self.is_stopped {
                continue;
            }
            let due: Vec<_> = self
                .answers
                .extract_if(.., |(at_ns, _)| *at_ns <= self.now_ns && !self.is_held)
                .collect();
            for (_, number) in due {
                if !self.is_cut {
                    self.machine.answered(number, self.now_ns);
                }
            }
            if self.now_ns >= self.next_probe_ns {
                self.next_probe_ns = self.now_ns + nanos(self.interval);
                let number = self.machine.probe(self.now_ns);
                self.wireguard.tx_bytes += 100;
                let is_lost = self.throw() < self.loss;
                let is_allowed = self.now_ns >= self.limited_until_ns;
                if !self.is_cut && !is_lost && self.is_talkative && is_allowed {
                    self.limited_until_ns = self.now_ns + nanos(self.limit);
                    self.answers.push((self.now_ns + self.rtt_ns, number));
                    self.wireguard.rx_bytes += 100;
                }
            }
            if self.now_ns >= self.next_sample_ns {
                self.next_sample_ns = self.now_ns + SEC;
                // The far end's empty packets.
                if !self.is_cut && self.now_ns % (10 * SEC) < SEC {
                    self.wireguard.rx_bytes += 32;
                    // New keys, as often as WireGuard wants them.
                    let epoch = self.now_ns / (120 * SEC);
                    self.wireguard.latest_handshake = Some(Duration::from_secs(1 + epoch));
                }
                self.machine.sampled(self.now_ns, self.wireguard);
            }
            let changed = self.machine.judge(self.now_ns);
            let entry = |t: Transition| (self.now_ns, t.after.health, t.after.reason);
            self.log.extend(changed.map(entry));
        }
        self
    }

    /// One of a thousand numbers, the same ones each time (xorshift).
    fn throw(&mut self) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice % 1_000
    }

    fn downs(&self) -> usize {
        self.log
            .iter()
            .filter(|entry| entry.1 == Health::Down)
            .count()
    }

    fn cut(&mut self) -> u64 {
        self.is_cut = true;
        self.answers.clear();
        self.now_ns
    }

    fn restore(&mut self) -> u64 {
        self.is_cut = false;
        self.now_ns
    }

    /// When it got this health after that moment.
    fn since(&self, health: Health, after_ns: u64) -> Option<u64> {
        let mut log = self.log.iter();
        let found = log.find(|(at_ns, to, _)| *at_ns > after_ns && *to == health)?;
        Some(found.0 - after_ns)
    }

    fn now(&self) -> (Health, HealthReason) {
        let verdict = self.machine.verdict();
        (verdict.health, verdict.reason)
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_silent_death_and_the_return() {
    let spec = ProbeSpec::default();
    // At every moment between two probes.
    for offset in (0..200).step_by(7) {
        let mut link = Link::new(&spec, 2);
        link.run(10 * SECOND + Duration::from_millis(offset));
        assert_eq!(link.now(), (Health::Up, HealthReason::Answering));
        let cut_ns = link.cut();
        link.run(3 * SECOND);
        let detected = link.since(Health::Down, cut_ns).expect("down");
        assert!(detected < 800 * MS, "after {} ms", detected / MS);
        assert!(detected > 400 * MS, "after {} ms", detected / MS);
        assert_eq!(link.now(), (Health::Down, HealthReason::NotAnswering));
        let back_ns = link.restore();
        link.run(3 * SECOND);
        let recovered = link.since(Health::Up, back_ns).expect("up");
        assert!(recovered <= 605 * MS, "after {} ms", recovered / MS);
    }
}

#[test]
fn a_far_end_that_never_answers() {
    let spec = ProbeSpec::default();
    let mut link = Link::new(&spec, 2);
    link.is_talkative = false;
    link.run(120 * SECOND);
    // It lives, by WireGuard's word.
    assert_eq!(link.now(), (Health::Unknown, HealthReason::NoAnswerYet));
    assert_eq!(link.log.len(), 1);
    let cut_ns = link.cut();
    link.run(60 * SECOND);
    assert_eq!(link.now(), (Health::Down, HealthReason::NoReplies));
    let detected = link.since(Health::Down, cut_ns).expect("down");
    assert!(detected <= 36 * SEC, "after {} ms", detected / MS);
    let back_ns = link.restore();
    link.run(60 * SECOND);
    let used = link.since(Health::Unknown, back_ns).expect("used");
    assert!(used <= 11 * SEC, "after {} ms", used / MS);
    // It learns to talk.
    link.is_talkative = true;
    link.run(SECOND);
    assert_eq!(link.now(), (Health::Up, HealthReason::Answering));
}

#[test]
fn dead_from_the_start() {
    let mut link = Link::new(&ProbeSpec::default(), 2);
    link.cut();
    link.wireguard.latest_handshake = None;
    link.run(10 * SECOND);
    assert_eq!(link.now(), (Health::Down, HealthReason::NoReplies));
    let detected = link.since(Health::Down, 0).expect("down");
    assert!(detected <= 9 * SEC, "after {} ms", detected / MS);
}

#[test]
fn a_restart_keeps_what_was_down() {
    let spec = ProbeSpec::default();
    let mut link = Link::known(&spec, 2, down(HealthReason::NotAnswering));
    link.is_talkative = false;
    link.run(60 * SECOND);
    // That WireGuard hears something is not enough: it may be one way only.
    assert_eq!(link.now(), (Health::Down, HealthReason::NotAnswering));
    let back_ns = link.now_ns;
    link.is_talkative = true;
    link.run(SECOND);
    assert!(link.since(Health::Up, back_ns) <= Some(605 * MS));

    let mut off = Machine::new(ProbeSpec::off(), down(HealthReason::NotAnswering), 0);
    off.set_means(Means::Device);
    assert!(off.judge(MS).is_some());
    assert_eq!(off.verdict().health, Health::Up);
}

#[test]
fn a_restart_remembers_who_answered() {
    let spec = ProbeSpec::default();
    let mut link = Link::new(&spec, 2);
    link.run(Duration::from_millis(100));
    assert_eq!(
        link.machine.figures().answered_by,
        [0; 16],
        "once is not enough"
    );
    link.run(10 * SECOND);
    let told = link.machine.figures().answered_by;
    assert_eq!(told, address_bytes(TARGET));

    let known = link.machine.verdict();
    let mut after = Link::known(&spec, 2, known);
    after.machine.recall(TARGET);
    after.is_cut = true;
    after.run(10 * SECOND);
    assert_eq!(after.now(), (Health::Down, HealthReason::NotAnswering));
    let down = after.since(Health::Down, 0).expect("down");
    assert!(down <= 4 * SEC, "after {} ms", down / MS);

    // The silence of another one means nothing yet.
    let mut other = Link::known(&spec, 2, known);
    other.machine.recall(OTHER);
    other.is_talkative = false;
    other.run(10 * SECOND);
    assert_eq!(other.now(), (Health::Unknown, HealthReason::NoAnswerYet));
}

#[test]
fn another_target_is_no_sign_of_life() {
    let mut link = Link::new(&ProbeSpec::default(), 2);
    link.run(5 * SECOND);
    link.is_cut = true;
    link.run(5 * SECOND);
    assert_eq!(link.now(), (Health::Down, HealthReason::NotAnswering));
    link.machine.set_means(Means::Echo(OTHER));
    link.run(30 * SECOND);
    assert_eq!(link.now(), (Health::Down, HealthReason::NotAnswering));
    link.is_cut = false;
    link.run(5 * SECOND);
    assert_eq!(link.now(), (Health::Up, HealthReason::Answering));
}

#[test]
fn the_device_goes_and_comes_back() {
    let mut link = Link::new(&ProbeSpec::default(), 2);
    link.run(5 * SECOND);
    for (state, reason) in [
        (DeviceState::Gone, HealthReason::DeviceGone),
        (DeviceState::Down, HealthReason::DeviceDown),
    ] {
        link.machine.set_device(state);
        link.run(Duration::from_millis(1));
        assert_eq!(link.now(), (Health::Down, reason));
        link.run(5 * SECOND);
        // Even an answer is none from a device that is not there.
        assert_eq!(link.now(), (Health::Down, reason));
        link.machine.set_device(DeviceState::Up);
        let back_ns = link.now_ns;
        link.run(Duration::from_millis(10));
        assert_eq!(link.now(), (Health::Down, HealthReason::NoAnswerYet));
        link.run(SECOND);
        assert_eq!(link.now(), (Health::Up, HealthReason::Answering));
        let used = link.since(Health::Up, back_ns).expect("up");
        assert!(used <= 605 * MS, "after {} ms", used / MS);
    }
}

#[test]
fn flapping_costs_time() {
    let mut link = Link::new(&ProbeSpec::default(), 2);
    link.run(5 * SECOND);
    let mut waits = Vec::new();
    for _ in 0..6 {
        link.cut();
        link.run(2 * SECOND);
        let back_ns = link.restore();
        link.run(70 * SECOND);
        waits.push(link.since(Health::Up, back_ns).expect("up") / SEC);
    }
    // Once in 72 s: it fades almost as fast as it grows.
    assert!(waits.iter().all(|wait| *wait <= 2), "{waits:?}");
    waits.clear();
    for _ in 0..6 {
        link.cut();
        link.run(2 * SECOND);
        let back_ns = link.restore();
        while link.now().0 != Health::Up {
            link.run(Duration::from_millis(100));
        }
        waits.push((link.now_ns - back_ns) / SEC);
    }
    assert!(waits.last() >= Some(&8), "{waits:?}");
    let flapping = |entry: &&(u64, Health, HealthReason)| entry.2 == HealthReason::Flapping;
    assert!(link.log.iter().any(|entry| flapping(&entry)));
}

#[test]
fn loss_and_slowness() {
    let mut link = Link::new(&ProbeSpec::default(), 10);
    link.run(20 * SECOND);
    // One in ten probes.
    for _ in 0..30 {
        link.run(Duration::from_millis(1_800));
        let restored = link.answers.len();
        link.is_talkative = false;
        link.run(Duration::from_millis(200));
        link.is_talkative = true;
        assert!(restored <= 1);
    }
    assert_eq!(link.now(), (Health::Degraded, HealthReason::Lossy));
    let loss = link.machine.figures().loss_ppm;
    assert!((80_000..=120_000).contains(&loss), "{loss}");
    link.run(30 * SECOND);
    assert_eq!(link.now(), (Health::Up, HealthReason::Answering));

    link.rtt_ns = 120 * MS;
    link.run(10 * SECOND);
    assert_eq!(link.now(), (Health::Degraded, HealthReason::Slow));
    let figures = link.machine.figures();
    assert!((110_000..=120_000).contains(&figures.rtt_us), "{figures:?}");
    link.rtt_ns = 10 * MS;
    link.run(10 * SECOND);
    assert_eq!(link.now(), (Health::Up, HealthReason::Answering));
    assert_eq!(link.downs(), 0);
}

/// A cable is out, and packets wait for its return: that is not how slow the tunnel is.
#[test]
fn packets_that_waited() {
    let mut link = Link::new(&ProbeSpec::default(), 2);
    link.run(10 * SECOND);
    link.is_held = true;
    link.run(3 * SECOND);
    assert_eq!(link.now(), (Health::Down, HealthReason::NotAnswering));
    link.is_held = false;
    let back_ns = link.now_ns;
    link.run(SECOND);
    assert_eq!(link.now(), (Health::Up, HealthReason::Answering));
    assert!(link.since(Health::Up, back_ns) <= Some(805 * MS));
    // A tunnel that is slow from now on is; that it takes 2 s is learned from answers that come too late.
    link.rtt_ns = 2 * SEC;
    link.run(30 * SECOND);
    assert_eq!(link.now(), (Health::Degraded, HealthReason::Slow));
}

/// Loss alone does not make a tunnel flap, and a death is told from it all the same.
#[test]
fn lossy_tunnels() {
    for (loss, most_ms) in [(10, 1_200), (50, 1_500), (100, 1_800), (200, 2_600)] {
        let mut link = Link::new(&ProbeSpec::default(), 20);
        link.run(10 * SECOND);
        link.loss = loss;
        link.run(20 * SECOND);
        let before = link.downs();
        link.run(900 * SECOND);
        assert_eq!(link.downs(), before, "{loss} ‰: {:?}", link.log);
        let cut_ns = link.cut();
        link.run(10 * SECOND);
        let detected = link.since(Health::Down, cut_ns).expect("down") / MS;
        assert!(detected <= most_ms, "{loss} ‰: after {detected} ms");
        // What was known of its loss is known again.
        link.restore();
        link.run(20 * SECOND);
        let before = link.downs();
        link.run(600 * SECOND);
        assert_eq!(link.downs(), before, "{loss} ‰: {:?}", link.log);
        println!("{loss} ‰ of loss: down {detected} ms after the cut");
    }
}

/// A firewall at the far end that lets one probe in a second through, after some at once or none.
#[test]
fn a_far_end_that_answers_some() {
    for at_once in [0, 5] {
        let mut link = Link::new(&ProbeSpec::default(), 20);
        link.run(Duration::from_millis(200 * at_once));
        link.limit = SECOND;
        link.run(60 * SECOND);
        // Never, or once, until it is known.
        assert!(link.downs() <= usize::from(at_once > 3), "{:?}", link.log);
        assert_eq!(link.now(), (Health::Degraded, HealthReason::Lossy));
        let known = link.log.len();
        link.run(300 * SECOND);
        assert_eq!(link.log.len(), known, "{:?}", link.log);
        let cut_ns = link.cut();
        link.run(10 * SECOND);
        let detected = link.since(Health::Down, cut_ns).expect("down");
        assert!(detected <= 3 * SEC, "after {} ms", detected / MS);
        let back_ns = link.restore();
        link.run(60 * SECOND);
        let used = link.since(Health::Degraded, back_ns).expect("used");
        assert!(used <= 25 * SEC, "after {} ms", used / MS);
    }
}

/// A far end that answered, and that from now on drops probes and nothing else.
#[test]
fn a_far_end_that_stops_to_answer() {
    let mut link = Link::new(&ProbeSpec::default(), 20);
    link.run(10 * SECOND);
    link.is_talkative = false;
    link.run(10 * SECOND);
    assert_eq!(link.now(), (Health::Down, HealthReason::NotAnswering));
    // Until the next handshake: packets go both ways.
    link.run(180 * SECOND);
    assert_eq!(link.now(), (Health::Unknown, HealthReason::NoAnswerYet));
    link.run(600 * SECOND);
    assert_eq!(link.now(), (Health::Unknown, HealthReason::NoAnswerYet));
    assert_eq!(link.downs(), 1);
    link.is_talkative = true;
    link.run(SECOND);
    assert_eq!(link.now(), (Health::Up, HealthReason::Answering));
}

/// The daemon is stopped, or waits for the processor: nothing is known of that time.
#[test]
fn nobody_looked() {
    for stopped_ms in [450, 600, 1_000, 5_000, 60_000] {
        let mut link = Link::new(&ProbeSpec::default(), 100);
        link.run(10 * SECOND + Duration::from_millis(50));
        let before = link.machine.figures();
        link.is_stopped = true;
        link.run(Duration::from_millis(stopped_ms));
        link.is_stopped = false;
        link.run(5 * SECOND);
        assert_eq!(link.downs(), 0, "{stopped_ms} ms");
        // What was heard too late was not measured.
        let after = link.machine.figures();
        assert!(
            after.rtt_us < before.rtt_us + 50_000,
            "{stopped_ms} ms: {after:?}"
        );
    }
    // It died meanwhile.
    let mut link = Link::new(&ProbeSpec::default(), 2);
    link.run(10 * SECOND);
    link.is_stopped = true;
    link.cut();
    link.run(5 * SECOND);
    link.is_stopped = false;
    let looked_ns = link.now_ns;
    link.run(5 * SECOND);
    let detected = link.since(Health::Down, looked_ns).expect("down");
    assert!(detected <= 800 * MS, "after {} ms", detected / MS);
}

/// A clock that stands still, and one that goes back: neither is held against a tunnel.
#[test]
fn bad_clocks() {
    let mut link = Link::new(&ProbeSpec::default(), 2);
    link.run(10 * SECOND);
    let (machine, now_ns) = (&mut link.machine, link.now_ns);
    for back_ns in [0, SEC, now_ns] {
        for _ in 0..2_000 {
            machine.probe(now_ns - back_ns);
            let sample = Sample {
                tx_bytes: 1,
                ..Sample::default()
            };
            machine.sampled(now_ns - back_ns, sample);
            assert_eq!(machine.judge(now_ns - back_ns), None);
        }
    }
    link.answers.clear();
    link.run(SECOND);
    assert_eq!(link.downs(), 0);
}

#[test]
fn only_wireguard_tells() {
    let mut machine = Machine::new(ProbeSpec::default(), FRESH, 0);
    machine.set_means(Means::WireGuard);
    let mut sample = Sample {
        latest_handshake: Some(Duration::from_secs(1)),
        ..Sample::default()
    };
    let (mut now_ns, mut changes) = (0, Vec::new());
    let mut second = |machine: &mut Machine, rx_bytes: u64, tx_bytes: u64| {
        now_ns += SEC;
        sample.rx_bytes += rx_bytes;
        sample.tx_bytes += tx_bytes;
        machine.sampled(now_ns, sample);
        changes.extend(
            machine
                .judge(now_ns)
                .map(|t| (now_ns / SEC, t.after.reason)),
        );
        machine.probe_interval()
    };
    for _ in 0..300 {
        assert_eq!(second(&mut machine, 0, 0), None, "idle is not dead");
    }
    for _ in 0..60 {
        second(&mut machine, 0, 1_000);
    }
    assert_eq!(machine.verdict().health, Health::Down);
    // Nobody else would ever send through it.
    assert_eq!(second(&mut machine, 0, 0), Some(Duration::from_secs(5)));
    assert_eq!(second(&mut machine, 92, 148), None);
    assert_eq!(changes.len(), 2, "{changes:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Down within a bound after the last answer, and up within one after answers are back.
    #[test]
    fn detection_and_recovery_are_bounded(
        rtt_ms in prop_oneof![0..20_u64, 0..1_500_u64],
        interval_ms in 50..1_000_u64,
        misses in 1..6_u32,
        up_after in 1..6_u32,
        offset_ms in 0..1_000_u64,
    ) {
        let spec = ProbeSpec {
            interval: Duration::from_millis(interval_ms),
            misses,
            up_after,
            ..ProbeSpec::default()
        };
        let mut link = Link::new(&spec, rtt_ms);
        link.run(20 * SECOND + Duration::from_millis(offset_ms));
        prop_assert_eq!(link.now().0, Health::Up);
        let settled = link.log.len();
        let cut_ns = link.cut();
        link.run(spec.interval * (misses + 1) + 4 * SECOND);
        let patience_ms = (rtt_ms * 3 / 2).max(interval_ms * 3 / 4) + 50;
        let bound = u64::from(misses) * interval_ms + patience_ms;
        let detected = link.since(Health::Down, cut_ns);
        prop_assert!(detected <= Some(bound * MS) && detected.is_some(), "{detected:?}, not {bound}");
        let back_ns = link.restore();
        link.run(spec.interval * (up_after + 2) + 4 * SECOND);
        let bound = u64::from(up_after) * interval_ms + rtt_ms + 5;
        let recovered = link.since(Health::Up, back_ns);
        prop_assert!(recovered <= Some(bound * MS) && recovered.is_some(), "{recovered:?}, not {bound}");
        prop_assert!(link.log.len() >= settled + 2);
    }

    /// A tunnel that delays and loses, but never as many in a row as make it down, is never down.
    #[test]
    fn never_down_while_it_answers(
        rtts_ms in prop::collection::vec(1..140_u64, 1..8),
        losses in prop::collection::vec(any::<bool>(), 200),
    ) {
        let mut link = Link::new(&ProbeSpec::default(), rtts_ms[0]);
        link.run(10 * SECOND);
        let mut in_a_row = 0;
        for (n, lost) in losses.into_iter().enumerate() {
            in_a_row = if lost && in_a_row < 1 { in_a_row + 1 } else { 0 };
            link.is_talkative = in_a_row == 0;
            link.rtt_ns = rtts_ms[n % rtts_ms.len()] * MS;
            link.run(Duration::from_millis(200));
        }
        prop_assert!(link.log.iter().all(|entry| entry.1 != Health::Down), "{:?}", link.log);
    }
}
