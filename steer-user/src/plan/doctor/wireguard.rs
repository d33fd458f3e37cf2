//! WireGuard in the tunnels.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::{Check, Facts, Judgement, Level, Pins, Section, fail, ok, or_ok, warn};
use crate::net::{Device, KernelRoute, Peer, WireGuard};
use crate::plan::PublicKey;

/// After this time without a handshake no packet is accepted (`REJECT_AFTER_TIME` of the WireGuard
/// paper, section 6.1).
const SESSION: Duration = Duration::from_mins(3);

/// `peer KEY`, as `wg` takes it.
fn peer_words(peer: &Peer) -> String {
    format!("peer {}", PublicKey(peer.public_key))
}

pub(super) const PEERS: Check = Check {
    name: "wireguard_peers",
    section: Section::Tunnels,
    fails: Some("A WireGuard device has no peer"),
    warns: Some("A peer has no endpoint: nothing can be sent to it before it has called"),
    judge: |facts| {
        let mut problems = Vec::new();
        for (device, wireguard) in facts.wireguards() {
            let name = &device.name;
            if wireguard.peers.is_empty() {
                problems.push(
                    fail(name, "it has no peer, so it drops everything").with_fix(format!(
                        "wg set {name} peer KEY endpoint HOST:PORT allowed-ips PREFIXES"
                    )),
                );
            }
            for peer in wireguard
                .peers
                .iter()
                .filter(|peer| peer.endpoint.is_none())
            {
                problems.push(
                    warn(
                        name,
                        "its peer has no endpoint: packets are dropped until it has called",
                    )
                    .with_fix(format!(
                        "wg set {name} {} endpoint HOST:PORT",
                        peer_words(peer)
                    )),
                );
            }
        }
        applicable(facts, problems, "every device has a peer with an endpoint")
    },
};

/// What is wrong, an ok line, or nothing where no tunnel tells of itself.
fn applicable(facts: &Facts<'_>, problems: Vec<Judgement>, fine: &str) -> Vec<Judgement> {
    if facts.wireguards().next().is_none() {
        return Vec::new();
    }
    or_ok(problems, "wireguard", fine)
}

pub(super) const HANDSHAKES: Check = Check {
    name: "handshakes",
    section: Section::Tunnels,
    fails: None,
    warns: Some(
        "A tunnel had no handshake ever, or none for 180 s: it is idle, or its far end does not answer",
    ),
    judge: |facts| {
        let problems = facts.wireguards().filter_map(|(device, wireguard)| {
            if wireguard.peers.is_empty() {
                return None;
            }
            let name = &device.name;
            let what = match wireguard.latest_handshake() {
                None => "no handshake ever: unused, or wrong keys, endpoint or port, or a firewall".into(),
                Some(at) => {
                    let age = facts.now.saturating_sub(at);
                    if age < SESSION {
                        return None;
                    }
                    let secs = age.as_secs();
                    format!("latest handshake {secs} s ago: idle, or the far end does not answer")
                }
            };
            Some(warn(name, what).with_fix(format!(
                "ping the far gateway's address in {name}; then compare wg show {name} on both sides"
            )))
        });
        applicable(
            facts,
            problems.collect(),
            "all tunnels had a handshake within 180 s",
        )
    },
};

pub(super) const KEEPALIVE: Check = Check {
    name: "keepalive",
    section: Section::Tunnels,
    fails: None,
    warns: Some(
        "This gateway is behind NAT and does not keep its mapping alive: no persistent keepalive, and no `run` that probes",
    ),
    judge: |facts| {
        let mut problems = Vec::new();
        for (device, wireguard) in facts.wireguards() {
            let name = &device.name;
            for peer in wireguard
                .peers
                .iter()
                .filter(|peer| peer.keepalive_secs.is_none())
            {
                if is_behind_nat(facts, name, peer) {
                    let command =
                        format!("wg set {name} {} persistent-keepalive 25", peer_words(peer));
                    problems.push(
                        warn(name, "behind NAT without persistent keepalive: once idle, the far end cannot reach this one")
                            .with_fix(command),
                    );
                }
            }
        }
        let has_probes = matches!(facts.pins, Pins::Steering { daemon: Some(_) });
        if has_probes && !problems.is_empty() {
            return vec![ok("keepalive", "off behind NAT, but steerctl run probes")];
        }
        applicable(facts, problems, "no tunnel needs more of it")
    },
};

/// Whether all addresses of the device that leads to a peer are private and the peer's is not.
fn is_behind_nat(facts: &Facts<'_>, tunnel: &str, peer: &Peer) -> bool {
    let Some(endpoint) = peer.endpoint else {
        return false;
    };
    let is_it = |under: &&super::Underlay| under.tunnel == tunnel && under.endpoint == endpoint;
    let Some(underlay) = facts.underlay.iter().find(is_it) else {
        return false;
    };
    let KernelRoute::Devices(numbers) = &underlay.route else {
        return false;
    };
    let to = endpoint.ip().to_canonical();
    let mut own = numbers
        .iter()
        .filter_map(|number| facts.machine.devices.by_index(*number))
        .flat_map(|device| device.addresses.iter().map(IpNet::addr))
        .filter(|address| address.is_ipv4() == to.is_ipv4())
        .peekable();
    let IpAddr::V4(to) = to else { return false };
    let is_shared = |address: &IpAddr| match address {
        // RFC 1918, and RFC 6598 for carriers.
        IpAddr::V4(v4) => v4.is_private() || (v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64),
        IpAddr::V6(_) => false,
    };
    own.peek().is_some() && own.all(|address| is_shared(&address)) && !is_shared(&to.into())
}

pub(super) const ALLOWED_IPS: Check = Check {
    name: "allowed_ips",
    section: Section::Tunnels,
    fails: Some(
        "A tunnel's peer is not allowed a prefix: WireGuard drops what is redirected to it without a word",
    ),
    warns: None,
    judge: |facts| {
        let mut problems = Vec::new();
        for group in &facts.steered.groups {
            for tunnel in facts.tunnels_of(group) {
                let device = facts.machine.devices.by_name(&tunnel.name);
                let Some((device, wireguard)) =
                    device.and_then(|d| Some((d, d.wireguard.as_ref()?)))
                else {
                    continue;
                };
                problems.extend(missing_prefixes(device, wireguard, &group.prefixes));
            }
        }
        if facts.prefixes().next().is_none() {
            return Vec::new();
        }
        applicable(facts, problems, "every tunnel allows all prefixes")
    },
};

/// The prefixes that a device's peers are not allowed, in one line.
fn missing_prefixes(
    device: &Device,
    wireguard: &WireGuard,
    prefixes: &[IpNet],
) -> Option<Judgement> {
    let allowed: Vec<IpNet> = wireguard.allowed_ips().collect();
    // Two halves allow the whole.
    let whole = IpNet::aggregate(&allowed);
    let missing: Vec<String> = prefixes
        .iter()
        .filter(|prefix| !whole.iter().any(|network| network.contains(*prefix)))
        .map(ToString::to_string)
        .collect();
    if missing.is_empty() || wireguard.peers.is_empty() {
        return None;
    }
    let name = &device.name;
    let message = format!(
        "its AllowedIPs do not hold {}: WireGuard drops what is steered there",
        missing.join(", ")
    );
    let fix = match wireguard.peers.as_slice() {
        [peer] => {
            let all = allowed.iter().map(ToString::to_string).chain(missing);
            format!(
                "wg set {name} {} allowed-ips {}",
                peer_words(peer),
                all.collect::<Vec<_>>().join(",")
            )
        }
        _ => "add them to the AllowedIPs of the peer that is the far gateway".into(),
    };
    Some(fail(name, message).with_fix(fix))
}

pub(super) const OVERLAP: Check = Check {
    name: "allowed_ips_overlap",
    section: Section::Tunnels,
    fails: None,
    warns: Some("A part of a prefix is allowed to another peer of the same device, and goes there"),
    judge: |facts| {
        let mut problems = Vec::new();
        for (device, wireguard) in facts.wireguards() {
            for (index, peer) in wireguard.peers.iter().enumerate() {
                for network in &peer.allowed_ips {
                    let others = wireguard
                        .peers
                        .iter()
                        .enumerate()
                        .filter(|(i, _)| *i != index);
                    let larger = others
                        .flat_map(|(_, other)| &other.allowed_ips)
                        .find(|other| other.contains(network) && *other != network);
                    let touches =
                        |prefix: &IpNet| prefix.contains(network) || network.contains(prefix);
                    let is_steered = facts.prefixes().any(|prefix| touches(&prefix));
                    if let Some(larger) = larger.filter(|_| is_steered) {
                        problems.push(
                            warn(
                                &device.name,
                                format!("{network} goes to another of its peers than the rest of {larger}"),
                            )
                            .with_fix("give every prefix to one peer, the far gateway"),
                        );
                    }
                }
            }
        }
        applicable(facts, problems, "no prefix is split between peers")
    },
};

pub(super) const FAR_DEVICE: Check = Check {
    name: "far_device",
    section: Section::Tunnels,
    fails: None,
    warns: Some(
        "Two tunnels of a group lead to the same WireGuard device of the far gateway, which can allow a network for one of them only",
    ),
    judge: |facts| {
        let mut problems = Vec::new();
        for group in facts.home_groups() {
            let mut known: Vec<([u8; 32], String)> = Vec::new();
            for tunnel in facts.tunnels_of(group) {
                let device = facts.machine.devices.by_name(&tunnel.name);
                let Some(wireguard) = device.and_then(|device| device.wireguard.as_ref()) else {
                    continue;
                };
                for peer in &wireguard.peers {
                    let same = known.iter().find(|(key, _)| *key == peer.public_key);
                    if let Some((_, other)) = same {
                        problems.push(
                            warn(
                                &tunnel.name,
                                format!("its peer is that of {other}, too: one far device can allow a network for one of them only"),
                            )
                            .with_fix("give each tunnel a device of its own at both ends: steerctl tunnels plan"),
                        );
                    } else {
                        known.push((peer.public_key, tunnel.name.clone()));
                    }
                }
            }
        }
        applicable(facts, problems, "every tunnel has a far end of its own")
    },
};

pub(super) const THREADED: Check = Check {
    name: "threaded_napi",
    section: Section::Tunnels,
    fails: None,
    warns: Some(
        "Several WireGuard devices of the kernel without threaded NAPI, on several processors: one of them may do all decryption. Reported, never switched",
    ),
    judge: |facts| {
        let of_kernel = &facts.threaded;
        if of_kernel.len() < 2 || facts.host.cpus < 2 {
            return Vec::new();
        }
        let off: Vec<&str> = of_kernel
            .iter()
            .filter(|(_, is_on)| !is_on)
            .map(|(name, _)| name.as_str())
            .collect();
        let Some(first) = off.first() else {
            return vec![ok("threaded NAPI", "on for all tunnels")];
        };
        vec![Judgement::new(
            Level::Warn,
            "threaded NAPI",
            format!("off for {}: their packets may all be finished by one processor", off.join(", ")),
        )
        .with_fix(format!(
            "measure with it: echo 1 > /sys/class/net/{first}/threaded (some kernels stall with it: measure again after updates)"
        ))]
    },
};
