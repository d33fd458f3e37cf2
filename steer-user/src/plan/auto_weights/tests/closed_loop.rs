//! The controller on tunnels that answer to it: what they lose depends on what it sends them.

use super::*;

/// Tunnels of some capacity that share a demand. Flows last a while: the load follows the weights slowly.
struct World {
    auto: AutoWeights,
    period: u32,
    weights: Vec<u32>,
    used: Vec<bool>,
    load: Vec<f64>,
    bytes: Vec<u64>,
    told: Vec<WeightStep>,
}

/// Part of the flows that end in a period.
const ENDING: f64 = 0.3;
const DEMAND: f64 = 1_000_000.0;

impl World {
    fn new(weights: &[u32]) -> Self {
        Self {
            auto: AutoWeights::default(),
            period: 0,
            weights: weights.to_vec(),
            used: vec![true; weights.len()],
            load: vec![0.0; weights.len()],
            bytes: vec![0; weights.len()],
            told: Vec::new(),
        }
    }

    /// So many periods with these capacities, as parts of the demand; the shares of new flows after each.
    fn run(&mut self, periods: u32, capacities: &[f64]) -> Vec<Vec<f64>> {
        (0..periods).map(|_| self.one_period(capacities)).collect()
    }

    fn one_period(&mut self, capacities: &[f64]) -> Vec<f64> {
        let shares = self.shares();
        let mut measured = Vec::new();
        for (id, capacity) in (0..).zip(capacities) {
            let place = usize::from(id);
            let load = &mut self.load[place];
            *load += (shares[place] - *load) * ENDING;
            let carried = load.min(*capacity);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 0 and the demand"
            )]
            let (bytes, loss_ppm) = (
                (carried * DEMAND) as u64,
                ((*load - carried) / load.max(1e-9) * 1e6) as u32,
            );
            self.bytes[place] += bytes;
            measured.push(Measured {
                id,
                weight: self.weights[place],
                is_used: self.used[place],
                bytes: self.bytes[place],
                rtt_us: Some(10_000),
                loss_ppm: Some(loss_ppm),
            });
        }
        for step in self.auto.step(PERIOD * self.period, &measured) {
            let weight = &mut self.weights[usize::from(step.id)];
            assert_eq!(step.before, *weight);
            *weight = step.after;
            self.told.push(step);
        }
        self.period += 1;
        self.shares()
    }

    fn shares(&self) -> Vec<f64> {
        let weight = |place: usize| {
            if self.used[place] {
                f64::from(self.weights[place])
            } else {
                0.0
            }
        };
        let sum: f64 = (0..self.weights.len()).map(weight).sum();
        (0..self.weights.len())
            .map(|place| weight(place) / sum)
            .collect()
    }
}

/// How often a share turns back by more than a little.
fn turns(shares: &[Vec<f64>], place: usize) -> usize {
    let mut turns = 0;
    let mut rising = None;
    let mut extreme = shares[0][place];
    for share in shares.iter().map(|shares| shares[place]) {
        let is_rise = share > extreme;
        if rising == Some(is_rise) || rising.is_none() && (share - extreme).abs() > 0.01 {
            rising = Some(is_rise);
            extreme = share;
        } else if (share - extreme).abs() > 0.01 {
            turns += 1;
            rising = Some(is_rise);
            extreme = share;
        }
    }
    turns
}

#[test]
fn a_congested_tunnel_loses_weight_and_gets_it_back() {
    let mut world = World::new(&[1, 1, 2]);
    let ample = [1.0, 1.0, 1.0];
    world.run(60, &ample);
    assert_eq!(world.told, [], "nothing is congested");
    // Ten minutes with a tenth of the demand.
    let narrow = world.run(60, &[0.1, 1.0, 1.0]);
    let last = &narrow[59];
    assert!(last[0] <= 0.11, "{last:?}");
    assert!((last[2] / last[1] - 2.0).abs() < 0.02, "{last:?}");
    // The first change is within two periods; in a minute the share is half of what it was.
    assert!(narrow[2][0] < 0.25, "{narrow:?}");
    assert!(narrow[7][0] < 0.125, "{narrow:?}");
    // One attempt to give it more, and back.
    assert!(turns(&narrow, 0) <= 2, "{narrow:?}");
    let back = world.run(120, &ample);
    assert_eq!(turns(&back, 0), 0, "{back:?}");
    assert_eq!(world.weights, [1, 1, 2], "the operator's own numbers again");
    assert_eq!(
        world.told.last().map(|step| step.why),
        Some(Why::Scale),
        "{:?}",
        world.told
    );
    assert!(world.told.iter().any(|step| step.why == Why::Calm));
    // There it stays.
    let told = world.told.len();
    world.run(200, &ample);
    assert_eq!(world.told.len(), told);
}

#[test]
fn a_tunnel_that_stays_too_small_is_tried_ever_more_seldom() {
    let mut world = World::new(&[1_000, 1_000]);
    let capacities = [0.2, 1.0];
    world.run(60, &capacities);
    // Half a day, in stretches of two hours.
    let tries: Vec<usize> = (0..6)
        .map(|_| turns(&world.run(720, &capacities), 0) / 2)
        .collect();
    assert!(tries[0] <= 10, "{tries:?}");
    assert!(tries[1..].iter().all(|tries| *tries <= 2), "{tries:?}");
    // Between them it is where it fits, and never far from there.
    let shares = world.run(720, &capacities);
    let above = shares.iter().filter(|shares| shares[0] > 0.25).count();
    assert!(above < 30, "{above}");
    assert!(
        shares
            .iter()
            .all(|shares| shares[0] > 0.1 && shares[0] < 0.4)
    );
}

#[test]
fn one_that_was_away_finds_its_share_again() {
    let mut world = World::new(&[1, 1, 1]);
    let ample = [1.0; 3];
    world.run(3, &ample);
    world.used[2] = false;
    world.run(30, &[0.1, 1.0, 1.0]);
    // Its weight was multiplied, too.
    assert!(world.weights[2] > 100, "{:?}", world.weights);
    world.used[2] = true;
    let shares = world.shares();
    assert!((shares[2] - 1.0 / 3.0).abs() < 0.01, "{shares:?}");
}

#[test]
fn the_operator_has_the_last_word() {
    let mut world = World::new(&[1_000, 1_000]);
    let ample = [1.0; 2];
    world.run(3, &ample);
    world.run(10, &[0.1, 1.0]);
    world.weights = vec![300, 700];
    world.run(100, &ample);
    assert_eq!(world.weights, [300, 700], "what was written last is wanted");
    // Larger ones cannot be multiplied.
    let mut world = World::new(&[WEIGHT_MAX, 1]);
    world.run(3, &ample);
    world.run(40, &[0.3, 1.0]);
    world.run(400, &ample);
    assert_eq!(world.weights, [WEIGHT_MAX, 1]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    /// Whatever tunnels there are: once there is room for all, the operator's weights are back, without a turn.
    #[test]
    fn weights_come_back(
        all in prop::collection::vec((1..5_000_u32, 0.05..1.0_f64), 2..6),
        periods in 1..200_u32,
    ) {
        let (weights, capacities): (Vec<u32>, Vec<f64>) = all.into_iter().unzip();
        let mut world = World::new(&weights);
        world.run(periods, &capacities);
        let ample = vec![1.0; weights.len()];
        world.run(10, &ample);
        let back = world.run(900, &ample);
        prop_assert_eq!(&world.weights, &weights);
        for place in 0..weights.len() {
            prop_assert!(turns(&back, place) <= 1, "tunnel {}", place);
        }
    }
}
