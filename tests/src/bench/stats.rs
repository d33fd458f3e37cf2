//! Medians and their spread.

use serde::{Deserialize, Deserializer, Serialize};

/// One figure as it was measured: a value for each round.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// What was measured.
    pub name: String,
    /// The rounds' values, in the order of the rounds.
    pub rounds: Vec<f64>,
}

/// The middle of several values, their quartiles, their mean, the least and the largest.
///
/// A time that did not end is infinite, and `null` in JSON.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one, or the mean of the two in the middle.
    #[serde(deserialize_with = "or_never")]
    pub median: f64,
    /// The lower quartile: a value that at most a quarter of them is below.
    #[serde(deserialize_with = "or_never")]
    pub low: f64,
    /// The upper quartile: as many are above it as below the lower one.
    #[serde(deserialize_with = "or_never")]
    pub high: f64,
    /// Their mean.
    #[serde(deserialize_with = "or_never")]
    pub mean: f64,
    /// The least; not a number in files from before it was kept.
    #[serde(default = "unknown", deserialize_with = "or_never")]
    pub min: f64,
    /// The largest.
    #[serde(deserialize_with = "or_never")]
    pub max: f64,
}

fn unknown() -> f64 {
    f64::NAN
}

fn or_never<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    let value = Option::deserialize(from)?;
    Ok(value.unwrap_or(f64::INFINITY))
}

impl Spread {
    /// Of these values; `None` of none.
    #[expect(clippy::cast_precision_loss, reason = "a number of rounds")]
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        Some(Self {
            median: f64::midpoint(sorted[last / 2], sorted[last.div_ceil(2)]),
            low: sorted[last / 4],
            high: sorted[last - last / 4],
            mean: values.iter().sum::<f64>() / values.len() as f64,
            min: sorted[0],
            max: sorted[last],
        })
    }
}

impl Series {
    /// Without values yet.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            rounds: Vec::new(),
        }
    }

    /// Each round's value as a multiple of the other's in the same round, as long as both were measured.
    pub fn over(&self, other: &Self) -> Vec<f64> {
        let pairs = self.rounds.iter().zip(&other.rounds);
        pairs.map(|(mine, theirs)| mine / theirs).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles() {
        let five = Spread {
            median: 3.0,
            low: 2.0,
            high: 4.0,
            mean: 3.0,
            min: 1.0,
            max: 5.0,
        };
        assert_eq!(Spread::of(&[5.0, 1.0, 4.0, 2.0, 3.0]), Some(five));
        assert_eq!(Spread::of(&[]), None);
        let quartiles = |values: &[f64]| {
            let spread = Spread::of(values).expect("there are values");
            format!("{} {} {}", spread.low, spread.median, spread.high)
        };
        assert_eq!(quartiles(&[7.0]), "7 7 7");
        assert_eq!(quartiles(&[1.0, 2.0]), "1 1.5 2");
        assert_eq!(quartiles(&[3.0, 1.0, 2.0]), "1 2 3");
        assert_eq!(quartiles(&[4.0, 1.0, 2.0, 3.0]), "1 2.5 4");
        let eleven: Vec<_> = (1..=11_u8).map(f64::from).collect();
        assert_eq!(quartiles(&eleven), "3 6 9");
    }

    #[test]
    fn what_never_ended_is_larger_than_all_else() {
        let spread = Spread::of(&[1.0, f64::INFINITY, 2.0]).expect("there are values");
        assert_eq!((spread.median, spread.max), (2.0, f64::INFINITY));
        let half = Spread::of(&[1.0, f64::INFINITY]).expect("there are values");
        assert!(half.median.is_infinite());
    }

    #[test]
    fn a_round_is_compared_with_the_same_round() {
        let series = |rounds: &[f64]| Series {
            rounds: rounds.to_vec(),
            ..Series::default()
        };
        // The machine was half as fast in the second round.
        let ratios = series(&[30.0, 60.0]).over(&series(&[20.0, 40.0]));
        assert_eq!(
            Spread::of(&ratios).map(|all| (all.low, all.high)),
            Some((1.5, 1.5))
        );
    }
}
