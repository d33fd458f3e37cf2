//! Programs on devices: ours, and those of others.

use std::mem::size_of;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::process::Command;

use anyhow::{Context as _, Result};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType, tc::TcAttachOptions};
use aya::{Ebpf, EbpfLoader};
use steer_common::{abi::programs::INGRESS, bench::programs::REDIRECT};
use steer_tests::steerctl::Gateway;
use steer_user::datapath::object::{BENCH_OBJECT, OBJECT};

use crate::patient::{Patient, test};

fn ifindex(gateway: &Gateway, device: &str) -> Result<u32> {
    gateway
        .host()
        .within(|| Ok(nix::net::if_::if_nametoindex(device)?))
}

test!(programs_that_are_lost, |name| {
    let patient = Patient::steered(name, &["--attach", "tcx"])?;
    let pin = |kind: &str, device: &str| -> Result<String> {
        let number = ifindex(&patient.gateway, device)?;
        let pin = patient.gateway.pin(&format!("{kind}_{number}"));
        Ok(pin.display().to_string())
    };
    // The program goes with its pin.
    patient
        .fails(
            "hooks",
            "lan0",
            "hook ingress is not there",
            &format!("rm {}", pin("ingress", "lan0")?),
        )?
        .cured()?;
    if Command::new("bpftool").arg("version").output().is_ok() {
        patient
            .fails(
                "hooks",
                "wg1",
                "hook learn is not there",
                &format!("bpftool link detach pinned {}", pin("learn", "wg1")?),
            )?
            .cured()?;
    }
    // Made anew, it has no programs, and the links are defunct.
    let anew = "ip link del wg1; ip tuntap add wg1 mode tun; ip link set wg1 mtu 1420 up";
    patient.fails("hooks", "wg1", "is not there", anew)?.cured()
});

test!(filters_that_are_lost, |name| {
    let patient = Patient::steered(name, &["--attach", "clsact"])?;
    // One of classic BPF, before it.
    let before = "tc filter add dev lan0 ingress protocol all prio 9 handle 5 bpf bytecode '1,6 0 0 4294967295'";
    patient
        .warns("other_programs", "lan0", "bpf filter of priority 9", before)?
        .undone("tc filter del dev lan0 ingress prio 9")?;
    patient
        .fails(
            "hooks",
            "lan0",
            "hook ingress is not there",
            "tc filter del dev lan0 ingress",
        )?
        .cured()?;
    patient
        .fails(
            "hooks",
            "wg0",
            "hook egress is not there",
            "tc filter del dev wg0 egress",
        )?
        .cured()
});

/// An object with one program, which is somebody else's to the pins, on TCX before all others.
fn foreign(gateway: &Gateway, object: &[u8], program: &str, device: &str) -> Result<Ebpf> {
    let mut ebpf = EbpfLoader::new().load(object)?;
    gateway.host().within(|| {
        let found = ebpf.program_mut(program).context("no such program")?;
        let found: &mut SchedClassifier = found.try_into()?;
        found.load()?;
        let options = TcAttachOptions::TcxOrder(LinkOrder::first());
        found.attach_with_options(device, TcAttachType::Ingress, options)?;
        Ok(())
    })?;
    Ok(ebpf)
}

test!(programs_of_others, |name| {
    let patient = Patient::steered(name, &["--attach", "tcx"])?;
    let tap = foreign(&patient.gateway, BENCH_OBJECT, REDIRECT, "lan0")?;
    patient
        .warns(
            "other_programs",
            "lan0",
            "(bench_redirect); what it takes or drops is not steered",
            "true",
        )?
        .cured()?;
    drop(tap);
    Ok(())
});

test!(another_steer, |name| {
    let patient = Patient::steered(name, &["--attach", "tcx"])?;
    let other = foreign(&patient.gateway, OBJECT, INGRESS, "lan0")?;
    let fault = patient.fails(
        "other_steer",
        "lan0",
        "another steer works at hook ingress (program ",
        "true",
    )?;
    drop(other);
    fault.undone("true")
});

test!(a_program_in_the_place_of_ours, |name| {
    let patient = Patient::steered(name, &["--attach", "clsact"])?;
    let filter = "tc filter replace dev lan0 ingress protocol all prio 22307 handle 0x57230001";
    // It is of classic BPF, which has a number as well.
    let replace = format!("{filter} bpf direct-action bytecode '1,6 0 0 4294967295'");
    patient
        .fails("hooks", "lan0", "was replaced by another filter", &replace)?
        .cured()
});

/// `bpf(2)`, for the commands that give a descriptor; `attributes` are the first fields of `union bpf_attr`.
fn bpf<T>(command: i64, attributes: &T) -> Result<OwnedFd> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes of `attributes`, and what they point to, during the call.
    let result = unsafe {
        nix::libc::syscall(
            nix::libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    let descriptor = i32::try_from(nix::errno::Errno::result(result)?)?;
    // SAFETY: it is new, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// An XDP program that lets everything pass, on a device until it is dropped.
fn xdp(gateway: &Gateway, device: &str) -> Result<OwnedFd> {
    #[repr(C)]
    struct Load {
        kind: u32,
        instructions: u32,
        code: u64,
        license: u64,
    }
    #[repr(C)]
    struct Link {
        program: u32,
        ifindex: u32,
        kind: u32,
        flags: u32,
    }
    // Of `linux/bpf.h` and `linux/if_link.h`.
    const PROG_LOAD: i64 = 5;
    const LINK_CREATE: i64 = 28;
    const PROG_TYPE_XDP: u32 = 6;
    const XDP: u32 = 37;
    const SKB_MODE: u32 = 2;
    // r0 = XDP_PASS; exit
    let code = [[0xb7_u8, 0, 0, 0, 2, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];
    let license = c"GPL";
    let program = bpf(
        PROG_LOAD,
        &Load {
            kind: PROG_TYPE_XDP,
            instructions: 2,
            code: u64::try_from(code.as_ptr().addr())?,
            license: u64::try_from(license.as_ptr().addr())?,
        },
    )?;
    let link = Link {
        program: u32::try_from(program.as_raw_fd())?,
        ifindex: ifindex(gateway, device)?,
        kind: XDP,
        flags: SKB_MODE,
    };
    gateway.host().within(|| bpf(LINK_CREATE, &link))
}

test!(an_xdp_program, |name| {
    let patient = Patient::steered(name, &[])?;
    for device in ["lan0", "wg1"] {
        let program = xdp(&patient.gateway, device)?;
        let fault = patient.warns(
            "xdp",
            device,
            "sees packets before steer's programs",
            "true",
        )?;
        let off = format!("ip link set dev {device} xdpgeneric off");
        assert!(fault.fix.ends_with(&off), "{}", fault.fix);
        drop(program);
        fault.undone("true")?;
    }
    Ok(())
});
