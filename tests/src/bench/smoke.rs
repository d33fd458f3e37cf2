//! A short run for CI: whether everything still costs about what it did.

use super::{Group, Scenario, cost::Plan, peers::Peer};

/// Interleaved rounds: enough that the median of one busy machine is that of another.
pub const ROUNDS: usize = 11;

/// What a system must cost, as a multiple of another.
struct Band {
    system: Peer,
    than: Peer,
    least: f64,
    most: f64,
}

const fn band(system: Peer, than: Peer, least: f64, most: f64) -> Band {
    Band {
        system,
        than,
        least,
        most,
    }
}

/// Generous: machines differ. Below the least, packets do not go the way that is measured.
const BANDS: [Band; 5] = [
    band(Peer::Multipath3, Peer::Bare, 1.4, 3.5),
    band(Peer::NftHash, Peer::Bare, 2.2, 7.0),
    band(Peer::SteerIngress, Peer::Bare, 1.05, 1.9),
    band(Peer::SteerEgress, Peer::Multipath3, 0.6, 1.3),
    band(Peer::SteerMark, Peer::NftHash, 0.5, 1.1),
];

/// One scenario, and those that the bands are about.
pub fn plan() -> Plan {
    vec![(Scenario::USUAL, Peer::FEW.to_vec())]
}

/// What is outside its band, in words.
pub fn outside(group: &Group) -> Vec<String> {
    BANDS
        .iter()
        .filter_map(|band| {
            let found = group.ratio(&band.system.to_string(), &band.than.to_string());
            let is_inside = found.is_some_and(|ratio| (band.least..=band.most).contains(&ratio));
            (!is_inside).then(|| {
                let Band {
                    system,
                    than,
                    least,
                    most,
                } = band;
                let found = found.map_or("not measured".to_owned(), |ratio| format!("{ratio:.2}"));
                format!("{system} / {than}: {found}, expected {least} to {most}")
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use anyhow::Result;

    use super::*;
    use crate::bench::Series;

    fn group(nanoseconds: [f64; 7]) -> Result<Group> {
        let series = |(peer, ns): (Peer, f64)| Series {
            name: peer.to_string(),
            rounds: vec![ns],
        };
        let all: Vec<_> = Peer::FEW.into_iter().zip(nanoseconds).map(series).collect();
        Group::new("all", "ns", &all)
    }

    #[test]
    fn what_costs_too_much_or_nothing_is_outside() -> Result<()> {
        // In the order of `Peer::FEW`.
        let usual = [300.0, 450.0, 600.0, 1_500.0, 400.0, 650.0, 900.0];
        assert!(outside(&group(usual)?).is_empty());
        let dear = [300.0, 450.0, 600.0, 1_500.0, 900.0, 650.0, 900.0];
        let found = outside(&group(dear)?);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("steer ingress / bare redirect: 3.00, "));
        let free = [300.0, 450.0, 600.0, 1_500.0, 400.0, 650.0, 100.0];
        let found = outside(&group(free)?);
        assert!(found[0].starts_with("steer mark / nft ct mark, jhash: 0.07, "));
        Ok(())
    }

    #[test]
    fn what_is_missing_is_outside() -> Result<()> {
        let alone = Group::new(
            "all",
            "ns",
            &[Series {
                name: "a".into(),
                rounds: vec![1.0],
            }],
        )?;
        assert_eq!(outside(&alone).len(), BANDS.len());
        Ok(())
    }
}
