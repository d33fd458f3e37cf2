//! Which tunnel gets which id.
//!
//! Ids decide where the hash puts flows, so they must not depend on the order
//! of listing: two machines with the same names get the same ids.

use std::collections::BTreeMap;

use steer_common::abi::{TUNNEL_ID_MAX, TunnelId};

use super::{Existing, PlanError, TunnelRequest};

/// Ids in the order of `specs`. In turn, and in the order of names: the id that
/// was given; the id that the tunnel has; the number that its name ends in; the
/// smallest that is free, preferably one that no flow can still refer to.
pub(super) fn assign(
    specs: &[TunnelRequest],
    existing: &Existing,
    group: &str,
    notes: &mut Vec<String>,
) -> Result<Vec<TunnelId>, PlanError> {
    // The tunnel maps are shared by all groups, so other groups' ids are taken.
    let mut taken: BTreeMap<TunnelId, &str> = existing
        .tunnels()
        .filter(|(other, _)| other.name != group)
        .map(|(_, tunnel)| (tunnel.id, tunnel.name.as_str()))
        .collect();
    let own: BTreeMap<&str, TunnelId> = existing
        .tunnels()
        .filter(|(other, _)| other.name == group)
        .map(|(_, tunnel)| (tunnel.name.as_str(), tunnel.id))
        .collect();
    // Of tunnels that leave other groups, too: one that changes its group keeps its number.
    let former = existing.former.iter().map(|t| (t.name.as_str(), t.id));
    let used: BTreeMap<&str, TunnelId> = former.chain(own.clone()).collect();
    let mut ids: BTreeMap<&str, TunnelId> = BTreeMap::new();
    let mut sorted: Vec<&TunnelRequest> = specs.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));

    for spec in &sorted {
        let Some(id) = spec.id else { continue };
        if let Some(holder) = taken.insert(id, &spec.name) {
            let (name, holder) = (spec.name.clone(), holder.to_owned());
            return Err(PlanError::IdTaken { id, name, holder });
        }
        ids.insert(&spec.name, id);
    }
    let kept = |spec: &TunnelRequest| used.get(spec.name.as_str()).copied();
    for wish in [
        &kept as &dyn Fn(&TunnelRequest) -> Option<TunnelId>,
        &|spec| number(&spec.name),
    ] {
        for spec in &sorted {
            if ids.contains_key(spec.name.as_str()) {
                continue;
            }
            if let Some(id) = wish(spec).filter(|id| !taken.contains_key(id)) {
                taken.insert(id, &spec.name);
                ids.insert(&spec.name, id);
            }
        }
    }
    for spec in &sorted {
        if ids.contains_key(spec.name.as_str()) {
            continue;
        }
        let free = || (0..=TUNNEL_ID_MAX).filter(|id| !taken.contains_key(id));
        let id = free()
            .find(|id| !used.values().any(|used| used == id))
            .or_else(|| free().next())
            .ok_or(PlanError::NoFreeId)?;
        taken.insert(id, &spec.name);
        ids.insert(&spec.name, id);
    }

    for (name, old) in &own {
        if let Some(new) = ids.get(name).filter(|new| *new != old) {
            notes.push(format!(
                "tunnel {name}: its id changes from {old} to {new}; its live flows are placed again"
            ));
        }
    }
    Ok(specs.iter().map(|spec| ids[spec.name.as_str()]).collect())
}

/// The number that a name ends in, if it is a possible id.
fn number(name: &str) -> Option<TunnelId> {
    let digits = name.bytes().rev().take_while(u8::is_ascii_digit).count();
    name[name.len() - digits..]
        .parse()
        .ok()
        .filter(|id| *id <= TUNNEL_ID_MAX)
}

#[cfg(test)]
mod tests {
    use steer_common::abi::{Admin, Health};

    use super::super::{ExistingGroup, ExistingTunnel, TunnelSpec};
    use super::*;

    fn specs(texts: &[&str]) -> Vec<TunnelRequest> {
        let parse = |text: &&str| text.parse::<TunnelSpec>().expect("a tunnel").into();
        texts.iter().map(parse).collect()
    }

    fn existing(group: &str, tunnels: &[(&str, TunnelId)]) -> Existing {
        let tunnels = tunnels
            .iter()
            .map(|(name, id)| ExistingTunnel {
                name: (*name).into(),
                id: *id,
                weight: 1,
                tier: 0,
                admin: Admin::Active,
                health: Health::Up,
                rp_filter_before: 0,
            })
            .collect();
        Existing {
            groups: vec![ExistingGroup {
                name: group.into(),
                tunnels,
                ..ExistingGroup::default()
            }],
            ..Existing::default()
        }
    }

    fn ids(texts: &[&str], existing: &Existing) -> Vec<TunnelId> {
        assign(&specs(texts), existing, "g", &mut Vec::new()).expect("ids")
    }

    #[test]
    fn the_order_of_listing_does_not_matter() {
        let none = Existing::default();
        assert_eq!(ids(&["wg0", "wg7", "alpha", "beta"], &none), [0, 7, 1, 2]);
        assert_eq!(ids(&["beta", "alpha", "wg7", "wg0"], &none), [2, 1, 7, 0]);
        // Two names end in 1: the first by name has it.
        assert_eq!(ids(&["wg1", "vpn1"], &none), [0, 1]);
        assert_eq!(ids(&["wg1@5", "vpn1"], &none), [5, 1]);
        assert_eq!(
            ids(&["wg255", "wg254", "wg0999999999999"], &none),
            [1, 254, 0]
        );
    }

    #[test]
    fn an_id_is_kept() {
        let before = existing("g", &[("alpha", 3), ("beta", 0)]);
        assert_eq!(ids(&["beta", "alpha", "aaa"], &before), [0, 3, 1]);
        // beta's id is not given to another: its flows may still be there.
        assert_eq!(ids(&["alpha", "aaa"], &before), [3, 1]);
    }

    #[test]
    fn taken() {
        let before = existing("other", &[("vpn", 1)]);
        assert_eq!(ids(&["wg1"], &before), [0]);
        let error = assign(&specs(&["wg1@1"]), &before, "g", &mut Vec::new()).expect_err("taken");
        assert_eq!(error.to_string(), "tunnel wg1: id 1 is taken by tunnel vpn");
        let error = assign(
            &specs(&["a@1", "b@1"]),
            &Existing::default(),
            "g",
            &mut Vec::new(),
        )
        .expect_err("twice");
        assert_eq!(error.to_string(), "tunnel b: id 1 is taken by tunnel a");
    }

    #[test]
    fn a_new_id_is_noted() {
        let before = existing("g", &[("wg0", 0)]);
        let mut notes = Vec::new();
        assign(&specs(&["wg0@9"]), &before, "g", &mut notes).expect("ids");
        assert_eq!(
            notes,
            ["tunnel wg0: its id changes from 0 to 9; its live flows are placed again"]
        );
    }

    #[test]
    fn no_id_is_free() {
        let names: Vec<String> = (0..=254).map(|id| format!("t{id}")).collect();
        let full: Vec<(&str, TunnelId)> = names
            .iter()
            .zip(0..=254)
            .map(|(name, id)| (name.as_str(), id))
            .collect();
        let error = assign(
            &specs(&["x"]),
            &existing("other", &full),
            "g",
            &mut Vec::new(),
        )
        .expect_err("full");
        assert_eq!(
            error.to_string(),
            "no tunnel id is free: there are 255 tunnels"
        );
    }
}
