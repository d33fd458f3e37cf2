//! By example, and for any measurements: small steps, rest under constant input, and where it leads.

mod closed_loop;

use proptest::prelude::*;

use super::*;

fn tunnel(id: TunnelId, weight: u32, bytes: u64) -> Measured {
    Measured {
        id,
        weight,
        is_used: true,
        bytes,
        rtt_us: Some(10_000),
        loss_ppm: Some(0),
    }
}

/// What each tunnel carries and suffers in every period.
#[derive(Clone, Copy, Debug)]
struct Steady {
    bytes: u64,
    rtt_us: Option<u32>,
    loss_ppm: Option<u32>,
}

const QUIET: Steady = Steady {
    bytes: 1_000,
    rtt_us: Some(10_000),
    loss_ppm: Some(0),
};
const LOSSY: Steady = Steady {
    loss_ppm: Some(50_000),
    ..QUIET
};

/// Runs it with the same input in every period; the weights and reasons after each step.
fn run(weights: &[u32], input: &[Steady], periods: u32) -> Vec<Vec<WeightStep>> {
    let mut auto = AutoWeights::default();
    let mut weights = weights.to_vec();
    (0..periods)
        .map(|period| {
            let measured: Vec<_> = (0..)
                .zip(&weights)
                .zip(input)
                .map(|((id, weight), steady)| Measured {
                    id,
                    weight: *weight,
                    is_used: true,
                    bytes: steady.bytes * u64::from(period),
                    rtt_us: steady.rtt_us,
                    loss_ppm: steady.loss_ppm,
                })
                .collect();
            let steps = auto.step(PERIOD * period, &measured);
            for step in &steps {
                let weight = &mut weights[usize::from(step.id)];
                assert_eq!(step.before, *weight);
                *weight = step.after;
            }
            steps
        })
        .collect()
}

fn after(weights: &[u32], steps: &[Vec<WeightStep>]) -> Vec<u32> {
    let mut weights = weights.to_vec();
    for step in steps.iter().flatten() {
        weights[usize::from(step.id)] = step.after;
    }
    weights
}

#[test]
fn nothing_happens_while_none_is_congested() {
    let uneven = Steady {
        bytes: 100_000,
        ..QUIET
    };
    let unknown = Steady {
        rtt_us: None,
        loss_ppm: None,
        ..QUIET
    };
    assert_eq!(run(&[1_000, 1_000], &[QUIET, uneven], 20).concat(), []);
    assert_eq!(run(&[1_000, 1_000], &[unknown, uneven], 20).concat(), []);
}

#[test]
fn who_loses_gives_to_who_does_not() {
    let steps = run(&[1_000, 1_000], &[LOSSY, QUIET], 2);
    assert_eq!(
        steps[1],
        [
            WeightStep {
                id: 0,
                before: 1_000,
                after: 800,
                why: Why::Loss { ppm: 50_000 }
            },
            WeightStep {
                id: 1,
                before: 1_000,
                after: 1_200,
                why: Why::Room
            },
        ]
    );
    // Its live flows stay, so half of its share of bytes is left to it until they end.
    let steps = run(&[1_000, 1_000], &[LOSSY, QUIET], 40);
    assert_eq!(after(&[1_000, 1_000], &steps), [500, 1_500]);
    let idle = Steady { bytes: 0, ..LOSSY };
    let steps = run(&[1_000, 1_000], &[idle, QUIET], 60);
    assert_eq!(after(&[1_000, 1_000], &steps), [20, 1_980]);
}

#[test]
fn a_queue_is_seen_by_the_round_trip() {
    let mut auto = AutoWeights::default();
    let at = |period: u32, rtt_us| {
        let bytes = u64::from(period) * 1_000;
        let slow = Measured {
            rtt_us: Some(rtt_us),
            ..tunnel(0, 1_000, bytes)
        };
        (PERIOD * period, [slow, tunnel(1, 1_000, bytes)])
    };
    let mut step = |period, rtt_us| {
        let (now, measured) = at(period, rtt_us);
        auto.step(now, &measured).first().map(|step| step.why)
    };
    let slow = |rtt_us| {
        Some(Why::Delay {
            rtt_us,
            least_us: 10_000,
        })
    };
    assert_eq!(step(0, 10_000), None);
    assert_eq!(step(1, 30_000), None);
    assert_eq!(step(2, 30_001), slow(30_001));
    // Once congested, it takes less to stay so.
    assert_eq!(step(3, 20_001), slow(20_001));
    assert_eq!(step(4, 20_000), None);
    assert_eq!(step(5, 30_000), None);
    // The shortest is forgotten: the way became a longer one.
    for period in 6..65 {
        assert_eq!(step(period, 40_000), slow(40_000), "{period}");
    }
    let mut period = 65;
    while step(period, 40_000).is_some() {
        period += 1;
        assert!(period < 130, "never forgotten");
    }
}

#[test]
fn with_all_congested_goodput_is_capacity() {
    let busy = |bytes| Steady { bytes, ..LOSSY };
    let input = [busy(3_000), busy(1_000)];
    let steps = run(&[1_000, 1_000], &input, 30);
    let Some(WeightStep {
        why: Why::Goodput { share },
        ..
    }) = steps[1].first().copied()
    else {
        panic!("{steps:?}")
    };
    assert!((share - 0.75).abs() < 1e-9);
    let [a, b] = after(&[1_000, 1_000], &steps)[..] else {
        panic!()
    };
    let share = f64::from(a) / f64::from(a + b);
    assert!((share - 0.75).abs() < 0.075, "{a} {b}");
}

#[test]
fn small_weights_are_multiplied_first() {
    let idle = Steady { bytes: 0, ..LOSSY };
    let steps = run(&[1, 3], &[idle, QUIET], 3);
    let first: Vec<_> = steps[1].iter().map(|s| (s.after, s.why)).collect();
    assert_eq!(first, [(500, Why::Scale), (1_500, Why::Scale)]);
    let second: Vec<_> = steps[2].iter().map(|s| (s.before, s.after)).collect();
    assert_eq!(second, [(500, 400), (1_500, 1_600)]);
    // Half of the bytes are the lossy one's: a quarter of the new flows it keeps anyway.
    assert_eq!(run(&[1, 3], &[LOSSY, QUIET], 3).concat(), []);
}

#[test]
fn weight_0_stays() {
    let steps = run(&[0, 1_000, 1_000], &[QUIET, LOSSY, QUIET], 20);
    assert!(!steps.concat().is_empty());
    assert!(steps.iter().flatten().all(|step| step.id != 0));
}

#[test]
fn one_alone_and_stale_measurements_change_nothing() {
    assert_eq!(run(&[1_000], &[LOSSY], 10).concat(), []);
    assert_eq!(run(&[1_000, 0], &[LOSSY, QUIET], 10).concat(), []);
    let mut auto = AutoWeights::default();
    let lossy = |weight| Measured {
        loss_ppm: Some(50_000),
        ..tunnel(0, weight, 1_000)
    };
    let both = [lossy(1_000), tunnel(1, 1_000, 1_000)];
    assert_eq!(auto.step(Duration::ZERO, &both), []);
    assert_eq!(auto.step(PERIOD / 2, &both), []);
    assert_eq!(auto.step(PERIOD + STALE * 2, &both), []);
    // Counters that begin anew are not a rate.
    let reset = [lossy(1_000), tunnel(1, 1_000, 10)];
    assert_eq!(auto.step(PERIOD * 2 + STALE * 2, &reset), []);
    assert_ne!(auto.step(PERIOD * 3 + STALE * 2, &reset), []);
}

fn any_input() -> impl Strategy<Value = (Vec<u32>, Vec<Steady>)> {
    let steady = (
        0..1_000_000_u64,
        prop::option::of(0..200_000_u32),
        prop::option::of(0..100_000_u32),
    );
    let steady = steady.prop_map(|(bytes, rtt_us, loss_ppm)| Steady {
        bytes,
        rtt_us,
        loss_ppm,
    });
    let weight = prop_oneof![Just(0), 1..10_u32, 100..5_000_u32, 1..=WEIGHT_MAX];
    prop::collection::vec((weight, steady), 1..8).prop_map(|all| all.into_iter().unzip())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// No share changes by more than a step of itself, whatever is measured.
    #[test]
    fn steps_are_bounded(
        (weights, _) in any_input(),
        inputs in prop::collection::vec(any_input(), 1..20),
    ) {
        let mut auto = AutoWeights::default();
        let mut weights = weights;
        let mut bytes = vec![0_u64; weights.len()];
        for (period, (_, input)) in (0..).zip(&inputs) {
            let measured: Vec<_> = (0..).zip(&weights).map(|(id, weight)| {
                let steady = input[usize::from(id) % input.len()];
                bytes[usize::from(id)] += steady.bytes;
                Measured {
                    id,
                    weight: *weight,
                    is_used: true,
                    bytes: bytes[usize::from(id)],
                    rtt_us: steady.rtt_us,
                    loss_ppm: steady.loss_ppm,
                }
            }).collect();
            let before = weights.clone();
            for step in auto.step(PERIOD * period, &measured) {
                weights[usize::from(step.id)] = step.after;
            }
            let sum = |all: &[u32]| all.iter().map(|w| f64::from(*w)).sum::<f64>().max(1.0);
            for (old, new) in before.iter().zip(&weights) {
                prop_assert_eq!(*old == 0, *new == 0);
                prop_assert!(*new <= WEIGHT_MAX);
                let (share, share_new) = (f64::from(*old) / sum(&before), f64::from(*new) / sum(&weights));
                // Rounding changes a weight, and the sum by as much for each tunnel, by 1 at most.
                let slack = (1.0 + share * 8.0) / sum(&weights);
                prop_assert!(
                    (share_new - share).abs() <= share * STEP + slack + 1e-9,
                    "{:?} {:?}", before, weights
                );
            }
        }
    }

    /// Under constant input it comes to rest, and stays there.
    #[test]
    fn it_comes_to_rest((weights, input) in any_input()) {
        let steps = run(&weights, &input, 400);
        let moving = steps.iter().rposition(|steps| !steps.is_empty()).unwrap_or(0);
        prop_assert!(moving < 300, "still moving in period {}: {:?}", moving, steps[moving]);
    }

    /// Wherever all suffer, the shares end up near those of their goodput.
    #[test]
    fn it_ends_near_the_goodput(all in prop::collection::vec((100..10_000_u64, 50..2_000_u32), 2..6)) {
        let input: Vec<_> = all.iter().map(|(bytes, _)| Steady { bytes: *bytes, ..LOSSY }).collect();
        let weights: Vec<_> = all.iter().map(|(_, weight)| *weight).collect();
        let last = after(&weights, &run(&weights, &input, 400));
        let (bytes, sum) = (
            input.iter().map(|steady| steady.bytes).sum::<u64>(),
            last.iter().sum::<u32>(),
        );
        for (steady, weight) in input.iter().zip(&last) {
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let wanted = (steady.bytes as f64 / bytes as f64).max(FLOOR / 6.0);
            let share = f64::from(*weight) / f64::from(sum);
            prop_assert!((share - wanted).abs() < 0.15 * wanted + 0.02, "{:?} for {:?}", last, input);
        }
    }
}
