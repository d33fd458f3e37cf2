//! Changing weights and admin states of tunnels that are there.

use steer_common::abi::{Admin, GroupId, Health, TunnelId};

use super::{Candidate, Existing, ExistingGroup, ExistingTunnel, PlanError, WeightSpec, shares};

/// A group's tunnels before and after.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The group's name.
    pub group: String,
    /// The group's number.
    pub group_id: GroupId,
    /// All its tunnels, in the order of their ids.
    pub tunnels: Vec<TunnelChange>,
    /// What the operator should know.
    pub notes: Vec<String>,
}

/// A tunnel before and after.
#[derive(Clone, Debug, PartialEq)]
pub struct TunnelChange {
    /// Its name.
    pub name: String,
    /// Its number.
    pub id: TunnelId,
    /// Weight before.
    pub weight_old: u32,
    /// Weight after.
    pub weight: u32,
    /// Admin state before.
    pub admin_old: Admin,
    /// Admin state after.
    pub admin: Admin,
    /// Share of new flows before, 0 to 1.
    pub share_old: f64,
    /// Share of new flows after.
    pub share: f64,
}

impl Change {
    /// Whether anything changes.
    pub fn is_change(&self) -> bool {
        self.tunnels
            .iter()
            .any(|tunnel| tunnel.weight != tunnel.weight_old || tunnel.admin != tunnel.admin_old)
    }

    /// The number of one of its tunnels.
    pub fn id_of(&self, name: &str) -> Result<TunnelId, PlanError> {
        let mut tunnels = self.tunnels.iter();
        let found = tunnels.find(|tunnel| tunnel.name == name);
        found
            .map(|tunnel| tunnel.id)
            .ok_or_else(|| PlanError::NoSuchTunnel {
                name: name.to_owned(),
                existing: self.tunnels.iter().map(|t| t.name.clone()).collect(),
            })
    }

    /// The way back.
    #[must_use]
    pub fn undone(&self) -> Self {
        let back = |tunnel: &TunnelChange| TunnelChange {
            weight: tunnel.weight_old,
            weight_old: tunnel.weight,
            admin: tunnel.admin_old,
            admin_old: tunnel.admin,
            share: tunnel.share_old,
            share_old: tunnel.share,
            ..tunnel.clone()
        };
        Self {
            tunnels: self.tunnels.iter().map(back).collect(),
            ..self.clone()
        }
    }
}

/// New weights for some tunnels of one group; none to see how things are.
///
/// Without `group`, the group is that of the tunnels, or the only one.
pub fn change_weights(
    existing: &Existing,
    group: Option<&str>,
    wanted: &[WeightSpec],
) -> Result<Change, PlanError> {
    let group = match (group, wanted) {
        (Some(name), _) => existing.group(name)?,
        (None, [first, ..]) => existing.tunnel(&first.name)?.0,
        (None, []) => match existing.groups.as_slice() {
            [only] => only,
            several => {
                let existing = several.iter().map(|group| group.name.clone()).collect();
                return Err(PlanError::GroupNeeded { existing });
            }
        },
    };
    for (index, spec) in wanted.iter().enumerate() {
        if wanted[..index]
            .iter()
            .any(|earlier| earlier.name == spec.name)
        {
            return Err(PlanError::DuplicateTunnel {
                name: spec.name.clone(),
            });
        }
        let (of, _) = existing.tunnel(&spec.name)?;
        if of.name != group.name {
            return Err(PlanError::TunnelNotInGroup {
                name: spec.name.clone(),
                group: of.name.clone(),
                wanted: group.name.clone(),
            });
        }
    }
    let weight = |tunnel: &ExistingTunnel| {
        wanted
            .iter()
            .find(|spec| spec.name == tunnel.name)
            .map_or(tunnel.weight, |spec| spec.weight)
    };
    if !wanted.is_empty() && group.tunnels.iter().all(|tunnel| weight(tunnel) == 0) {
        return Err(PlanError::AllWeightsZero {
            group: group.name.clone(),
        });
    }
    Ok(change(group, |tunnel| (weight(tunnel), tunnel.admin)))
}

/// A tunnel gets no new flows, unless no other one of its group would take them either.
pub(super) fn drain(existing: &Existing, name: &str, force: bool) -> Result<Change, PlanError> {
    let change = change_admin(existing, name, Admin::Drain)?;
    let takes_any = |share: fn(&TunnelChange) -> f64| change.tunnels.iter().any(|t| share(t) > 0.0);
    if !force && takes_any(|t| t.share_old) && !takes_any(|t| t.share) {
        let (group, _) = existing.tunnel(name)?;
        return Err(PlanError::LastTunnel {
            name: name.to_owned(),
            group: group.name.clone(),
            others: group
                .tunnels
                .iter()
                .filter(|tunnel| tunnel.name != name)
                .map(|tunnel| format!("{} {}", tunnel.name, why_not_used(tunnel)))
                .collect(),
        });
    }
    Ok(change)
}

/// A tunnel in drain gets new flows again.
pub fn undrain(existing: &Existing, name: &str) -> Result<Change, PlanError> {
    let (_, tunnel) = existing.tunnel(name)?;
    if tunnel.admin == Admin::Disabled {
        return Err(PlanError::IsDisabled {
            name: name.to_owned(),
        });
    }
    change_admin(existing, name, Admin::Active)
}

/// Why a tunnel takes no new flows.
fn why_not_used(tunnel: &ExistingTunnel) -> String {
    match (tunnel.admin, tunnel.health) {
        (Admin::Drain, _) => "is in drain".into(),
        (Admin::Active, Health::Down) => "is down".into(),
        (Admin::Active, _) => "has weight 0".into(),
        (admin, _) => format!("is {}", admin.name()),
    }
}

/// A new admin state for one tunnel.
pub fn change_admin(existing: &Existing, name: &str, admin: Admin) -> Result<Change, PlanError> {
    let (group, _) = existing.tunnel(name)?;
    Ok(change(group, |tunnel| {
        (
            tunnel.weight,
            if tunnel.name == name {
                admin
            } else {
                tunnel.admin
            },
        )
    }))
}

fn change(group: &ExistingGroup, after: impl Fn(&ExistingTunnel) -> (u32, Admin)) -> Change {
    let usable = |admin, health| admin == Admin::Active && health != Health::Down;
    let share = |of: &dyn Fn(&ExistingTunnel) -> (u32, Admin)| {
        shares(group.tunnels.iter().map(|tunnel| {
            let (weight, admin) = of(tunnel);
            let takes_new_flows = usable(admin, tunnel.health);
            Candidate {
                weight,
                tier: tunnel.tier,
                takes_new_flows,
            }
        }))
    };
    let shares_old = share(&|tunnel| (tunnel.weight, tunnel.admin));
    let shares_new = share(&after);
    let mut tunnels: Vec<TunnelChange> = group
        .tunnels
        .iter()
        .zip(shares_old.into_iter().zip(shares_new))
        .map(|(tunnel, (share_old, share))| {
            let (weight, admin) = after(tunnel);
            TunnelChange {
                name: tunnel.name.clone(),
                id: tunnel.id,
                weight_old: tunnel.weight,
                weight,
                admin_old: tunnel.admin,
                admin,
                share_old,
                share,
            }
        })
        .collect();
    tunnels.sort_by_key(|tunnel| tunnel.id);
    let mut notes = Vec::new();
    if tunnels.iter().all(|tunnel| tunnel.share == 0.0) {
        notes.push(format!(
            "no tunnel of group {} can get new flows; their packets are left to the kernel (no_tunnel)",
            group.name
        ));
    }
    Change {
        group: group.name.clone(),
        group_id: group.id,
        tunnels,
        notes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn existing() -> Existing {
        let tunnel = |name: &str, id, weight| ExistingTunnel {
            name: name.into(),
            id,
            weight,
            tier: 0,
            admin: Admin::Active,
            health: Health::Up,
            rp_filter_before: 0,
        };
        let group = |name: &str, id, tunnels| ExistingGroup {
            name: name.into(),
            id,
            tunnels,
            ..ExistingGroup::default()
        };
        Existing {
            groups: vec![
                group("default", 0, vec![tunnel("wg1", 1, 1), tunnel("wg0", 0, 1)]),
                group("site", 1, vec![tunnel("wg2", 2, 4)]),
            ],
            ..Existing::default()
        }
    }

    fn weights(texts: &[&str], group: Option<&str>) -> Result<Change, PlanError> {
        let wanted: Vec<WeightSpec> = texts
            .iter()
            .map(|text| text.parse().expect("a weight"))
            .collect();
        change_weights(&existing(), group, &wanted)
    }

    #[test]
    fn new_weights() {
        let change = weights(&["wg0=3"], None).expect("valid");
        assert!(change.is_change() && change.notes.is_empty());
        let rows: Vec<_> = change
            .tunnels
            .iter()
            .map(|t| {
                (
                    t.name.as_str(),
                    t.weight_old,
                    t.weight,
                    t.share_old,
                    t.share,
                )
            })
            .collect();
        assert_eq!(rows, [("wg0", 1, 3, 0.5, 0.75), ("wg1", 1, 1, 0.5, 0.25)]);
        assert!(!weights(&[], Some("site")).expect("valid").is_change());
        let back = change.undone();
        let rows: Vec<_> = back
            .tunnels
            .iter()
            .map(|t| (t.weight_old, t.weight, t.share))
            .collect();
        assert_eq!(rows, [(3, 1, 0.5), (1, 1, 0.5)]);
    }

    #[test]
    fn refusals() {
        let message =
            |texts: &[&str], group| weights(texts, group).expect_err("refused").to_string();
        assert_eq!(
            message(&["wg0=0", "wg1=0"], None),
            "group default: all weights are 0, so no tunnel could get new flows"
        );
        assert_eq!(message(&["wg9=1"], None), "tunnel wg9: no such tunnel");
        assert_eq!(message(&["wg0=1"], Some("x")), "group x: no such group");
        assert_eq!(
            message(&["wg0=1", "wg0=2"], None),
            "tunnel wg0: given twice"
        );
        assert_eq!(
            message(&["wg0=1", "wg2=2"], None),
            "tunnel wg2: is in group site, not in default"
        );
        assert_eq!(message(&[], None), "there are 2 groups");
        let error = weights(&[], None).expect_err("refused");
        assert_eq!(
            error.hint().as_deref(),
            Some("name one with --group: default, site")
        );
        let error = weights(&["wg9=1"], None).expect_err("refused");
        assert_eq!(error.hint().as_deref(), Some("existing: wg1, wg0, wg2"));
    }

    #[test]
    fn admin_states() {
        let change = change_admin(&existing(), "wg0", Admin::Disabled).expect("valid");
        assert_eq!(
            (change.tunnels[0].share_old, change.tunnels[0].share),
            (0.5, 0.0)
        );
        assert_eq!(change.tunnels[1].share.to_bits(), 1.0_f64.to_bits());
        let change = change_admin(&existing(), "wg2", Admin::Disabled).expect("valid");
        assert_eq!(
            change.notes,
            [
                "no tunnel of group site can get new flows; their packets are left to the kernel (no_tunnel)"
            ]
        );
        assert!(change_admin(&existing(), "wg7", Admin::Active).is_err());
    }

    #[test]
    fn the_last_tunnel_is_not_drained() {
        let drained = |existing: &Existing, name, force| drain(existing, name, force);
        let mut all = existing();
        let change = drained(&all, "wg0", false).expect("wg1 is there");
        assert_eq!(change.tunnels[0].admin, Admin::Drain);
        let error = drained(&all, "wg2", false).expect_err("alone");
        assert_eq!(
            error.to_string(),
            "tunnel wg2: is the last of group site that takes new flows"
        );
        assert_eq!(
            error.hint().as_deref(),
            Some("it has no other tunnel; drain wg2 --force leaves new flows to the kernel")
        );
        assert!(drained(&all, "wg2", true).is_ok());
        all.groups[0].tunnels[0].health = Health::Down;
        let error = drained(&all, "wg0", false).expect_err("wg1 is down");
        assert_eq!(
            error.hint().as_deref(),
            Some("wg1 is down; drain wg0 --force leaves new flows to the kernel")
        );
        // It takes none anyway: to drain it as well changes nothing for them.
        all.groups[0].tunnels[1].weight = 0;
        assert!(drained(&all, "wg0", false).is_ok());
        assert!(drained(&all, "wg9", false).is_err());
    }

    #[test]
    fn undrained() {
        let mut all = existing();
        assert!(!undrain(&all, "wg0").expect("active").is_change());
        all.groups[0].tunnels[0].admin = Admin::Drain;
        assert!(undrain(&all, "wg1").expect("in drain").is_change());
        all.groups[0].tunnels[0].admin = Admin::Disabled;
        let error = undrain(&all, "wg1").expect_err("disabled");
        assert_eq!(
            (error.to_string().as_str(), error.hint().as_deref()),
            (
                "tunnel wg1: is disabled, not in drain",
                Some("steerctl enable wg1")
            )
        );
    }
}
