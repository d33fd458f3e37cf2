//! Tunnels and LAN devices that are gone, down, failing or somebody else's.

use anyhow::Result;
use steer_common::abi::{Health, HealthReason, TunnelHealth};
use steer_tests::steerctl::Gateway;
use steer_user::datapath::{maps::Maps, pins::PinDir};

use crate::patient::{Patient, test};

test!(tunnels_that_are_down, |name| {
    let patient = Patient::steered(name, &[])?;
    patient
        .fails(
            "tunnel_devices",
            "wg1",
            "its device is down",
            "ip link set wg1 down",
        )?
        .cured()?;
    patient.sh("steerctl attach")?;
    patient.examine()?;
    patient
        .warns(
            "group_usable",
            "group default",
            "only wg0 can carry flows",
            "ip link set wg1 down",
        )?
        .undone("ip link set wg1 up; steerctl attach")?;
    patient
        .fails(
            "group_usable",
            "group default",
            "none of its tunnels can carry flows",
            "ip link set wg0 down; ip link set wg1 down",
        )?
        .undone("ip link set wg0 up; ip link set wg1 up; steerctl attach")?;
    patient
        .fails(
            "tunnel_devices",
            "wg1",
            "its device is gone",
            "ip link del wg1",
        )?
        .undone("ip tuntap add wg1 mode tun; ip link set wg1 mtu 1420 up; steerctl attach")
});

test!(tunnels_that_the_operator_took_out_of_use, |name| {
    let patient = Patient::steered(name, &[])?;
    patient.sh("steerctl disable wg1")?;
    let findings = patient.examine()?;
    let told = findings
        .iter()
        .find(|finding| finding.check == "tunnel_admin");
    let told = told.map(|finding| (finding.level.as_str(), finding.subject.as_str()));
    assert_eq!(told, Some(("ok", "wg1")));
    Ok(())
});

/// Writes what a daemon would have measured of `wg1`.
fn measured(gateway: &Gateway, health: Health, reason: HealthReason) -> Result<()> {
    let mut maps = Maps::open(&PinDir::new(gateway.pin_dir()))?;
    let tunnel = maps.tunnel(1)?;
    maps.set_tunnel(1, &steer_common::abi::Tunnel { health, ..tunnel })?;
    let before = maps.tunnel_health(1)?;
    let told = TunnelHealth {
        reason,
        loss_ppm: 125_000,
        ..before
    };
    maps.set_tunnel_health(1, &told)?;
    Ok(())
}

test!(tunnels_that_fail, |name| {
    let patient = Patient::steered(name, &[])?;
    measured(&patient.gateway, Health::Down, HealthReason::NotAnswering)?;
    let fault = patient.fails(
        "tunnel_health",
        "wg1",
        ": its far end does not answer any more",
        "true",
    )?;
    measured(&patient.gateway, Health::Up, HealthReason::Answering)?;
    fault.undone("true")?;
    measured(&patient.gateway, Health::Degraded, HealthReason::Lossy)?;
    let fault = patient.warns(
        "tunnel_health",
        "wg1",
        ": 12.5 % of the probes are lost",
        "true",
    )?;
    measured(&patient.gateway, Health::Up, HealthReason::Answering)?;
    fault.undone("true")
});

test!(lan_devices_that_are_not_what_they_were, |name| {
    let patient = Patient::steered(name, &[])?;
    patient
        .fails(
            "lan_devices",
            "lan0",
            "the device is down",
            "ip link set lan0 down",
        )?
        .cured()?;
    if patient.sh("ip link add br0 type bridge").is_ok() {
        patient
            .fails(
                "lan_devices",
                "lan0",
                "is a port of bridge br0",
                "ip link set lan0 master br0",
            )?
            .undone("ip link set lan0 nomaster")?;
    }
    patient
        .fails(
            "lan_devices",
            "lan0",
            "the device is gone",
            "ip link del lan0",
        )
        .map(drop)
});
