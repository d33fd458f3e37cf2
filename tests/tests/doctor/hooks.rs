//! Programs on devices: ours, and those of others.

use std::process::Command;

use anyhow::{Context as _, Result};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType, tc::TcAttachOptions};
use aya::{Ebpf, EbpfLoader};
use steer_common::abi::programs::{BARE_REDIRECT, INGRESS};
use steer_tests::steerctl::Gateway;
use steer_user::datapath::object::OBJECT;

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

/// The object with one program, which is somebody else's to the pins, on TCX before all others.
fn foreign(gateway: &Gateway, program: &str, device: &str) -> Result<Ebpf> {
    let mut ebpf = EbpfLoader::new().load(OBJECT)?;
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
    let tap = foreign(&patient.gateway, BARE_REDIRECT, "lan0")?;
    patient
        .warns(
            "other_programs",
            "lan0",
            "(bare_redirect); what it takes or drops is not steered",
            "true",
        )?
        .cured()?;
    drop(tap);
    Ok(())
});

test!(another_steer, |name| {
    let patient = Patient::steered(name, &["--attach", "tcx"])?;
    let other = foreign(&patient.gateway, INGRESS, "lan0")?;
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
