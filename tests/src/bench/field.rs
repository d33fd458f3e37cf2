//! One configuration of the lab: two gateways, on both of which the same system steers.

use anyhow::Result;

use super::peers::{Member, Peer, Remote};
use crate::lab::{Lab, NoHash, Options, Setup, Side, Steer, firewall, tunnel_name};
use crate::traffic::Server;

/// The lab's name: one benchmark at a time.
pub(super) const NAME: &str = "bench-field";
/// Numbers from which a lab's flows can start: enough are left for the flows of one round.
const FIRST_FLOWS: u64 = 100_000;
/// Of a tunnel where its rate is not what is measured.
const RATE_MBIT: u32 = 25;

/// How a field is built.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Tunnels.
    pub(super) tunnels: usize,
    /// Rate of each.
    pub(super) rate_mbit: u32,
    /// Whether gateway A gives what leaves by a tunnel the tunnel's address.
    pub(super) masquerade: bool,
    /// What ports and hashes follow from.
    pub(super) seed: u64,
}

impl Shape {
    /// Without NAT, of tunnels whose rate is not what is measured.
    pub(super) fn of(tunnels: usize, seed: u64) -> Self {
        Self {
            tunnels,
            rate_mbit: RATE_MBIT,
            masquerade: false,
            seed,
        }
    }

    /// Another one for each gateway: those of one kernel share the key of the multipath hash, and would choose
    /// alike by accident.
    fn seed_of(&self, side: Side) -> u32 {
        let seed = u32::try_from(self.seed % (1 << 30)).expect("30 bits");
        match side {
            Side::A => 2 * seed + 1,
            Side::B => 2 * seed + 2,
        }
    }
}

/// The lab with a system. Fields are dropped in this order.
pub(super) struct Field {
    steers: Option<[Steer; 2]>,
    _no_hash: NoHash,
    /// The server behind gateway B.
    pub(super) server: Server,
    /// The lab.
    pub(super) lab: Lab,
    peer: Peer,
    shape: Shape,
    /// What gateway A uses.
    members: Vec<Member>,
}

impl Field {
    /// A fresh lab: what another system left, even a policy rule that is gone, would be measured, too.
    pub(super) fn up(peer: Peer, shape: Shape) -> Result<Self> {
        let options = Options {
            tunnels: shape.tunnels,
            rate_mbit: shape.rate_mbit,
        };
        let lab = Lab::up(NAME, &options)?;
        lab.number_from(u32::try_from(shape.seed % FIRST_FLOWS)?);
        let no_hash = NoHash::attach(&lab)?;
        for side in [Side::A, Side::B] {
            let gateway = lab.gateway(side);
            let seed = shape.seed_of(side).to_string();
            gateway.sysctls(&[("ipv4/fib_multipath_hash_seed", &seed)])?;
            peer.set_up(gateway, &remote(&shape, side), 0)?;
        }
        if shape.masquerade {
            firewall::masquerade(lab.gateway(Side::A), shape.tunnels)?;
        }
        let server = Server::start(&lab)?;
        let members = Member::all(shape.tunnels);
        let steers = match peer.hook() {
            Some(hook) => Some(Steer::start_both(&lab, |side| {
                setup(hook, &members, &shape, side)
            })?),
            None => None,
        };
        Ok(Self {
            steers,
            _no_hash: no_hash,
            server,
            lab,
            peer,
            shape,
            members,
        })
    }

    /// steer on both gateways, if it is steer.
    pub(super) fn steers(&self) -> &[Steer] {
        self.steers.as_ref().map_or(&[], |both| both)
    }

    /// Tells gateway A that other tunnels are in use now, with other weights, or in another order.
    pub(super) fn change(&mut self, to: &[Member]) -> Result<()> {
        let before = std::mem::replace(&mut self.members, to.to_vec());
        let (Some([near, _]), Some(hook)) = (&mut self.steers, self.peer.hook()) else {
            let gateway = self.lab.gateway(Side::A);
            return (self.peer).change(gateway, &remote(&self.shape, Side::A), to);
        };
        match step(&before, to) {
            Step::Order => near.run_as(&setup(hook, to, &self.shape, Side::A)),
            Step::Weights => {
                let names: Vec<_> = to
                    .iter()
                    .map(|member| (tunnel_name(member.tunnel), member.weight))
                    .collect();
                let shares: Vec<_> = names.iter().map(|(name, w)| (name.as_str(), *w)).collect();
                near.weights(&shares).map(drop)
            }
            Step::Members => {
                for k in 0..self.shape.tunnels {
                    let is_in = |all: &[Member]| all.iter().any(|member| member.tunnel == k);
                    match (is_in(&before), is_in(to)) {
                        (true, false) => near.disable(&tunnel_name(k))?,
                        (false, true) => near.enable(&tunnel_name(k))?,
                        _ => {}
                    }
                }
                Ok(())
            }
        }
    }
}

/// What a change is for who runs `steerctl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Tunnels come or go.
    Members,
    /// Weights change.
    Weights,
    /// The same is listed in another order.
    Order,
}

fn step(before: &[Member], after: &[Member]) -> Step {
    let sorted = |all: &[Member]| {
        let mut all: Vec<_> = all.iter().map(|one| (one.tunnel, one.weight)).collect();
        all.sort_unstable();
        all
    };
    if sorted(before) == sorted(after) {
        Step::Order
    } else if before.len() == after.len() {
        Step::Weights
    } else {
        Step::Members
    }
}

/// How steer is started.
fn setup(hook: &str, members: &[Member], shape: &Shape, side: Side) -> Setup {
    let mut weights = vec![1; shape.tunnels];
    for member in members {
        weights[member.tunnel] = member.weight;
    }
    Setup::new(&weights)
        .order(members.iter().map(|member| member.tunnel).collect())
        .seed(shape.seed_of(side).into())
        .args(&["--hook", hook])
}

/// What is behind the tunnels of a gateway.
fn remote(shape: &Shape, side: Side) -> Remote {
    let [prefix, _] = side.other().prefixes();
    Remote {
        ipv6: false,
        tunnels: (0..shape.tunnels).map(tunnel_name).collect(),
        prefixes: vec![prefix],
        seed: shape.seed_of(side),
        ..Remote::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_apart() {
        let member = |tunnel, weight| Member { tunnel, weight };
        let all = Member::all(2);
        assert_eq!(step(&all, &[member(1, 1), member(0, 1)]), Step::Order);
        assert_eq!(step(&all, &[member(0, 3), member(1, 1)]), Step::Weights);
        assert_eq!(step(&all, &all[..1]), Step::Members);
        assert_eq!(step(&all[..1], &all), Step::Members);
    }

    #[test]
    fn gateways_do_not_hash_alike() {
        for seed in [0, 1, u64::MAX] {
            let shape = Shape::of(2, seed);
            assert_ne!(shape.seed_of(Side::A), shape.seed_of(Side::B));
        }
        let other = Shape::of(2, 1).seed_of(Side::A);
        assert_ne!(Shape::of(2, 2).seed_of(Side::A), other);
    }

    #[test]
    fn a_tunnel_in_the_middle_may_be_missing() {
        let members = [0, 2].map(|tunnel| Member { tunnel, weight: 1 });
        let text = format!("{:?}", setup("auto", &members, &Shape::of(4, 0), Side::A));
        assert!(text.contains("order: Some([0, 2])"), "{text}");
    }
}
