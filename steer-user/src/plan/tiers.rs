//! Which tunnels of a group take new flows: those of the best tier in which any can.

use steer_common::{
    abi::{Admin, Tunnel, TunnelId},
    buckets::Member,
};

/// A tunnel that new flows could go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its number.
    pub id: TunnelId,
    /// Its weight in this group.
    pub weight: u32,
    /// Its tier; 0 is the best.
    pub tier: u32,
    /// What the packet path sees of it.
    pub state: Tunnel,
}

impl Candidate {
    fn takes_new_flows(&self) -> bool {
        self.weight > 0 && self.state.takes_new_flows()
    }
}

/// The tier whose tunnels take new flows now; `None` when no tunnel does.
fn tier_in_use(candidates: &[Candidate]) -> Option<u32> {
    let able = candidates.iter().filter(|tunnel| tunnel.takes_new_flows());
    able.map(|tunnel| tunnel.tier).min()
}

/// Who takes part in a group's bucket table: the tunnels of the tier in use. When there is none, those
/// that the operator wants, so that the first to come back is used at once.
pub fn members(candidates: &[Candidate]) -> Vec<Member> {
    let tier = tier_in_use(candidates);
    candidates
        .iter()
        .filter(|tunnel| match tier {
            Some(tier) => tunnel.tier == tier && tunnel.takes_new_flows(),
            None => tunnel.state.admin == Admin::Active,
        })
        .map(|tunnel| Member {
            id: tunnel.id,
            weight: tunnel.weight,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use steer_common::abi::Health;

    use super::*;

    fn candidate(id: TunnelId, tier: u32, admin: Admin, health: Health) -> Candidate {
        Candidate {
            id,
            weight: 1 + u32::from(id),
            tier,
            state: Tunnel {
                ifindex: 7,
                admin,
                health,
                reserved: 0,
            },
        }
    }

    fn ids(candidates: &[Candidate]) -> Vec<TunnelId> {
        members(candidates).iter().map(|member| member.id).collect()
    }

    #[test]
    fn the_best_tier_that_can() {
        use Admin::{Active, Disabled, Drain};
        use Health::{Degraded, Down, Unknown, Up};
        let all = |first, second| {
            [
                candidate(0, 0, first, Up),
                candidate(1, 0, Active, second),
                candidate(2, 1, Active, Unknown),
                candidate(3, 1, Active, Degraded),
                candidate(4, 2, Active, Up),
            ]
        };
        assert_eq!(ids(&all(Active, Up)), [0, 1]);
        assert_eq!(ids(&all(Active, Down)), [0]);
        // What drains keeps its flows, and that is no reason to give it new ones.
        assert_eq!(ids(&all(Drain, Down)), [2, 3]);
        assert_eq!(tier_in_use(&all(Disabled, Down)), Some(1));
        let mut without_weight = all(Active, Down);
        without_weight[0].weight = 0;
        assert_eq!(ids(&without_weight), [2, 3]);
        assert_eq!(members(&all(Active, Up))[1], Member { id: 1, weight: 2 });
    }

    #[test]
    fn with_none_all_that_are_wanted() {
        let all = [
            candidate(0, 0, Admin::Active, Health::Down),
            candidate(1, 1, Admin::Active, Health::Down),
            candidate(2, 0, Admin::Drain, Health::Up),
        ];
        assert_eq!((tier_in_use(&all), ids(&all)), (None, vec![0, 1]));
    }
}
