//! LAN devices.

use super::{Check, Judgement, Section, fail, or_ok};
use crate::plan::lan;

pub(super) const DEVICES: Check = Check {
    name: "lan_devices",
    section: Section::Lan,
    fails: Some(
        "A LAN device is gone, down, or a port of a bridge, bond or team, whose packets belong to that one",
    ),
    warns: None,
    judge: |facts| {
        if facts.steered.lan.is_empty() {
            return Vec::new();
        }
        let devices = facts.machine.devices;
        let problems = facts.steered.lan.iter().filter_map(|name| {
            let Some(device) = devices.by_name(name) else {
                return Some(
                    fail(name, "the device is gone")
                        .with_fix("make it again, or steerctl attach with another --iface"),
                );
            };
            if let Err(error) = lan::check(device, devices) {
                let told = fail(name, error.to_string());
                let fix = error
                    .hint()
                    .map(|hint| format!("steerctl attach with {hint} in its place"));
                return Some(Judgement { fix, ..told });
            }
            let down =
                || fail(name, "the device is down").with_fix(format!("ip link set {name} up"));
            (!device.up).then(down)
        });
        or_ok(
            problems.collect(),
            "LAN",
            "all devices are up, and none is a port",
        )
    },
};

pub(super) const LRO: Check = Check {
    name: "lro",
    section: Section::Lan,
    fails: Some(
        "A LAN device merges packets by LRO, which cannot be taken apart again for the tunnel",
    ),
    warns: None,
    judge: |facts| {
        if facts.steered.lan.is_empty() {
            return Vec::new();
        }
        let problems = facts.lro.iter().map(|name| {
            fail(
                name,
                "merges packets by LRO: they cannot be forwarded as they came",
            )
            .with_fix(format!("ethtool -K {name} lro off"))
        });
        or_ok(problems.collect(), "LRO", "off on every LAN device")
    },
};
