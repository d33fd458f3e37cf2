//! Random changes.

use std::process::Command;

use steer_common::abi::{Admin, TunnelId};
use steer_tests::packets::random::Random;
use steer_tests::steerctl::Gateway;

use crate::state::{State, Tunnel};

/// What an operator does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// `steerctl weights`.
    Weights(Vec<(TunnelId, u32)>),
    /// `steerctl drain`, `disable` or `enable`.
    Admin(Admin, TunnelId),
    /// `steerctl attach --config`.
    Attach,
    /// SIGHUP.
    Reload,
    /// Another `steerctl run --config`.
    Restart,
}

/// Tunnels of the group, of which `wg0` always stays.
const TUNNELS: TunnelId = 4;
const PREFIXES: [&str; 3] = ["10.10.0.0/16", "10.11.0.0/16", "10.12.4.0/24"];

fn weight(random: &mut Random) -> u32 {
    u32::try_from(random.below(8)).unwrap_or(0)
}

/// A file: `wg0` and the prefix of the traffic are always in it.
pub(crate) fn file(random: &mut Random) -> State {
    let mut tunnels = std::collections::BTreeMap::new();
    for id in 0..TUNNELS {
        if id == 0 || !random.one_in(4) {
            let weight = weight(random) + u32::from(id == 0);
            let admin = Admin::Active;
            tunnels.insert(id, Tunnel { weight, admin });
        }
    }
    let some = PREFIXES.into_iter().filter(|_| random.one_in(2));
    let prefixes = ["10.2.0.0/16"].into_iter().chain(some);
    State {
        tunnels,
        prefixes: prefixes.map(ToOwned::to_owned).collect(),
        east: random.one_in(2),
    }
}

/// One that can be made of what there is.
pub(crate) fn any(random: &mut Random, now: &State) -> Change {
    match random.below(10) {
        0 => Change::Attach,
        1 => Change::Restart,
        2..=4 => Change::Reload,
        _ => small(random, now),
    }
}

/// One of weights or of an admin state.
pub(crate) fn small(random: &mut Random, now: &State) -> Change {
    let ids: Vec<_> = now.tunnels.keys().copied().collect();
    let others: Vec<_> = ids.iter().copied().filter(|id| *id != 0).collect();
    if random.one_in(2) || others.is_empty() {
        let some = ids
            .into_iter()
            .filter(|id| *id == 0 || random.one_in(2))
            .collect::<Vec<_>>();
        let weight = |id| (id, weight(random) + u32::from(id == 0));
        return Change::Weights(some.into_iter().map(weight).collect());
    }
    let id = random.pick(&others);
    let admin = match now.tunnels.get(&id).map(|tunnel| tunnel.admin) {
        Some(Admin::Active) => random.pick(&[Admin::Drain, Admin::Disabled]),
        _ => Admin::Active,
    };
    Change::Admin(admin, id)
}

impl Change {
    /// What there is when all of it is done.
    pub(crate) fn after(&self, now: &State, file: &State) -> State {
        let mut after = now.clone();
        match self {
            Self::Weights(weights) => {
                for (id, weight) in weights {
                    if let Some(tunnel) = after.tunnels.get_mut(id) {
                        tunnel.weight = *weight;
                    }
                }
            }
            Self::Admin(admin, id) => {
                if let Some(tunnel) = after.tunnels.get_mut(id) {
                    tunnel.admin = *admin;
                }
            }
            Self::Attach | Self::Reload | Self::Restart => after = now.by(file),
        }
        after
    }

    /// Whether the file is carried out.
    pub(crate) fn is_by_file(&self) -> bool {
        matches!(self, Self::Attach | Self::Reload | Self::Restart)
    }

    /// The verb that does it, if one does that ends.
    pub(crate) fn command(&self, gateway: &Gateway, file: &str) -> Option<Command> {
        let mut command = gateway.command();
        match self {
            Self::Weights(weights) => {
                let given = weights
                    .iter()
                    .map(|(id, weight)| format!("wg{id}={weight}"));
                command.arg("weights").args(given)
            }
            Self::Admin(admin, id) => {
                let verb = match admin {
                    Admin::Drain => "drain",
                    Admin::Disabled => "disable",
                    Admin::Active | Admin::Absent => "enable",
                };
                command.args([verb, &format!("wg{id}")])
            }
            Self::Attach => command.args(["attach", "--config", file]),
            Self::Reload | Self::Restart => return None,
        };
        Some(command)
    }

    /// What takes about as long as another one.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Weights(_) | Self::Admin(..) => "small",
            Self::Attach => "attach",
            Self::Reload => "reload",
            Self::Restart => "restart",
        }
    }
}
