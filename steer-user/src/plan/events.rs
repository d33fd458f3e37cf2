//! What a change is told as: the difference between what was and what is, as events.

use ipnet::IpNet;
use steer_common::abi::{
    Cause, Event, EventKind, GroupId, Hook, HookKey, NAME_BYTES, address_bytes,
};

use super::{Existing, ExistingGroup, ExistingTunnel};

/// More prefixes than this are told as one event, so that they do not push all others out.
const PREFIXES_TOLD: usize = 32;

/// Everything that differs between two moments, in the order of groups and tunnels. Health and devices are
/// not here: whoever sees them change knows more of it.
pub fn changes(before: &Existing, after: &Existing, cause: Cause) -> Vec<Event> {
    let mut events = Vec::new();
    let nothing = ExistingGroup::default();
    let of = |all: &Existing, name: &str| all.find_group(name).cloned();
    for group in &before.groups {
        if of(after, &group.name).is_none() {
            of_group(group.id, group, &nothing, cause, &mut events);
        }
    }
    for group in &after.groups {
        let known = of(before, &group.name).unwrap_or_default();
        of_group(group.id, &known, group, cause, &mut events);
    }
    events
}

fn of_group(
    id: GroupId,
    before: &ExistingGroup,
    after: &ExistingGroup,
    cause: Cause,
    events: &mut Vec<Event>,
) {
    let event = |kind| Event {
        group: id.into(),
        ..Event::new(kind, cause)
    };
    let of_tunnel = |kind, tunnel: &ExistingTunnel| Event {
        tunnel: tunnel.id.into(),
        name: encode_name(&tunnel.name),
        ..event(kind)
    };
    let is_in = |group: &ExistingGroup, tunnel: &ExistingTunnel| {
        let same = |other: &&ExistingTunnel| other.id == tunnel.id && other.name == tunnel.name;
        group.tunnels.iter().find(same).cloned()
    };
    for tunnel in &before.tunnels {
        if is_in(after, tunnel).is_none() {
            events.push(of_tunnel(EventKind::TunnelRemoved, tunnel));
        }
    }
    for tunnel in &after.tunnels {
        let Some(known) = is_in(before, tunnel) else {
            events.push(Event {
                after: tunnel.weight,
                ..of_tunnel(EventKind::TunnelAdded, tunnel)
            });
            continue;
        };
        for (kind, before, after) in [
            (EventKind::WeightChanged, known.weight, tunnel.weight),
            (EventKind::TierChanged, known.tier, tunnel.tier),
            (
                EventKind::AdminChanged,
                u32::from(known.admin as u8),
                u32::from(tunnel.admin as u8),
            ),
        ] {
            if before != after {
                events.push(Event {
                    before,
                    after,
                    ..of_tunnel(kind, tunnel)
                });
            }
        }
    }
    events.extend(of_prefixes(before, after, event));
}

fn of_prefixes(
    before: &ExistingGroup,
    after: &ExistingGroup,
    event: impl Fn(EventKind) -> Event,
) -> Vec<Event> {
    let missing = |from: &ExistingGroup, other: &ExistingGroup| -> Vec<IpNet> {
        let other: std::collections::BTreeSet<_> = other.prefixes.iter().collect();
        let gone = |prefix: &&IpNet| !other.contains(prefix);
        from.prefixes.iter().filter(gone).copied().collect()
    };
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let (gone, new) = (missing(before, after), missing(after, before));
    if gone.len() + new.len() > PREFIXES_TOLD {
        return vec![Event {
            before: number(before.prefixes.len()),
            after: number(after.prefixes.len()),
            count: number(gone.len() + new.len()),
            ..event(EventKind::RoutesChanged)
        }];
    }
    let gone = gone.iter().map(|prefix| Event {
        name: address_bytes(prefix.network()),
        before: prefix.prefix_len().into(),
        ..event(EventKind::PrefixRemoved)
    });
    let new = new.iter().map(|prefix| Event {
        name: address_bytes(prefix.network()),
        after: prefix.prefix_len().into(),
        ..event(EventKind::PrefixAdded)
    });
    gone.chain(new).collect()
}

/// The programs that came and went, by device. One that was replaced in place is neither.
pub fn hook_changes(
    before: &[(HookKey, Hook)],
    after: &[(HookKey, Hook)],
    cause: Cause,
) -> Vec<Event> {
    let missing = |from: &[(HookKey, Hook)], other: &[(HookKey, Hook)]| {
        let mut gone = from.to_vec();
        gone.retain(|(key, _)| other.iter().all(|(known, _)| known != key));
        gone
    };
    let event = |kind, hook: &Hook| Event {
        group: hook.group,
        name: hook.name,
        ..Event::new(kind, cause)
    };
    let gone = missing(before, after).into_iter();
    let gone = gone.map(|(key, hook)| Event {
        before: key.kind as u32,
        ..event(EventKind::Detached, &hook)
    });
    let new = missing(after, before).into_iter();
    gone.chain(new.map(|(key, hook)| Event {
        after: key.kind as u32,
        ..event(EventKind::Attached, &hook)
    }))
    .collect()
}

/// A name as the maps keep it; names are checked for length when they are given.
pub fn encode_name(name: &str) -> [u8; NAME_BYTES] {
    let mut bytes = [0; NAME_BYTES];
    for (to, from) in bytes.iter_mut().zip(name.bytes().take(NAME_BYTES - 1)) {
        *to = from;
    }
    bytes
}

/// A name that the maps keep.
pub fn decode_name(bytes: &[u8; NAME_BYTES]) -> String {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(NAME_BYTES);
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use steer_common::abi::{Admin, AttachKind, Health, HookKind, HookOrder};

    use super::*;

    fn tunnel(name: &str, id: u8, weight: u32) -> ExistingTunnel {
        ExistingTunnel {
            name: name.into(),
            id,
            weight,
            tier: 0,
            admin: Admin::Active,
            health: Health::Up,
            rp_filter_before: 0,
        }
    }

    fn existing(tunnels: &[ExistingTunnel], prefixes: &[&str]) -> Existing {
        Existing {
            groups: vec![ExistingGroup {
                name: "default".into(),
                id: 4,
                tunnels: tunnels.to_vec(),
                prefixes: prefixes
                    .iter()
                    .map(|text| text.parse().expect("a prefix"))
                    .collect(),
                ..ExistingGroup::default()
            }],
            ..Existing::default()
        }
    }

    fn told(before: &Existing, after: &Existing) -> Vec<String> {
        let event = |event: Event| {
            assert_eq!((event.group, event.cause), (4, Cause::Config));
            let name = match event.kind {
                EventKind::PrefixAdded | EventKind::PrefixRemoved => {
                    IpAddr::from(event.name).to_canonical().to_string()
                }
                _ => decode_name(&event.name),
            };
            let (before, after) = (event.before, event.after);
            format!(
                "{} {name} {before} {after} {}",
                event.kind.name(),
                event.count
            )
        };
        let events = changes(before, after, Cause::Config);
        events.into_iter().map(event).collect()
    }

    #[test]
    fn differences() {
        let before = existing(
            &[tunnel("wg0", 0, 1), tunnel("wg1", 1, 1)],
            &["10.2.0.0/16", "fd00:2::/64"],
        );
        let mut after = existing(
            &[tunnel("wg2", 1, 5), tunnel("wg0", 0, 3)],
            &["10.3.0.0/16", "10.2.0.0/16"],
        );
        after.groups[0].tunnels[1].admin = Admin::Drain;
        after.groups[0].tunnels[1].tier = 2;
        assert_eq!(told(&before, &before), [""; 0]);
        assert_eq!(
            told(&before, &after),
            [
                "tunnel_removed wg1 0 0 0",
                "tunnel_added wg2 0 5 0",
                "weight_changed wg0 1 3 0",
                "tier_changed wg0 0 2 0",
                "admin_changed wg0 1 2 0",
                "prefix_removed fd00:2:: 64 0 0",
                "prefix_added 10.3.0.0 0 16 0",
            ]
        );
    }

    #[test]
    fn all_of_it_is_new_or_gone() {
        let some = existing(&[tunnel("wg0", 0, 1)], &["10.2.0.0/16"]);
        assert_eq!(
            told(&Existing::default(), &some),
            ["tunnel_added wg0 0 1 0", "prefix_added 10.2.0.0 0 16 0"]
        );
        assert_eq!(
            told(&some, &Existing::default()),
            ["tunnel_removed wg0 0 0 0", "prefix_removed 10.2.0.0 16 0 0"]
        );
    }

    #[test]
    fn many_prefixes_are_one_event() {
        let texts: Vec<_> = (0..40).map(|n| format!("10.2.{n}.0/24")).collect();
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        let (before, after) = (existing(&[], &["10.9.0.0/16"]), existing(&[], &texts));
        assert_eq!(told(&before, &after), ["routes_changed  1 40 41"]);
    }

    #[test]
    fn hooks_that_came_and_went() {
        let hook = |ifindex, program_id| {
            let (kind, attach) = (HookKind::Learn, AttachKind::Tcx);
            let hook = Hook {
                name: encode_name(&format!("wg{ifindex}")),
                attach,
                group: 4,
                program_id,
                order: HookOrder::Last,
            };
            (HookKey { ifindex, kind }, hook)
        };
        let events = hook_changes(
            &[hook(1, 7), hook(2, 7)],
            &[hook(2, 8), hook(3, 8)],
            Cause::Operator,
        );
        let told: Vec<_> = events
            .iter()
            .map(|event| {
                (
                    event.kind,
                    decode_name(&event.name),
                    event.before,
                    event.after,
                )
            })
            .collect();
        let learn = HookKind::Learn as u32;
        assert_eq!(
            told,
            [
                (EventKind::Detached, "wg1".into(), learn, 0),
                (EventKind::Attached, "wg3".into(), 0, learn),
            ]
        );
    }

    #[test]
    fn names() {
        assert_eq!(decode_name(&encode_name("wg0")), "wg0");
        assert_eq!(decode_name(&[b'x'; NAME_BYTES]), "x".repeat(NAME_BYTES));
    }
}
