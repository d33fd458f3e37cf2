//! Commands that this machine, or what is steered already, does not allow.

use std::process::Command;

use steer_tests::lab::{kernel_has_wireguard, tunnel_programs, wait};
use steer_tests::steerctl::{Gateway, Outcome, Refusal, has};

use crate::fixture::{Case, all_refused, steer, test};

const NO_HINT: Option<&str> = None;
const NOT_RUNNING: &str = "{pins}: nothing of steer is pinned here";
const START: Option<&str> = Some("start it with steerctl run, or name its --pin-dir");
const LAYER_2: Option<&str> =
    Some("a tunnel is a WireGuard or TUN device, or another one without MAC headers");
const OWN_ADDRESS: Option<&str> =
    Some("steer only what is behind the tunnels; split the prefix around the address");
const ALL_ZERO: &str = "group default: all weights are 0, so no tunnel could get new flows";
const ALL_ZERO_HINT: Option<&str> =
    Some("give one tunnel a weight above 0; to stop steering, use steerctl detach");

test!(nothing_is_steered, |name| {
    let gateway = Gateway::up(name, 0)?;
    let verbs = [
        "status",
        "weights",
        "weights wg0=1",
        "disable wg0",
        "enable wg0",
        "flows",
        "explain udp 10.1.0.2:1 10.2.0.2:2",
    ];
    all_refused(&gateway, &verbs.map(|verb| (verb, 1, NOT_RUNNING, START)))
});

const STARTS: [Case<'_>; 22] = [
    (
        "",
        1,
        "no LAN device given",
        Some("name the devices that local packets come in on: --iface lan0; or --hook egress"),
    ),
    (
        "--iface lan7",
        1,
        "device lan7: no such device",
        Some("existing: lan0, wg0, wg1, eth8, eth7, wg7"),
    ),
    (
        "--iface lan0 --tunnel wg9",
        1,
        "tunnel wg9: no such device",
        Some("existing: wg0, wg1, wg7"),
    ),
    (
        "--iface lan0 --tunnel wg0 --tunnel wg0=2",
        1,
        "tunnel wg0: given twice",
        NO_HINT,
    ),
    (
        "--iface lan0 --iface lan0 --tunnel wg0",
        1,
        "device lan0: given twice",
        NO_HINT,
    ),
    (
        "--iface lan0 --tunnel lan0",
        1,
        "device lan0: is a tunnel, so it cannot be a LAN device",
        NO_HINT,
    ),
    (
        "--iface lo --tunnel wg0",
        1,
        "device lo: is the loopback device",
        NO_HINT,
    ),
    (
        "--iface wg1 --tunnel wg1",
        1,
        "device wg1: is a tunnel, so it cannot be a LAN device",
        NO_HINT,
    ),
    (
        "--iface lan0 --tunnel eth7",
        1,
        "tunnel eth7: not a layer-3 device but veth: its packets have MAC headers",
        LAYER_2,
    ),
    (
        "--iface lan0 --tunnel wg7",
        1,
        "tunnel wg7: the device is down",
        Some("ip link set wg7 up"),
    ),
    (
        "--iface eth7 --tunnel wg0",
        1,
        "device eth7: the device is down",
        Some("ip link set eth7 up"),
    ),
    (
        "--iface lan0 --tunnel wg0=0 --tunnel wg1=0",
        1,
        ALL_ZERO,
        ALL_ZERO_HINT,
    ),
    (
        "--iface lan0 --tunnel wg0@3 --tunnel wg1@3",
        1,
        "tunnel wg1: id 3 is taken by tunnel wg0",
        Some("give another id, or none"),
    ),
    (
        "--iface lan0",
        1,
        "no WireGuard device found",
        Some("name the tunnels and what to steer: --tunnel wg0 --prefix 10.2.0.0/16"),
    ),
    (
        "--iface lan0 --tunnel wg0",
        1,
        "tunnel wg0: its AllowedIPs are not known",
        Some("name the remote networks: --prefix 10.2.0.0/16"),
    ),
    (
        "--iface lan0 --tunnel wg0 --prefix 10.2.0.0/16 --prefix 10.2.3.0/24",
        1,
        "prefix 10.2.3.0/24: overlaps prefix 10.2.0.0/16",
        Some("the larger one is enough"),
    ),
    (
        "--iface lan0 --tunnel wg0 --prefix 10.2.0.0/16 --prefix 10.2.0.0/16",
        1,
        "prefix 10.2.0.0/16: given twice",
        NO_HINT,
    ),
    (
        "--iface lan0 --tunnel wg0 --prefix 10.1.0.0/16",
        1,
        "prefix 10.1.0.0/16: contains 10.1.0.1, this gateway's own address on lan0",
        OWN_ADDRESS,
    ),
    (
        "--iface lan0 --tunnel wg0 --prefix 0.0.0.0/0",
        1,
        "prefix 0.0.0.0/0: the default route cannot be steered",
        Some("name the remote networks: --prefix 10.2.0.0/16"),
    ),
    (
        "--iface lan0 --tunnel wg0 --prefix 224.0.0.0/8",
        1,
        "prefix 224.0.0.0/8: multicast addresses are never steered",
        NO_HINT,
    ),
    (
        "--iface lan0 --tunnel wg0 --prefix ::/8",
        1,
        "prefix ::/8: holds the IPv4-mapped addresses ::ffff:0:0/96",
        Some("write IPv4 prefixes as IPv4"),
    ),
    (
        "--iface lan0 --tunnel wg0 --prefix fe80::/64",
        1,
        "prefix fe80::/64: link-local addresses are never steered",
        NO_HINT,
    ),
];

test!(a_start_that_cannot_be, |name| {
    let gateway = Gateway::up(name, 2)?;
    gateway.ip(&[
        "link", "add", "eth7", "type", "veth", "peer", "name", "eth8",
    ])?;
    gateway.ip(&["tuntap", "add", "wg7", "mode", "tun"])?;
    // `attach`, too, and the same for a rehearsal.
    for verb in ["run", "attach", "run --dry-run"] {
        let lines = STARTS.map(|(args, ..)| format!("{verb} {args}"));
        let cases: Vec<Case<'_>> = lines
            .iter()
            .zip(STARTS)
            .map(|(line, (_, code, message, hint))| (line.as_str(), code, message, hint))
            .collect();
        all_refused(&gateway, &cases)?;
    }
    Ok(())
});

test!(more_tunnels_than_a_group_can_have, |name| {
    let gateway = Gateway::up(name, 0)?;
    let tunnels: Vec<_> = (0..65).map(|k| format!("--tunnel wg{k}")).collect();
    let line = format!(
        "run --iface lan0 --prefix 10.2.0.0/16 {}",
        tunnels.join(" ")
    );
    all_refused(
        &gateway,
        &[(&line, 1, "65 tunnels: a group has at most 64", NO_HINT)],
    )
});

test!(what_does_not_fit_what_is_steered, |name| {
    let gateway = Gateway::up(name, 3)?;
    gateway.done(&steer("attach", &["--max-flows", "65536"]))?;
    all_refused(
        &gateway,
        &[
            (
                "weights wg9=1",
                1,
                "tunnel wg9: no such tunnel",
                Some("existing: wg0, wg1"),
            ),
            ("weights wg0=1 wg0=2", 1, "tunnel wg0: given twice", NO_HINT),
            ("weights wg0=0 wg1=0", 1, ALL_ZERO, ALL_ZERO_HINT),
            (
                "weights --group x",
                1,
                "group x: no such group",
                Some("existing: default"),
            ),
            (
                "disable wg9",
                1,
                "tunnel wg9: no such tunnel",
                Some("existing: wg0, wg1"),
            ),
            (
                "enable wg9",
                1,
                "tunnel wg9: no such tunnel",
                Some("existing: wg0, wg1"),
            ),
            (
                "flows --tunnel wg9",
                1,
                "tunnel wg9: no such tunnel",
                Some("existing: wg0, wg1"),
            ),
            (
                "run --iface lan0 --tunnel wg0 --prefix 10.2.0.0/16 --max-flows 70000",
                1,
                "--max-flows 70000: the flow table is there already, with 65536 entries",
                Some(
                    "leave out --max-flows, or steerctl detach first (flows are then placed anew)",
                ),
            ),
            (
                "run --group b --iface lan0 --tunnel wg1 --prefix 10.3.0.0/16",
                1,
                "tunnel wg1: belongs to group default",
                NO_HINT,
            ),
            (
                "run --group b --iface lan0 --tunnel wg2 --prefix 10.2.9.0/24",
                1,
                "prefix 10.2.9.0/24: overlaps prefix 10.2.0.0/16 of group default",
                NO_HINT,
            ),
        ],
    )?;
    gateway.done(&["detach"])?;
    Ok(())
});

test!(a_prefix_around_a_tunnels_endpoint, |name| {
    if !has(name, tunnel_programs()) {
        return Ok(());
    }
    let gateway = Gateway::up(name, 1)?;
    // All namespaces share the directory of userspace WireGuard's sockets.
    let device = "wgsteercli5";
    let mut wireguard = None;
    if kernel_has_wireguard() {
        gateway.ip(&["link", "add", device, "type", "wireguard"])?;
    } else {
        let mut command = gateway.within_namespace("wireguard-go");
        wireguard = Some(command.args(["-f", device]).spawn()?);
    }
    let result = wait::until(device, std::time::Duration::from_secs(10), || {
        let socket = format!("/run/wireguard/{device}.sock");
        let is_there = wireguard.is_none() || std::path::Path::new(&socket).exists();
        Ok(is_there.then_some(()))
    })
    .and_then(|()| {
        let key = "c3RlZXJjdGwgdGVzdHMgb2YgdGhlIHJlZnVzYWxzISE=";
        let peer = [
            "peer",
            key,
            "endpoint",
            "192.0.2.7:51820",
            "allowed-ips",
            "10.2.0.0/16",
        ];
        let set = gateway
            .within_namespace("wg")
            .args(["set", device])
            .args(peer)
            .status()?;
        assert!(set.success(), "wg set: {set}");
        gateway.ip(&["link", "set", device, "up"])?;
        let tail = format!("--iface lan0 --tunnel {device} --prefix 192.0.2.0/24");
        let message =
            format!("prefix 192.0.2.0/24: contains 192.0.2.7, the endpoint of tunnel {device}");
        let hint = "the tunnel's own packets would enter the tunnel; split the prefix around it";
        let line = format!("run {tail}");
        all_refused(&gateway, &[(&line, 1, &message, Some(hint))])
    });
    if let Some(mut process) = wireguard {
        process.kill()?;
        process.wait()?;
        let _ = std::fs::remove_file(format!("/run/wireguard/{device}.sock"));
    }
    result
});

/// Runs `steerctl` in the gateway's namespace without some capabilities; `None` where this machine
/// has no program that takes them away.
fn without(
    gateway: &Gateway,
    capabilities: &str,
    args: &[&str],
) -> anyhow::Result<Option<Outcome>> {
    if Command::new("setpriv").arg("--version").output().is_err() {
        return Ok(None);
    }
    let mut command = gateway.within_namespace("setpriv");
    command
        .args(["--bounding-set", capabilities, "--inh-caps", capabilities])
        .arg(gateway.program())
        .arg("--pin-dir")
        .arg(gateway.pin_dir())
        .args(args);
    Outcome::of(&mut command).map(Some)
}

test!(without_capabilities, |name| {
    let gateway = Gateway::up(name, 2)?;
    let before = gateway.traces()?;
    for (capabilities, missing) in [
        ("-net_admin", "CAP_NET_ADMIN"),
        ("-bpf,-sys_admin", "CAP_BPF"),
        ("-bpf,-sys_admin,-net_admin", "CAP_BPF and CAP_NET_ADMIN"),
    ] {
        for args in [
            &steer("run", &[])[..],
            &["detach"],
            &["weights", "wg0=1"],
            &["status"],
        ] {
            let Some(outcome) = without(&gateway, capabilities, args)? else {
                println!("SKIP {name}: needs setpriv (package util-linux)");
                return Ok(());
            };
            outcome.refused(&Refusal {
                code: 1,
                message: &format!("not allowed: {missing} missing"),
                hint: Some("run it as root: sudo steerctl …"),
            })?;
            assert_eq!(gateway.traces()?, before, "{capabilities}, {args:?}");
        }
    }
    Ok(())
});

test!(without_a_bpffs, |name| {
    let gateway = Gateway::up(name, 2)?;
    let before = gateway.traces()?;
    let Some(outcome) = without(&gateway, "-sys_admin", &steer("run", &[]))? else {
        println!("SKIP {name}: needs setpriv (package util-linux)");
        return Ok(());
    };
    let pins = gateway.pin_dir().display().to_string();
    outcome.refused(&Refusal {
        code: 1,
        message: &format!(
            "{pins}: no bpf filesystem, and making one failed: Operation not permitted (os error 1)"
        ),
        hint: Some("mount one: mount -t bpf bpf /sys/fs/bpf, or name another --pin-dir"),
    })?;
    assert_eq!(gateway.traces()?, before);
    Ok(())
});

test!(a_pin_directory_that_cannot_be, |name| {
    let gateway = Gateway::up(name, 2)?;
    std::fs::write(gateway.pin_dir(), "a file")?;
    let before = gateway.traces()?;
    let outcome = gateway.steerctl(&steer("run", &[]))?;
    assert_eq!(
        (outcome.code, outcome.stdout.as_str()),
        (1, ""),
        "{outcome:?}"
    );
    assert_eq!(gateway.traces()?, before);
    Ok(())
});
