//! The kernel, and what this process may do.

use super::{Check, Judgement, PinPlace, Section, fail, ok, or_ok, warn};
use crate::plan::{RequirementError, check_capabilities, check_kernel};
use crate::sys::{Capability, KERNEL_MIN};

pub(super) const VERSION: Check = Check {
    name: "kernel",
    section: Section::Kernel,
    fails: Some("The kernel is older than 5.15"),
    warns: None,
    judge: |facts| {
        let release = &facts.host.release;
        vec![match check_kernel(release) {
            Ok(()) => ok(release, format!("{KERNEL_MIN} or newer")),
            Err(error) => requirement(release, &error),
        }]
    },
};

pub(super) const CAPABILITIES: Check = Check {
    name: "capabilities",
    section: Section::Kernel,
    fails: Some("This process lacks `CAP_BPF` or `CAP_NET_ADMIN`; much is not known then"),
    warns: None,
    judge: |facts| {
        vec![match check_capabilities(facts.host.capabilities) {
            Ok(()) => ok("capabilities", "CAP_BPF and CAP_NET_ADMIN"),
            Err(error) => requirement("capabilities", &error),
        }]
    },
};

fn requirement(subject: &str, error: &RequirementError) -> Judgement {
    fail(subject, error.to_string()).with_fix(error.hint())
}

pub(super) const PROGRAMS: Check = Check {
    name: "programs",
    section: Section::Kernel,
    fails: Some(
        "The kernel does not take steer's programs or maps: a feature is missing, or the verifier refuses",
    ),
    warns: None,
    judge: |facts| {
        match &facts.host.programs {
        Some(Ok(_)) => vec![ok("programs", "the kernel takes steer's programs")],
        Some(Err(cause)) => vec![
            fail("programs", format!("the kernel does not take steer's programs: {cause}")).with_fix(
                "a kernel with CONFIG_BPF_SYSCALL and CONFIG_NET_CLS_ACT; if it has them, please report this",
            ),
        ],
        None => Vec::new(),
    }
    },
};

pub(super) const JIT: Check = Check {
    name: "jit",
    section: Section::Kernel,
    fails: None,
    warns: Some("eBPF programs are interpreted, which is several times slower"),
    judge: |facts| match &facts.host.programs {
        Some(Ok(loaded)) if loaded.jitted => vec![ok("jit", "programs run as machine code")],
        Some(Ok(_)) => vec![
            warn(
                "jit",
                "programs are interpreted, not compiled: several times slower",
            )
            .with_fix("sysctl -w net.core.bpf_jit_enable=1; steerctl attach"),
        ],
        _ => Vec::new(),
    },
};

pub(super) const ATTACH: Check = Check {
    name: "attach",
    section: Section::Kernel,
    fails: Some(
        "There is no TCX (before 6.6), and a device has an `ingress` qdisc in the place of clsact",
    ),
    warns: None,
    judge: |facts| {
        let Some(Ok(loaded)) = &facts.host.programs else {
            return Vec::new();
        };
        if loaded.tcx {
            return vec![ok("attach", "by TCX")];
        }
        let in_the_way = facts.other_qdiscs.iter().map(|(device, kind)| {
            fail(
                device,
                format!("it has an {kind} qdisc where clsact would go, and the kernel has no TCX"),
            )
            .with_fix(format!("tc qdisc del dev {device} ingress"))
        });
        or_ok(
            in_the_way.collect(),
            "attach",
            "by clsact: the kernel has no TCX",
        )
    },
};

pub(super) const BPFFS: Check = Check {
    name: "bpffs",
    section: Section::Kernel,
    fails: Some("Pins have no place: there is no bpffs, and none can be mounted"),
    warns: None,
    judge: |facts| {
        let can_mount = facts.host.capabilities.has(Capability::SysAdmin);
        vec![match &facts.host.pin_place {
            PinPlace::Bpffs => ok("bpffs", "the pin directory is on one"),
            PinPlace::Mountable if can_mount => ok(
                "bpffs",
                "there is none for the pin directory yet; a start mounts it",
            ),
            PinPlace::Mountable => fail(
                "bpffs",
                "there is none for the pin directory, and CAP_SYS_ADMIN to mount one is missing",
            )
            .with_fix("mount -t bpf bpf /sys/fs/bpf"),
            PinPlace::Impossible(cause) => fail("bpffs", cause).with_fix("name another --pin-dir"),
        }]
    },
};
