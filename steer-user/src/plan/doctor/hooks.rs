//! Programs on devices.

use super::{Check, HookState, Section, fail, or_ok, warn};

pub(super) const HOOKS: Check = Check {
    name: "hooks",
    section: Section::Hooks,
    fails: Some(
        "A program of steer is missing on a device, was detached, or another one is in its place",
    ),
    warns: None,
    judge: |facts| {
        if !facts.is_steering() {
            return Vec::new();
        }
        let problems = facts.hooks.iter().filter_map(|hook| {
            let what = match hook.state {
                HookState::Attached(_) => return None,
                HookState::Missing => "is not there".to_owned(),
                HookState::Replaced { by: Some(by) } => format!("was replaced by program {by}"),
                HookState::Replaced { by: None } => "was replaced by another filter".to_owned(),
            };
            let message = format!("steer's program at hook {} {what}", hook.kind.name());
            Some(fail(&hook.device, message).with_fix("steerctl attach"))
        });
        let count = facts.hooks.len();
        or_ok(
            problems.collect(),
            "hooks",
            format!("all {count} programs are on their devices"),
        )
    },
};

pub(super) const OTHER_PROGRAMS: Check =
    Check {
        name: "other_programs",
        section: Section::Hooks,
        fails: None,
        warns: Some(
            "Programs of others see packets before steer's does: what they take, it does not see",
        ),
        judge: |facts| {
            if !facts.is_steering() {
                return Vec::new();
            }
            let problems = facts.hooks.iter().filter(|hook| !hook.before.is_empty()).map(|hook| {
            let message = format!(
                "before steer's program at hook {}: {}; what it takes or drops is not steered",
                hook.kind.name(),
                hook.before.join(", ")
            );
            warn(&hook.device, message).with_fix("steerctl attach --order first")
        });
            or_ok(
                problems.collect(),
                "other programs",
                "none is before steer's",
            )
        },
    };

pub(super) const OTHER_STEER: Check = Check {
    name: "other_steer",
    section: Section::Hooks,
    fails: Some("Another steer works on the same device"),
    warns: None,
    judge: |facts| {
        if !facts.is_steering() {
            return Vec::new();
        }
        let problems = facts.hooks.iter().filter_map(|hook| {
            let program = hook.other_steer?;
            let which = match program {
                0 => String::new(),
                program => format!(" (program {program})"),
            };
            let message = format!("another steer works at hook {}{which}", hook.kind.name());
            Some(fail(&hook.device, message).with_fix("detach one of them, by its own --pin-dir"))
        });
        or_ok(problems.collect(), "other steer", "none on these devices")
    },
};

pub(super) const XDP: Check = Check {
    name: "xdp",
    section: Section::Hooks,
    fails: None,
    warns: Some(
        "An XDP program is on a LAN device or tunnel: what it drops or redirects, steer does not see",
    ),
    judge: |facts| {
        if !facts.is_steering() {
            return Vec::new();
        }
        let problems = facts.xdp.iter().map(|xdp| {
            let (name, place) = (&xdp.device, xdp.place);
            let message = format!(
                "XDP {} sees packets before steer's programs; what it drops or redirects is not steered",
                xdp.program
            );
            warn(name, message).with_fix(format!(
                "let it pass what is to be steered; without it: ip link set dev {name} {place} off"
            ))
        });
        or_ok(problems.collect(), "XDP", "no program on these devices")
    },
};
