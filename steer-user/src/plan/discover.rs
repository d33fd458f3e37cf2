//! Finding the tunnels, and what is to be steered into them, without being told.

use ipnet::IpNet;

use super::{ExistingGroup, PlanError, PlannedHook, TunnelRequest, prefixes as checks};
use crate::net::{Device, Devices};

/// All WireGuard devices that are up, and those that are in the group already.
pub(super) fn tunnels(
    devices: &Devices,
    group: Option<&ExistingGroup>,
    hooks: &[PlannedHook],
    notes: &mut Vec<String>,
) -> Result<Vec<TunnelRequest>, PlanError> {
    let in_group =
        |name: &str| group.is_some_and(|group| group.tunnels.iter().any(|t| t.name == name));
    let (mut found, mut down) = (Vec::new(), Vec::new());
    for device in devices {
        let is_wireguard =
            device.wireguard.is_some() || device.kind.as_deref() == Some("wireguard");
        if !is_wireguard || hooks.iter().any(|hook| hook.ifindex == device.ifindex) {
            continue;
        }
        if device.up || in_group(&device.name) {
            found.push(device.name.clone());
        } else {
            notes.push(format!(
                "WireGuard device {} is down and is not used",
                device.name
            ));
            down.push(device.name.clone());
        }
    }
    if found.is_empty() {
        return Err(PlanError::NothingDiscovered { down });
    }
    found.sort();
    notes.push(format!(
        "found {} WireGuard device{}: {}",
        found.len(),
        if found.len() == 1 { "" } else { "s" },
        found.join(", ")
    ));
    Ok(found
        .into_iter()
        .map(|name| TunnelRequest {
            name,
            ..TunnelRequest::default()
        })
        .collect())
}

/// What the allowed IPs of every tunnel contain, without what may not be steered.
pub(super) fn prefixes(
    devices: &Devices,
    tunnels: &[&Device],
    others: &[&ExistingGroup],
    notes: &mut Vec<String>,
) -> Result<Vec<IpNet>, PlanError> {
    let mut allowed: Vec<Vec<IpNet>> = Vec::new();
    for device in tunnels {
        let Some(wireguard) = &device.wireguard else {
            return Err(PlanError::AllowedIpsUnknown {
                name: device.name.clone(),
            });
        };
        allowed.push(
            wireguard
                .allowed_ips()
                .map(|network| network.trunc())
                .collect(),
        );
    }
    let (mut found, mut reasons) = (Vec::new(), Vec::new());
    for prefix in common(&allowed) {
        let checked = checks::check(prefix, devices, tunnels)
            .and_then(|()| checks::check_others(prefix, others));
        match checked {
            Ok(()) => found.push(prefix),
            Err(error) => reasons.push(error.to_string()),
        }
    }
    if found.is_empty() {
        return Err(PlanError::NoCommonPrefix { reasons });
    }
    notes.extend(
        reasons
            .into_iter()
            .map(|reason| format!("not steered: {reason}")),
    );
    notes.push(format!(
        "common AllowedIPs: {}",
        found
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    ));
    Ok(found)
}

/// The largest prefixes that are contained in every list; default routes do not hide what is inside them.
fn common(lists: &[Vec<IpNet>]) -> Vec<IpNet> {
    let mut found: Vec<IpNet> = lists
        .iter()
        .flatten()
        .copied()
        .filter(|prefix| {
            lists
                .iter()
                .all(|list| list.iter().any(|net| net.contains(prefix)))
        })
        .collect();
    found.sort();
    found.dedup();
    let all = found.clone();
    found.retain(|prefix| {
        !all.iter()
            .any(|other| other != prefix && other.prefix_len() > 0 && other.contains(prefix))
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(texts: &[&str]) -> Vec<IpNet> {
        texts
            .iter()
            .map(|text| text.parse().expect("a network"))
            .collect()
    }

    #[test]
    fn what_lists_have_in_common() {
        assert_eq!(
            common(&[
                list(&["10.0.0.0/8", "fd00::/64"]),
                list(&["10.2.0.0/16", "192.0.2.0/24"])
            ]),
            list(&["10.2.0.0/16"])
        );
        assert_eq!(
            common(&[
                list(&["10.2.0.0/16", "10.2.3.0/24"]),
                list(&["10.2.0.0/16"])
            ]),
            list(&["10.2.0.0/16"])
        );
        assert_eq!(
            common(&[list(&["0.0.0.0/0", "10.2.0.0/16"]), list(&["0.0.0.0/0"])]),
            list(&["0.0.0.0/0", "10.2.0.0/16"])
        );
        assert!(common(&[list(&["10.2.0.0/16"]), list(&["10.3.0.0/16"])]).is_empty());
    }
}
