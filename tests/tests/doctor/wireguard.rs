//! WireGuard with a real far end: peers, keys, allowed IPs, sizes, handshakes.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use steer_tests::lab::{Host, tunnel_programs, wait};
use steer_tests::steerctl::{Gateway, has};

use crate::patient::{Patient, test};

/// A private key and its public one.
fn keys(host: &Host) -> Result<(String, String)> {
    let private = host.output("wg", &["genkey"])?;
    let public = host.feed("wg", &["pubkey"], &private)?;
    Ok((private.trim().to_owned(), public.trim().to_owned()))
}

/// A tunnel's devices on the gateway and on the client, which is the far gateway here.
fn tunnel(gateway: &Gateway, k: usize) -> Result<String> {
    let (near, far) = (gateway.host(), gateway.client());
    let (own, peer) = (keys(near)?, keys(near)?);
    let port = 51_820 + k;
    // The far end first: a handshake that nobody answers is tried again only after 5 s.
    for (host, address, (private, _), (_, public), allowed, endpoint) in [
        (far, 2, &peer, &own, format!("10.9.{k}.1/32"), "10.1.0.1"),
        (
            near,
            1,
            &own,
            &peer,
            format!("10.9.{k}.2/32, 10.2.0.0/16, fd00:2::/64"),
            "10.1.0.2",
        ),
    ] {
        let text = format!(
            "[Interface]\nPrivateKey = {private}\nAddress = 10.9.{k}.{address}/30\nListenPort = {port}\n\
             MTU = 1420\nTable = off\n[Peer]\nPublicKey = {public}\nAllowedIPs = {allowed}\n\
             Endpoint = {endpoint}:{port}\n"
        );
        let file = host.dir().join(format!("wg{k}.conf"));
        fs::write(&file, text)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        let output = host
            .command("wg-quick")
            .arg("up")
            .arg(&file)
            .env("WG_QUICK_USERSPACE_IMPLEMENTATION", "wireguard-go")
            .output()
            .context("wg-quick")?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(peer.1)
}

/// Waits for an answer through tunnel `k`.
fn reach(gateway: &Gateway, k: usize) -> Result<()> {
    let far: IpAddr = format!("10.9.{k}.2").parse()?;
    wait::until(
        &format!("an answer from {far}"),
        Duration::from_secs(10),
        || Ok(gateway.host().reaches(far)?.then_some(())),
    )
}

fn can_run(name: &str) -> bool {
    has(name, tunnel_programs())
}

/// A gateway with two tunnels that work, and the keys of their peers.
fn gateway(name: &str) -> Result<(Patient, [String; 2])> {
    let gateway = Gateway::up(name, 0)?;
    gateway.sysctl("net.ipv4.ip_forward", "1")?;
    gateway.sysctl("net.ipv6.conf.all.forwarding", "1")?;
    let peers = [tunnel(&gateway, 0)?, tunnel(&gateway, 1)?];
    gateway.ip(&["route", "add", "10.2.0.0/16", "dev", "wg0"])?;
    gateway.ip(&["-6", "route", "add", "fd00:2::/64", "dev", "wg0"])?;
    for k in [0, 1] {
        reach(&gateway, k)?;
    }
    Ok((Patient::new(gateway)?, peers))
}

test!(before_a_start, |name| {
    if !can_run(name) {
        return Ok(());
    }
    let (patient, [_, peer]) = gateway(name)?;
    let findings = patient.examine()?;
    let wrong: Vec<_> = findings
        .iter()
        .filter(|finding| finding.level != "ok")
        // Of WireGuard in the kernel, a question of taste.
        .filter(|finding| finding.check != "threaded_napi")
        .collect();
    ensure!(wrong.is_empty(), "{wrong:#?}");
    let told = findings.iter().find(|finding| finding.check == "discovery");
    let expected = "a start would steer 10.2.0.0/16 fd00:2::/64 over wg0 wg1";
    assert_eq!(told.map(|finding| finding.message.as_str()), Some(expected));

    let all = "10.9.1.2/32,10.2.0.0/16,fd00:2::/64";
    patient
        .fails(
            "discovery",
            "discovery",
            "no AllowedIPs in common",
            &format!("wg set wg1 peer {peer} allowed-ips 10.9.1.2/32"),
        )?
        .undone(&format!("wg set wg1 peer {peer} allowed-ips {all}"))?;
    patient
        .warns(
            "mark_users",
            "marks",
            "FwMark 0x1000000 of device wg1",
            "wg set wg1 fwmark 0x1000000",
        )?
        .undone("wg set wg1 fwmark 0")?;
    patient
        .warns(
            "mtu_group",
            "group default",
            "packets will have to be marked",
            "ip link set wg1 mtu 1400",
        )?
        .cured()?;
    patient
        .fails(
            "discovery",
            "discovery",
            "no WireGuard device found",
            "ip link set wg0 down; ip link set wg1 down",
        )?
        .undone("ip link set wg0 up; ip link set wg1 up")
});

test!(what_is_wrong_with_wireguard, |name| {
    if !can_run(name) {
        return Ok(());
    }
    let (patient, [first, peer]) = gateway(name)?;
    // The prefixes are named: steerctl outside of the gateway's own mounts does not see its WireGuard.
    patient.attach(&[])?;
    let all = "10.9.1.2/32,10.2.0.0/16,fd00:2::/64";
    let whole = format!("wg set wg1 peer {peer} endpoint 10.1.0.2:51821 allowed-ips {all}");

    patient
        .fails(
            "allowed_ips",
            "wg1",
            "do not hold fd00:2::/64",
            &format!("wg set wg1 peer {peer} allowed-ips 10.9.1.2/32,10.2.0.0/16"),
        )?
        .cured()?;
    let another = keys(patient.gateway.host())?.1;
    patient
        .warns(
            "allowed_ips_overlap",
            "wg1",
            "10.2.3.0/24 goes to another of its peers",
            &format!("wg set wg1 peer {another} endpoint 10.1.0.2:1 allowed-ips 10.2.3.0/24"),
        )?
        .undone(&format!("wg set wg1 peer {another} remove"))?;
    patient
        .warns(
            "far_device",
            "wg1",
            "its peer is that of wg0, too",
            &format!("wg set wg1 peer {first} endpoint 10.1.0.2:51820"),
        )?
        .undone(&format!("wg set wg1 peer {first} remove"))?;
    patient
        .fails(
            "mtu_underlay",
            "wg1",
            "MTU 1441 and 60 bytes of overhead are more than the 1500 of lan0",
            "ip link set wg1 mtu 1441",
        )?
        .cured()?;
    patient.sh("ip link set wg1 mtu 1420")?;
    patient
        .warns(
            "mtu_underlay",
            "wg1",
            "no route to its endpoint 203.0.113.9",
            &format!("wg set wg1 peer {peer} endpoint 203.0.113.9:1"),
        )?
        .undone(&whole)?;
    patient
        .warns(
            "prefixes",
            "prefixes",
            "contains 10.2.0.7, the endpoint of tunnel wg1",
            &format!("wg set wg1 peer {peer} endpoint 10.2.0.7:1"),
        )?
        .undone(&whole)?;
    // A way to a public endpoint by a device that has private addresses only.
    patient.sh("ip route add 203.0.113.0/24 via 10.1.0.2")?;
    patient
        .warns(
            "keepalive",
            "wg1",
            "behind NAT without persistent keepalive",
            &format!("wg set wg1 peer {peer} endpoint 203.0.113.9:1"),
        )?
        .cured()?;
    patient.sh(&whole)?;

    patient
        .fails(
            "wireguard_peers",
            "wg1",
            "it has no peer",
            &format!("wg set wg1 peer {peer} remove"),
        )?
        .undone(&whole)?;
    // The new one has not spoken yet.
    let silent = patient.examine()?;
    let told = silent.iter().find(|finding| finding.check == "handshakes");
    let told = told.map(|finding| (finding.level.as_str(), finding.subject.as_str()));
    assert_eq!(told, Some(("warn", "wg1")));
    reach(&patient.gateway, 1)?;
    patient.examine()?;
    let remade = format!("wg set wg1 peer {peer} remove; {whole}");
    let fault = patient.warns("handshakes", "wg1", "no handshake ever", &remade)?;
    reach(&patient.gateway, 1)?;
    fault.undone("true")?;
    patient
        .warns(
            "wireguard_peers",
            "wg1",
            "no endpoint",
            &format!("wg set wg1 peer {peer} remove; wg set wg1 peer {peer} allowed-ips {all}"),
        )?
        .undone(&whole)
});

test!(a_tunnels_mark_among_steers, |name| {
    if !can_run(name) {
        return Ok(());
    }
    let (patient, _) = gateway(name)?;
    patient.attach(&["--hook", "mark"])?;
    patient
        .fails(
            "mark_users",
            "marks",
            "FwMark 0x2000000 of device wg1",
            "wg set wg1 fwmark 0x2000000",
        )?
        .cured()
});
