//! The way back to the operator's weights, once nothing has been congested for a while.
//!
//! What is wanted is what somebody else than the controller wrote last. The way back is taken in steps that are
//! smaller than those away from it. When it leads into congestion again, the next one waits twice as long:
//! a tunnel that stays too small is tried ever more seldom, and weights do not swing.

use std::collections::BTreeMap;
use std::time::Duration;

use steer_common::abi::TunnelId;

use super::{Measured, WEIGHT_MAX, WeightStep, Why};

/// How long nothing must have been congested, at first.
const PATIENCE: Duration = Duration::from_mins(2);
/// How long at most, after one vain attempt after the other.
const PATIENCE_MAX: Duration = Duration::from_hours(1);
/// How long all must be well at the operator's weights until vain attempts are forgotten.
const FORGET: Duration = Duration::from_mins(10);
/// The largest change of a weight on its way back, as a part of it.
const STEP: f64 = 0.05;

/// A tunnel's weights.
#[derive(Clone, Copy, Debug)]
struct Wish {
    /// What the operator wants.
    wanted: u32,
    /// What the controller left it at.
    left: u32,
}

/// What the operator wants, and how long it is waited for.
#[derive(Clone, Debug)]
pub(super) struct Calm {
    wishes: BTreeMap<TunnelId, Wish>,
    /// What the operator's weights are multiplied by for now.
    factor: u32,
    since: Option<Duration>,
    patience: Duration,
    is_returning: bool,
}

impl Default for Calm {
    fn default() -> Self {
        Self {
            wishes: BTreeMap::new(),
            factor: 1,
            since: None,
            patience: PATIENCE,
            is_returning: false,
        }
    }
}

impl Calm {
    /// Takes note of weights that others wrote. A tunnel that is new has one that is not multiplied yet: that
    /// is the step for it.
    pub(super) fn note_weights(&mut self, measured: &[Measured]) -> Vec<WeightStep> {
        let is_written = |tunnel: &Measured| {
            let known = self.wishes.get(&tunnel.id);
            known.is_some_and(|wish| wish.left != tunnel.weight)
        };
        if measured.iter().any(is_written) {
            *self = Self::default();
        }
        let known = std::mem::take(&mut self.wishes);
        let mut steps = Vec::new();
        for tunnel in measured {
            let (id, weight) = (tunnel.id, tunnel.weight);
            let wish = known.get(&id).copied().unwrap_or_else(|| {
                let left = multiplied(weight, self.factor);
                steps.extend((left != weight).then_some(WeightStep {
                    id,
                    before: weight,
                    after: left,
                    why: Why::Scale,
                }));
                Wish {
                    wanted: weight,
                    left,
                }
            });
            self.wishes.insert(id, wish);
        }
        steps
    }

    /// Takes note of the controller's own steps.
    pub(super) fn note_steps(&mut self, steps: &[WeightStep]) {
        for step in steps {
            if let Some(wish) = self.wishes.get_mut(&step.id) {
                wish.left = step.after;
            }
        }
    }

    /// Weights are multiplied by this.
    pub(super) fn note_factor(&mut self, factor: u32) {
        self.factor *= factor;
    }

    /// Something is congested.
    pub(super) fn disturb(&mut self) {
        if std::mem::take(&mut self.is_returning) {
            self.patience = PATIENCE_MAX.min(self.patience * 2);
        }
        self.since = None;
    }

    /// Nobody knows whether something was congested.
    pub(super) fn wait_anew(&mut self) {
        self.since = None;
    }

    /// Nothing is congested: the next step back, if it is time for one.
    pub(super) fn step(&mut self, now: Duration) -> Vec<WeightStep> {
        let since = *self.since.get_or_insert(now);
        let calm = now.saturating_sub(since);
        let goal = |wish: &Wish| multiplied(wish.wanted, self.factor);
        let is_back = self.wishes.values().all(|wish| wish.left == goal(wish));
        if is_back && calm >= FORGET {
            self.patience = PATIENCE;
            self.is_returning = false;
        }
        if calm < self.patience {
            return Vec::new();
        }
        if is_back {
            // The operator's own numbers again.
            let steps = self.steps(|wish| wish.wanted, Why::Scale);
            self.factor = 1;
            return steps;
        }
        self.is_returning = true;
        // All by the same part of their way, so that shares change as little as weights do.
        let part = self.wishes.values().filter(|wish| wish.left != goal(wish));
        let part = part
            .map(|wish| {
                let (left, goal) = (f64::from(wish.left), f64::from(goal(wish)));
                (left * STEP).max(1.0) / (goal - left).abs()
            })
            .fold(1.0, f64::min);
        self.steps(
            |wish| {
                let (left, goal) = (f64::from(wish.left), f64::from(goal(wish)));
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "between two weights"
                )]
                let next = (left + (goal - left) * part).round() as u32;
                next
            },
            Why::Calm,
        )
    }

    fn steps(&self, after: impl Fn(&Wish) -> u32, why: Why) -> Vec<WeightStep> {
        let step = |(id, wish): (&TunnelId, &Wish)| WeightStep {
            id: *id,
            before: wish.left,
            after: after(wish),
            why,
        };
        let steps = self.wishes.iter().map(step);
        steps.filter(|step| step.before != step.after).collect()
    }
}

fn multiplied(weight: u32, factor: u32) -> u32 {
    weight.saturating_mul(factor).min(WEIGHT_MAX)
}
