//! Weights by measurement: new flows go where there is room. Pure; the time comes with each measurement.
//!
//! Goodput alone says nothing of room: a tunnel that gets more flows carries more. So nothing changes until a
//! tunnel is congested, by loss or by a round trip far above its shortest. Then
//!
//! - where others are not congested, they get what the congested ones lose. A tunnel's share of new flows does not
//!   fall below half of its share of bytes: live flows stay, and take a while to end;
//! - where all are, goodput is capacity, and weights go towards it;
//! - once none is any more, for a while, weights go back to the operator's (`calm.rs`).
//!
//! No share changes by more than [`STEP`] of itself at a time (or a weight by 1), nor more often than every
//! [`PERIOD`], and a tunnel of weight 0 stays at 0.

mod calm;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use steer_common::abi::TunnelId;

use self::calm::Calm;
use super::WEIGHT_MAX;

/// Time between two changes, over which goodput is measured.
pub const PERIOD: Duration = Duration::from_secs(10);
/// The largest change of a share at once, as a part of it.
pub const STEP: f64 = 0.2;

/// A timer may be this much early or late.
const PUNCTUALITY: Duration = Duration::from_millis(500);
/// A measurement that is this much older than the next one says nothing about it.
const STALE: Duration = Duration::from_mins(1);
/// How long a shortest round trip is remembered, at least.
const MEMORY: Duration = Duration::from_mins(10);
/// Loss that makes a tunnel congested, and below which it is so no more, in ppm.
const LOSS: (u32, u32) = (10_000, 3_000);
/// With all congested, shares within this part of their goodput are left alone.
const NEAR_ENOUGH: f64 = 0.1;
/// Weights whose mean is less are multiplied first, so that a step can be made at all.
const MEAN_MIN: u32 = 100;
/// What their mean is then.
const MEAN: u32 = 1_000;
/// The least weight, as a part of the mean.
const FLOOR: f64 = 0.02;

/// What is measured of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// The tunnel.
    pub id: TunnelId,
    /// Its weight.
    pub weight: u32,
    /// Whether it gets new flows. One that gets none has no part in what follows from congestion.
    pub is_used: bool,
    /// Bytes that it carried, both ways, since whenever.
    pub bytes: u64,
    /// Round trip through it, in µs, if known.
    pub rtt_us: Option<u32>,
    /// Loss, if known.
    pub loss_ppm: Option<u32>,
}

/// A change of a weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WeightStep {
    /// The tunnel.
    pub id: TunnelId,
    /// Before.
    pub before: u32,
    /// After.
    pub after: u32,
    /// Its reason.
    pub why: Why,
}

/// Why a weight changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Why {
    /// It loses packets.
    Loss {
        /// How many.
        ppm: u32,
    },
    /// Its round trip is far above its shortest.
    Delay {
        /// The round trip.
        rtt_us: u32,
        /// The shortest.
        least_us: u32,
    },
    /// Others are congested, and it is not.
    Room,
    /// All are congested, and this is its share of the goodput.
    Goodput {
        /// Its share, 0 to 1.
        share: f64,
    },
    /// Weights were too small to be changed in steps, or need no such steps any more; its share is the same.
    Scale,
    /// None is congested any more: back to what the operator wants.
    Calm,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |us: u32| f64::from(us) / 1e3;
        match *self {
            Self::Loss { ppm } => write!(f, "loses {:.1} %", f64::from(ppm) / 1e4),
            Self::Delay { rtt_us, least_us } => {
                let (rtt, least) = (ms(rtt_us), ms(least_us));
                write!(f, "round trip {rtt:.1} ms, shortest {least:.1} ms")
            }
            Self::Room => f.write_str("others are congested"),
            Self::Goodput { share } => write!(f, "carries {:.1} % of the bytes", share * 100.0),
            Self::Scale => f.write_str("other numbers for the same shares"),
            Self::Calm => f.write_str("none is congested any more"),
        }
    }
}

/// What is remembered of a tunnel.
#[derive(Clone, Copy, Debug)]
struct Memory {
    bytes: u64,
    is_congested: bool,
    /// The shortest round trip of this stretch of time and of the one before.
    least_us: [Option<u32>; 2],
}

/// The controller of one group.
#[derive(Clone, Debug, Default)]
pub struct AutoWeights {
    at: Option<Duration>,
    stretch_began: Duration,
    tunnels: BTreeMap<TunnelId, Memory>,
    calm: Calm,
}

/// A tunnel at the moment of a step.
struct Now {
    id: TunnelId,
    before: u32,
    weight: f64,
    rate: f64,
    congestion: Option<Why>,
}

impl AutoWeights {
    /// Takes a measurement; when it is time, gives the weights that change. `now` is of any steady clock.
    pub fn step(&mut self, now: Duration, measured: &[Measured]) -> Vec<WeightStep> {
        let elapsed = self.at.map(|at| now.saturating_sub(at));
        if elapsed.is_some_and(|elapsed| elapsed + PUNCTUALITY < PERIOD) {
            return Vec::new();
        }
        self.at = Some(now);
        let rates = self.rates(now, measured);
        let is_fresh = elapsed.is_some_and(|elapsed| elapsed <= STALE);
        let mut steps = self.calm.note_weights(measured);
        match rates {
            Some(all) if is_fresh && steps.is_empty() => {
                if all.iter().any(|tunnel| tunnel.congestion.is_some()) {
                    self.calm.disturb();
                    steps = self.relieve(&all, measured);
                } else {
                    steps = self.calm.step(now);
                }
            }
            // What was not measured may have been anything.
            _ => self.calm.wait_anew(),
        }
        self.calm.note_steps(&steps);
        steps
    }

    /// What each tunnel in use carried since the last time; `None` where one is new.
    fn rates(&mut self, now: Duration, measured: &[Measured]) -> Option<Vec<Now>> {
        let is_new_stretch = now.saturating_sub(self.stretch_began) >= MEMORY;
        if is_new_stretch {
            self.stretch_began = now;
        }
        let before = std::mem::take(&mut self.tunnels);
        let mut all = Vec::new();
        for tunnel in measured
            .iter()
            .filter(|tunnel| tunnel.is_used && tunnel.weight > 0)
        {
            let known = before.get(&tunnel.id);
            let memory = Memory::after(known, tunnel, is_new_stretch);
            self.tunnels.insert(tunnel.id, memory);
            // Counters that were made anew have measured nothing yet.
            let carried = known.and_then(|known| tunnel.bytes.checked_sub(known.bytes));
            all.push(carried.map(|bytes| Now {
                id: tunnel.id,
                before: tunnel.weight,
                weight: f64::from(tunnel.weight),
                #[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
                rate: bytes as f64,
                congestion: memory.congestion(tunnel),
            }));
        }
        all.into_iter().collect()
    }

    /// Takes from who is congested.
    fn relieve(&mut self, all: &[Now], measured: &[Measured]) -> Vec<WeightStep> {
        let Some(wanted) = wanted(all).filter(|_| all.len() > 1) else {
            return Vec::new();
        };
        let Some(factor) = factor(all, measured) else {
            return steps(all, wanted);
        };
        self.calm.note_factor(factor);
        let step = |tunnel: &Measured| WeightStep {
            id: tunnel.id,
            before: tunnel.weight,
            after: tunnel.weight * factor,
            why: Why::Scale,
        };
        // Those that get no flows now, too: they may get some again.
        let with_weight = measured.iter().filter(|tunnel| tunnel.weight > 0);
        with_weight.map(step).collect()
    }
}

impl Memory {
    fn after(known: Option<&Self>, tunnel: &Measured, is_new_stretch: bool) -> Self {
        let [current, last] = known.map_or([None; 2], |known| known.least_us);
        let [current, last] = if is_new_stretch {
            [None, current]
        } else {
            [current, last]
        };
        let least = |a: Option<u32>, b: Option<u32>| a.into_iter().chain(b).min();
        let mut memory = Self {
            bytes: tunnel.bytes,
            is_congested: known.is_some_and(|known| known.is_congested),
            least_us: [least(current, tunnel.rtt_us), last],
        };
        memory.is_congested = memory.congestion(tunnel).is_some();
        memory
    }

    fn least_us(&self) -> Option<u32> {
        self.least_us.into_iter().flatten().min()
    }

    /// Why the tunnel is congested. To become so takes more than to stay so.
    fn congestion(&self, tunnel: &Measured) -> Option<Why> {
        let (enter, stay) = LOSS;
        let limit_ppm = if self.is_congested { stay } else { enter };
        if let Some(ppm) = tunnel.loss_ppm
            && ppm > limit_ppm
        {
            return Some(Why::Loss { ppm });
        }
        let (rtt_us, least_us) = (tunnel.rtt_us?, self.least_us()?);
        let limit_us = if self.is_congested {
            u64::from(least_us) * 3 / 2 + 5_000
        } else {
            u64::from(least_us) * 2 + 10_000
        };
        (u64::from(rtt_us) > limit_us).then_some(Why::Delay { rtt_us, least_us })
    }
}

fn steps(all: &[Now], wanted: Vec<(f64, Why)>) -> Vec<WeightStep> {
    all.iter()
        .zip(wanted)
        .filter_map(|(tunnel, (weight, why))| {
            // Never rounded to a larger step than is allowed, but a small weight takes one of 1.
            let rounded = if weight < tunnel.weight {
                weight.ceil()
            } else if weight > tunnel.weight {
                weight.floor().max(tunnel.weight + 1.0)
            } else {
                weight
            };
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "within the range of weights"
            )]
            let after = rounded.clamp(1.0, f64::from(WEIGHT_MAX)) as u32;
            (after != tunnel.before).then_some(WeightStep {
                id: tunnel.id,
                before: tunnel.before,
                after,
                why,
            })
        })
        .collect()
}

/// What weights are to be multiplied by, if they are too small for a step.
fn factor(all: &[Now], measured: &[Measured]) -> Option<u32> {
    let count = u32::try_from(all.len()).ok()?;
    let sum: u32 = all.iter().map(|tunnel| tunnel.before).sum();
    let largest = measured.iter().map(|tunnel| tunnel.weight).max()?;
    if sum >= MEAN_MIN * count {
        return None;
    }
    let factor = (MEAN * count).div_ceil(sum).min(WEIGHT_MAX / largest);
    (factor > 1).then_some(factor)
}

/// The weight that each is to have now, and why; their sum stays.
fn wanted(all: &[Now]) -> Option<Vec<(f64, Why)>> {
    let sum: f64 = all.iter().map(|tunnel| tunnel.weight).sum();
    let carried: f64 = all.iter().map(|tunnel| tunnel.rate).sum();
    let floor = FLOOR * sum / f64::from(u32::try_from(all.len()).ok()?);
    let share = |tunnel: &Now| {
        if carried > 0.0 {
            tunnel.rate / carried
        } else {
            0.0
        }
    };
    if all.iter().all(|tunnel| tunnel.congestion.is_some()) {
        let goal: Vec<f64> = all
            .iter()
            .map(|tunnel| floor.max(share(tunnel) * sum))
            .collect();
        let goals: f64 = goal.iter().sum();
        let goal: Vec<f64> = goal.into_iter().map(|goal| goal * sum / goals).collect();
        return by_goodput(all, &goal, &share).filter(|_| carried > 0.0);
    }
    // What a congested tunnel may lose: a step, and not below its least.
    let loses = |tunnel: &Now| {
        let least = floor.max(share(tunnel) * sum / 2.0);
        let most = (tunnel.weight - least).max(0.0);
        let is_congested = tunnel.congestion.is_some();
        if is_congested {
            most.min(tunnel.weight * STEP)
        } else {
            0.0
        }
    };
    let lost: f64 = all.iter().map(loses).sum();
    let open = all.iter().filter(|tunnel| tunnel.congestion.is_none());
    let room: f64 = open.map(|tunnel| tunnel.weight).sum();
    if lost <= 0.0 || room <= 0.0 {
        return None;
    }
    // The others take a step at most, too, and not beyond the largest weight.
    let largest = all.iter().filter(|tunnel| tunnel.congestion.is_none());
    let largest = largest.map(|tunnel| tunnel.weight).fold(0.0, f64::max);
    let most = STEP.min(f64::from(WEIGHT_MAX) / largest - 1.0);
    let part = (room * most / lost).min(1.0);
    let gain = 1.0 + lost * part / room;
    let step = |tunnel: &Now| match tunnel.congestion {
        Some(why) => (tunnel.weight - loses(tunnel) * part, why),
        None => (tunnel.weight * gain, Why::Room),
    };
    Some(all.iter().map(step).collect())
}

/// Towards weights that are as the goodput is, all by the same part of their way.
fn by_goodput(all: &[Now], goal: &[f64], share: &impl Fn(&Now) -> f64) -> Option<Vec<(f64, Why)>> {
    let ways: Vec<f64> = all
        .iter()
        .zip(goal)
        .map(|(tunnel, goal)| goal - tunnel.weight)
        .collect();
    let both = || all.iter().zip(&ways);
    if both().all(|(tunnel, way)| way.abs() <= NEAR_ENOUGH * tunnel.weight) {
        return None;
    }
    let part = both()
        .map(|(tunnel, way)| {
            let most = if *way > 0.0 {
                f64::from(WEIGHT_MAX) - tunnel.weight
            } else {
                f64::INFINITY
            };
            (tunnel.weight * STEP).min(most) / way.abs()
        })
        .fold(1.0, f64::min);
    let step = |(tunnel, way): (&Now, &f64)| {
        let share = share(tunnel);
        (tunnel.weight + way * part, Why::Goodput { share })
    };
    Some(both().map(step).collect())
}

#[cfg(test)]
mod tests;
