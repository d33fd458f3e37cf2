//! Anything, in any order, at any time: the machine still says nothing without evidence.

use proptest::prelude::*;

use super::*;
use crate::plan::health::flight::MEMORY_NS;

/// Something that happens.
#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Probe,
    /// To the probe so many back.
    Answer(usize),
    /// Bytes in and out since the last one, and whether there was a handshake.
    Sample(u64, u64, bool),
    Device(DeviceState),
    Means(Means),
}

fn step() -> impl Strategy<Value = Step> {
    let device = prop_oneof![
        4 => Just(DeviceState::Up),
        1 => Just(DeviceState::Down),
        1 => Just(DeviceState::Gone),
    ];
    let other = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 9));
    let means = prop_oneof![
        6 => Just(Means::Echo(TARGET)),
        1 => Just(Means::Echo(other)),
        1 => Just(Means::WireGuard),
        1 => Just(Means::Device),
    ];
    prop_oneof![
        // Mostly a tick, sometimes none, sometimes a jump.
        30 => (0..400_u64).prop_map(Step::Pass),
        5 => Just(Step::Pass(0)),
        1 => (0..100_000_u64).prop_map(Step::Pass),
        30 => Just(Step::Probe),
        20 => (0..6_usize).prop_map(Step::Answer),
        12 => (0..2_u64, 0..3_u64, any::<bool>()).prop_map(|(rx, tx, keys)| Step::Sample(rx, tx, keys)),
        1 => device.prop_map(Step::Device),
        1 => means.prop_map(Step::Means),
    ]
}

/// What happened, kept apart from the machine.
#[derive(Default)]
struct Witness {
    now_ns: u64,
    /// Number, time and whether it was answered, since the last interruption.
    probes: Vec<(u64, u64, bool)>,
    /// When an answer came last, or asking began anew.
    answered_ns: u64,
    /// When the last new handshake was seen.
    shook_ns: u64,
    /// Whether the next sample has one to be compared with.
    is_sampled: bool,
    /// Targets that answered.
    talkative: Vec<IpAddr>,
    /// Answers within the least patience since the tunnel went down.
    quick_answers: u32,
    wireguard: Sample,
    /// Time of the last sample, of the last change of bytes in, and of the first bytes out after it.
    sampled_ns: u64,
    unanswered_ns: Option<u64>,
    heard_ns: Option<u64>,
}

impl Witness {
    /// What must be true when the machine says that a tunnel has gone down.
    fn check_down(
        &self,
        spec: &ProbeSpec,
        device: DeviceState,
        means: Means,
        reason: HealthReason,
    ) {
        match reason {
            HealthReason::DeviceGone => assert_eq!(device, DeviceState::Gone),
            HealthReason::DeviceDown => assert_eq!(device, DeviceState::Down),
            HealthReason::NotAnswering => {
                let Means::Echo(target) = means else {
                    panic!("nobody was asked")
                };
                assert!(self.talkative.contains(&target), "it never answered");
                let least_ns = nanos(spec.interval) * 3 / 4;
                let is_missed =
                    |probe: &&(u64, u64, bool)| !probe.2 && self.now_ns - probe.1 >= least_ns;
                let missed = self.probes.iter().filter(is_missed).count();
                assert!(missed >= spec.misses as usize, "{missed} missed");
            }
            HealthReason::NoReplies => {
                if let Means::Echo(target) = means {
                    assert!(!self.talkative.contains(&target), "it answers");
                }
                let since_ns = self.unanswered_ns.expect("bytes went out and none came in");
                assert!(self.sampled_ns - since_ns >= 6 * SEC);
            }
            other => panic!("{other:?} is no reason to go down"),
        }
        assert_eq!(
            device == DeviceState::Up,
            !matches!(reason, HealthReason::DeviceGone | HealthReason::DeviceDown)
        );
    }
}

/// Runs the steps, and holds what the machine says against what happened.
fn replay(steps: &[Step]) -> Result<(), TestCaseError> {
    let spec = ProbeSpec::default();
    let mut machine = Machine::new(spec.clone(), FRESH, 0);
    machine.set_means(Means::Echo(TARGET));
    let mut witness = Witness::default();
    let (mut device, mut means) = (DeviceState::Up, Means::Echo(TARGET));
    let mut judged_ns = 0;
    // Since the tunnel went down.
    let mut is_interrupted = false;
    for step in steps {
        match *step {
            Step::Pass(ms) => witness.now_ns += ms * MS,
            Step::Probe => {
                let number = machine.probe(witness.now_ns);
                witness.probes.push((number, witness.now_ns, false));
            }
            Step::Answer(back) => {
                let at = witness.probes.len().checked_sub(back + 1);
                if let Some((number, sent_ns, is_answered)) = at.map(|at| &mut witness.probes[at]) {
                    machine.answered(*number, witness.now_ns);
                    let age_ns = witness.now_ns - *sent_ns;
                    let is_quick = age_ns <= 3 * SEC && !*is_answered;
                    witness.quick_answers += u32::from(is_quick);
                    let is_known = age_ns <= MEMORY_NS;
                    *is_answered |= is_known;
                    if is_known {
                        witness.answered_ns = witness.now_ns;
                    }
                    if let Means::Echo(target) = means
                        && is_known
                    {
                        witness.talkative.push(target);
                    }
                }
            }
            Step::Sample(rx, tx, keys) => {
                let gap = witness.now_ns - witness.sampled_ns > 5 * SEC;
                witness.sampled_ns = witness.now_ns;
                witness.wireguard.rx_bytes += rx;
                witness.wireguard.tx_bytes += tx;
                if keys && witness.is_sampled {
                    witness.shook_ns = witness.now_ns;
                }
                witness.is_sampled = true;
                if keys {
                    witness.wireguard.latest_handshake =
                        Some(Duration::from_nanos(witness.now_ns + 1));
                }
                machine.sampled(witness.now_ns, witness.wireguard);
                if rx > 0 {
                    witness.heard_ns = Some(witness.now_ns);
                }
                if rx > 0 || gap {
                    witness.unanswered_ns = None;
                } else if tx > 0 {
                    witness.unanswered_ns = witness.unanswered_ns.or(Some(witness.now_ns));
                }
            }
            Step::Device(state) => {
                if device != state {
                    (witness.probes, witness.unanswered_ns) = (Vec::new(), None);
                    witness.is_sampled = false;
                    is_interrupted = true;
                }
                device = state;
                machine.set_device(state);
            }
            Step::Means(now) => {
                if means != now {
                    witness.probes.clear();
                    is_interrupted = true;
                }
                means = now;
                machine.set_means(now);
            }
        }
        // What flew while nobody looked is not judged, unless it was already.
        if witness.now_ns - judged_ns > 500 * MS {
            witness
                .probes
                .retain(|probe| probe.2 || judged_ns >= probe.1 + 150 * MS);
        }
        judged_ns = witness.now_ns;
        let before = machine.verdict();
        let changed = machine.judge(witness.now_ns);
        let after = machine.verdict();
        prop_assert_eq!(
            changed.is_some(),
            (before.health, before.reason) != (after.health, after.reason)
        );
        prop_assert!(after.since_ns <= witness.now_ns);
        prop_assert_eq!(machine.judge(witness.now_ns), None, "time stands still");
        // The device's state is never contradicted.
        prop_assert!(device == DeviceState::Up || after.health == Health::Down);
        if means == Means::Device && device == DeviceState::Up {
            prop_assert_eq!(after.health, Health::Up);
        }
        if before.health != Health::Down && after.health == Health::Down {
            witness.check_down(&spec, device, means, after.reason);
            witness.quick_answers = 0;
            is_interrupted = false;
        }
        if after.reason == HealthReason::Flapping {
            prop_assert_eq!(after.health, Health::Down);
            prop_assert!(
                witness.now_ns - after.since_ns < 60 * SEC,
                "longer than a minute"
            );
        }
        // Back only after what it went down for is over.
        let is_probed = before.reason == HealthReason::NotAnswering && !is_interrupted;
        if before.health == Health::Down && after.health != Health::Down {
            let silent_ns = before.since_ns.max(witness.answered_ns);
            let is_mute = witness.now_ns - silent_ns >= 60 * SEC && witness.shook_ns > silent_ns;
            prop_assert!(!is_probed || is_mute || witness.quick_answers >= spec.up_after);
            if after.reason == HealthReason::NoAnswerYet {
                // It is one that does not answer any more.
                witness.talkative.clear();
            }
        }
        let is_silent = before.reason == HealthReason::NoReplies && !is_interrupted;
        if is_silent && before.health == Health::Down && after.health != Health::Down {
            let has_life =
                witness.heard_ns > Some(before.since_ns) || witness.quick_answers >= spec.up_after;
            prop_assert!(has_life);
        }
        let figures = machine.figures();
        prop_assert!(figures.loss_ppm <= 1_000_000);
    }
    Ok(())
}

/// When it is used again, it is known once more how fast its answers are, and probes fly that left while more
/// patience was had.
const SHORT_PATIENCE: &[Step] = &[
    Step::Probe,
    Step::Probe,
    Step::Probe,
    Step::Probe,
    Step::Answer(1),
    Step::Answer(0),
    Step::Probe,
    Step::Answer(0),
    Step::Probe,
    Step::Probe,
    Step::Answer(0),
    Step::Probe,
    Step::Probe,
    Step::Probe,
    Step::Probe,
    Step::Probe,
    Step::Probe,
    Step::Probe,
    Step::Probe,
    Step::Probe,
    Step::Probe,
    Step::Probe,
    Step::Probe,
    Step::Probe,
    Step::Probe,
    Step::Probe,
    Step::Probe,
    Step::Answer(0),
    Step::Answer(1),
    Step::Probe,
    Step::Probe,
    Step::Pass(200),
    Step::Pass(244),
    Step::Pass(331),
    Step::Answer(0),
    Step::Pass(317),
    Step::Probe,
    Step::Probe,
    Step::Probe,
    Step::Probe,
    Step::Probe,
    Step::Probe,
    Step::Probe,
    Step::Probe,
    Step::Probe,
    Step::Answer(2),
    Step::Probe,
    Step::Probe,
    Step::Probe,
    Step::Pass(85),
    Step::Pass(358),
    Step::Probe,
    Step::Pass(320),
    Step::Probe,
    Step::Answer(0),
    Step::Probe,
    Step::Probe,
    Step::Probe,
    Step::Probe,
    Step::Probe,
    Step::Probe,
    Step::Answer(0),
    Step::Probe,
    Step::Answer(2),
];

/// Cases that were found, one by one.
#[test]
fn rows() {
    use Step::{Answer, Pass, Probe};
    let rows: [&[Step]; 2] = [
        // An answer that comes after ten seconds is to no probe that anybody remembers: it takes nothing back.
        &[
            Probe,
            Answer(0),
            Probe,
            Pass(150),
            Pass(9_851),
            Probe,
            Probe,
            Answer(2),
            Pass(150),
        ],
        SHORT_PATIENCE,
    ];
    for steps in rows {
        replay(steps).unwrap_or_else(|error| panic!("{steps:?}: {error}"));
    }
}

proptest! {
    #[test]
    fn nothing_is_said_without_evidence(steps in prop::collection::vec(step(), 1..400)) {
        replay(&steps)?;
    }
}
