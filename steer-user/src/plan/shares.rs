//! Shares of new flows.

/// What decides about a tunnel's share of new flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its weight.
    pub weight: u32,
    /// Its tier.
    pub tier: u32,
    /// Whether operator and health let it take new flows.
    pub takes_new_flows: bool,
}

/// Shares of new flows, 0 to 1: by weight, among the tunnels of the best tier that has a usable one.
pub fn shares(tunnels: impl IntoIterator<Item = Candidate>) -> Vec<f64> {
    let tunnels: Vec<Candidate> = tunnels.into_iter().collect();
    let usable = |tunnel: &&Candidate| tunnel.takes_new_flows && tunnel.weight > 0;
    let tier = tunnels.iter().filter(usable).map(|t| t.tier).min();
    let in_use = |tunnel: &&Candidate| usable(tunnel) && Some(tunnel.tier) == tier;
    let sum: f64 = tunnels
        .iter()
        .filter(in_use)
        .map(|tunnel| f64::from(tunnel.weight))
        .sum();
    tunnels
        .iter()
        .map(|tunnel| {
            if in_use(&tunnel) {
                f64::from(tunnel.weight) / sum
            } else {
                0.0
            }
        })
        .collect()
}

/// A tunnel's share of new flows where routes lead to prefixes by different tunnels, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RoutedShare {
    /// The mean over all prefixes.
    pub mean: f64,
    /// The smallest for any prefix.
    pub least: f64,
    /// The largest.
    pub most: f64,
}

impl RoutedShare {
    /// The same for all prefixes.
    pub fn alike(share: f64) -> Self {
        Self {
            mean: share,
            least: share,
            most: share,
        }
    }
}

/// What routes make of a home group's tunnels for some prefixes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutedSet {
    /// How many prefixes.
    pub prefixes: usize,
    /// The tunnels, as indices, and the weights of the next hops, which multiply their own.
    pub hops: Vec<(usize, u32)>,
}

/// The shares of a home group's tunnels over what routes lead to; as without routes while there are none.
pub fn routed_shares(tunnels: &[Candidate], sets: &[RoutedSet]) -> Vec<RoutedShare> {
    let all: usize = sets.iter().map(|set| set.prefixes).sum();
    if all == 0 {
        let own = shares(tunnels.iter().copied());
        return own.into_iter().map(RoutedShare::alike).collect();
    }
    let none = RoutedShare {
        least: 1.0,
        ..RoutedShare::default()
    };
    let mut found = vec![none; tunnels.len()];
    for set in sets.iter().filter(|set| set.prefixes > 0) {
        let weight = |index: usize| {
            let hop = set.hops.iter().find(|(of, _)| *of == index);
            hop.map_or(0, |(_, weight)| {
                tunnels[index].weight.saturating_mul(*weight)
            })
        };
        let candidate = |(index, tunnel): (usize, &Candidate)| Candidate {
            weight: weight(index),
            ..*tunnel
        };
        #[expect(
            clippy::cast_precision_loss,
            reason = "there are far fewer prefixes than 2^53"
        )]
        let part = set.prefixes as f64 / all as f64;
        let of_set = shares(tunnels.iter().enumerate().map(candidate));
        for (found, share) in found.iter_mut().zip(of_set) {
            found.mean += share * part;
            found.least = found.least.min(share);
            found.most = found.most.max(share);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_by_tier() {
        let candidate = |weight, tier, takes_new_flows| Candidate {
            weight,
            tier,
            takes_new_flows,
        };
        let all = [
            (1, 0, false),
            (0, 0, true),
            (1, 1, true),
            (3, 1, true),
            (9, 2, true),
        ];
        let all = all.map(|(weight, tier, takes)| candidate(weight, tier, takes));
        assert_eq!(shares(all), [0.0, 0.0, 0.25, 0.75, 0.0]);
        let none = [candidate(1, 0, false), candidate(0, 0, true)];
        assert_eq!(shares(none), [0.0, 0.0]);
        assert!(shares([]).is_empty());
    }

    #[test]
    fn shares_over_routes() {
        let tunnel = |weight, takes_new_flows| Candidate {
            weight,
            tier: 0,
            takes_new_flows,
        };
        let tunnels = [tunnel(1, true), tunnel(1, true), tunnel(2, true)];
        let set = |prefixes, hops: &[(usize, u32)]| RoutedSet {
            prefixes,
            hops: hops.to_vec(),
        };
        let shares = |tunnels: &[Candidate], sets: &[RoutedSet]| -> Vec<_> {
            let found = routed_shares(tunnels, sets).into_iter();
            found.map(|s| (s.mean, s.least, s.most)).collect()
        };
        // Without a route, as the weights are.
        assert_eq!(
            shares(&tunnels, &[]),
            [(0.25, 0.25, 0.25), (0.25, 0.25, 0.25), (0.5, 0.5, 0.5)]
        );
        // No route leads over the last.
        let sets = [set(1, &[(0, 3), (1, 1)])];
        assert_eq!(
            shares(&tunnels, &sets),
            [(0.75, 0.75, 0.75), (0.25, 0.25, 0.25), (0.0, 0.0, 0.0)]
        );
        // One prefix in four goes by the second alone.
        let sets = [
            set(3, &[(0, 1), (1, 1)]),
            set(1, &[(1, 1)]),
            set(0, &[(2, 1)]),
        ];
        assert_eq!(
            shares(&tunnels, &sets),
            [(0.375, 0.0, 0.5), (0.625, 0.5, 1.0), (0.0, 0.0, 0.0)]
        );
        // That one is down: nobody has its prefix.
        let down = [tunnel(1, true), tunnel(1, false), tunnel(2, true)];
        assert_eq!(
            shares(&down, &sets),
            [(0.75, 0.0, 1.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)]
        );
    }
}
