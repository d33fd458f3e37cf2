//! Devices that come, go, and come back while `run` watches, and devices that are part of others.

use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::signal::Signal;
use steer_common::abi::maps;
use steer_tests::lab::wait;
use steer_tests::steerctl::{FAR, Gateway, Reader, Running, Sender, tcx_programs};

use crate::fixture::{all_refused, flows, is_as_before, steer, test};

const SOON: Duration = Duration::from_secs(10);

/// Waits until a tunnel's health is as given.
fn health(gateway: &Gateway, tunnel: &str, health: &str) -> Result<()> {
    wait::until(&format!("{tunnel} {health}"), SOON, || {
        Ok((gateway.tunnel(tunnel)?["health"] == health).then_some(()))
    })
}

/// Waits until new flows use a tunnel: its health is known before the table is made.
fn used(gateway: &Gateway, tunnel: &str) -> Result<()> {
    wait::until(&format!("new flows on {tunnel}"), SOON, || {
        let explain =
            |port: u32| gateway.json(&["explain", "udp", &format!("10.1.0.9:{port}"), FAR]);
        let uses = |port| Ok(explain(port)?["tunnel"] == tunnel);
        let found = (1..=20).map(uses).collect::<Result<Vec<_>>>()?;
        Ok(found.contains(&true).then_some(()))
    })
}

/// Waits until a device has one program of steer for what comes in.
fn hooked(gateway: &Gateway, device: &str, program: &str) -> Result<()> {
    wait::until(&format!("{program} on {device}"), SOON, || {
        let names = tcx_programs(gateway.host(), device)?;
        Ok((names.len() == 1 && names[0].1.starts_with(program)).then_some(()))
    })
}

test!(a_tunnel_is_deleted_and_made_again, |name| {
    let gateway = Gateway::up(name, 2)?;
    let running = gateway.run(&steer("run", &["--attach", "tcx"])[1..])?;
    for _ in 0..3 {
        gateway.ip(&["link", "del", "wg1"])?;
        health(&gateway, "wg1", "down")?;
        let gone = gateway.tunnel("wg1")?;
        assert_eq!(
            (gone["share"].as_f64(), gone["ifindex"].as_u64()),
            (Some(0.0), None),
            "{gone}"
        );
        let mut sender = Sender::new(gateway.client(), 20)?;
        sender.round()?;
        wait::until("all on wg0", SOON, || {
            let flows = flows(&gateway)?;
            let ours = sender.ports()?;
            Ok(ours
                .iter()
                .all(|port| {
                    flows
                        .get(&u64::from(*port))
                        .is_some_and(|(tunnel, _)| tunnel == "wg0")
                })
                .then_some(()))
        })?;

        gateway.add_tunnel("wg1")?;
        health(&gateway, "wg1", "up")?;
        hooked(&gateway, "wg1", "steer_return")?;
        let reader = Reader::open(gateway.host(), "wg1")?;
        used(&gateway, "wg1")?;
        let mut sender = Sender::new(gateway.client(), 40)?;
        sender.round()?;
        wait::until("datagrams through wg1", SOON, || {
            Ok((reader.count() > 5).then_some(()))
        })?;
    }
    let hooks = gateway.json(&["status"])?["groups"][0]["hooks"].clone();
    assert_eq!(hooks.as_array().map(Vec::len), Some(5), "{hooks}");
    let before = {
        running.stop()?;
        gateway.traces()?
    };
    assert!(!before.contains("pins/"), "{before}");
    Ok(())
});

test!(a_tunnel_that_is_gone_at_the_start, |name| {
    let gateway = Gateway::up(name, 2)?;
    gateway.done(&steer("attach", &[]))?;
    gateway.ip(&["link", "del", "wg1"])?;
    let running = gateway.run(&steer("run", &[])[1..])?;
    for _ in 0..10 {
        let gone = gateway.tunnel("wg1")?;
        assert_eq!(
            (&gone["health"], &gone["health_reason"]),
            (&"down".into(), &"its device is gone".into()),
            "{gone}"
        );
        // It is looked at every second.
        std::thread::sleep(Duration::from_millis(150));
    }
    running.stop().map(drop)
});

/// The LAN device is made again, under another number.
fn lan_returns(name: &str, attach: &str) -> Result<()> {
    let gateway = Gateway::up(name, 1)?;
    let before = gateway.traces()?;
    let tunnel = Reader::open(gateway.host(), "wg0")?;
    let args = [
        "--iface",
        "lan0",
        "--tunnel",
        "wg0",
        "--prefix",
        "10.2.0.0/16",
        "--attach",
        attach,
    ];
    let running = gateway.run(&args)?;
    for _ in 0..3 {
        gateway.ip(&["link", "del", "lan0"])?;
        gateway.add_lan()?;
        let mut sender = Sender::new(gateway.client(), 10)?;
        tunnel.clear();
        wait::until("datagrams of the new lan0", SOON, || {
            sender.round()?;
            Ok((tunnel.count() >= 10).then_some(()))
        })?;
        wait::until("one hook on lan0", SOON, || {
            let status = gateway.json(&["status"])?;
            let hooks = status["groups"][0]["hooks"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            Ok((hooks.iter().filter(|hook| hook["iface"] == "lan0").count() == 1).then_some(()))
        })?;
    }
    running.stop()?;
    drop(tunnel);
    is_as_before(&gateway, &before)
}

test!(the_lan_is_deleted_and_made_again, |name| lan_returns(
    name, "tcx"
));
test!(the_lan_is_made_again_on_clsact, |name| lan_returns(
    name, "clsact"
));

test!(a_tunnel_goes_down_and_up, |name| {
    let gateway = Gateway::up(name, 2)?;
    let running = gateway.run(&steer("run", &[])[1..])?;
    let mut sender = Sender::new(gateway.client(), 60)?;
    sender.round()?;
    let first = wait::until("60 flows", SOON, || {
        Ok(Some(flows(&gateway)?).filter(|flows| flows.len() == 60))
    })?;
    gateway.ip(&["link", "set", "wg1", "down"])?;
    health(&gateway, "wg1", "down")?;
    sender.round()?;
    let second = wait::until("all on wg0", SOON, || {
        let now = flows(&gateway)?;
        Ok(now
            .values()
            .all(|(tunnel, _)| tunnel == "wg0")
            .then_some(now))
    })?;
    for (port, (tunnel, _)) in &first {
        let origin = if tunnel == "wg1" { "moved" } else { "hashed" };
        assert_eq!(second[port].1, origin, "port {port}");
    }
    gateway.ip(&["link", "set", "wg1", "up"])?;
    health(&gateway, "wg1", "up")?;
    used(&gateway, "wg1")?;
    sender.round()?;
    let mut newer = Sender::new(gateway.client(), 60)?;
    newer.round()?;
    let third = wait::until("60 more flows", SOON, || {
        Ok(Some(flows(&gateway)?).filter(|flows| flows.len() == 120))
    })?;
    for (port, flow) in &second {
        assert_eq!(third[port], *flow, "port {port} stays");
    }
    let on_wg1 = third.values().filter(|(tunnel, _)| tunnel == "wg1").count();
    assert!(
        (10..=50).contains(&on_wg1),
        "{on_wg1} of 60 new flows on wg1"
    );
    running.stop()?;
    Ok(())
});

test!(devices_that_flap, |name| {
    let gateway = Gateway::up(name, 2)?;
    let before = gateway.traces()?;
    let mut running = gateway.run(&steer("run", &[])[1..])?;
    for _ in 0..30 {
        gateway.ip(&["link", "del", "wg1"])?;
        gateway.add_tunnel("wg1")?;
    }
    health(&gateway, "wg1", "up")?;
    assert!(running.is_alive()?);
    // While the kernel's messages still come in.
    gateway.ip(&["link", "set", "wg0", "down"])?;
    gateway.ip(&["link", "set", "wg0", "up"])?;
    gateway.done(&["detach"])?;
    assert!(running.ended()?.success());
    is_as_before(&gateway, &before)
});

/// What steers from a LAN device, as words of a command.
fn from_lan(ifaces: &[&str]) -> String {
    let ifaces = ifaces.iter().map(|iface| format!("--iface {iface}"));
    let ifaces: Vec<_> = ifaces.collect();
    format!("run {} --tunnel wg0 --prefix 10.2.0.0/16", ifaces.join(" "))
}

test!(a_port_of_a_bridge, |name| {
    let gateway = Gateway::up(name, 1)?;
    gateway.ip(&["link", "add", "br0", "up", "type", "bridge"])?;
    gateway.ip(&["link", "set", "lan0", "master", "br0"])?;
    let port = "device lan0: is a port of bridge br0";
    all_refused(
        &gateway,
        &[(&from_lan(&["lan0"]), 1, port, Some("--iface br0"))],
    )?;
    let before = gateway.traces()?;
    let line = from_lan(&["br0"]);
    let args: Vec<_> = line.split_whitespace().skip(1).collect();
    gateway.run(&args)?.stop()?;
    assert_eq!(gateway.traces()?, before);
    Ok(())
});

test!(a_vlan_on_a_lan_device, |name| {
    let gateway = Gateway::up(name, 1)?;
    let vlan = ["link", "add", "link", "lan0", "name", "office", "up"];
    let vlan = [&vlan[..], &["type", "vlan", "id", "10"]].concat();
    if let Err(error) = gateway.ip(&vlan) {
        println!("SKIP (optional) {name}: no VLAN devices here: {error}");
        return Ok(());
    }
    let twice =
        "device office: is a VLAN on lan0, a LAN device, so its packets would be seen twice";
    all_refused(
        &gateway,
        &[(
            &from_lan(&["lan0", "office"]),
            1,
            twice,
            Some("leave out --iface office"),
        )],
    )?;
    let before = gateway.traces()?;
    let line = from_lan(&["office"]);
    let args: Vec<_> = line.split_whitespace().skip(1).collect();
    gateway.run(&args)?.stop()?;
    assert_eq!(gateway.traces()?, before);
    Ok(())
});

test!(what_comes_into_the_way_is_told_once, |name| {
    let gateway = Gateway::up(name, 2)?;
    let before = gateway.traces()?;
    let mut running = gateway.run(&steer("run", &[])[1..])?;
    let conflict = "prefix 10.2.0.0/16: contains 10.2.0.77, this gateway's own address on lan0; \
                    packets to it are left to the kernel";
    gateway.ip(&["addr", "add", "10.2.0.77/32", "dev", "lan0"])?;
    running.says(conflict)?;
    let explained = gateway.json(&["explain", "udp", "10.1.0.2:1", "10.2.0.77:1"])?;
    assert_eq!(explained["reason"], "own_address");
    // It goes on, and a restart is told, too.
    let mut next = gateway.run(&[])?;
    assert!(running.ended()?.success());
    // By the daemon, not only by the start.
    next.says_or_said(&format!("] {conflict}"))?;
    gateway.ip(&["addr", "del", "10.2.0.77/32", "dev", "lan0"])?;
    wait::until("it is steered again", SOON, || {
        let explained = gateway.json(&["explain", "udp", "10.1.0.2:1", "10.2.0.77:1"])?;
        Ok((explained["reason"] == "hash").then_some(()))
    })?;
    gateway.ip(&["link", "set", "wg1", "mtu", "1380"])?;
    next.says("group default: the tunnels' MTUs differ now (wg0 1420, wg1 1380)")?;
    gateway.ip(&["link", "set", "wg1", "mtu", "1420"])?;
    next.stop()?;
    is_as_before(&gateway, &before)
});

/// `run` of wg0 and wg1, with what it says to whoever looks closely.
fn talkative(gateway: &Gateway) -> Result<Running> {
    let mut command = gateway.command();
    command.args(steer("run", &[])).env("RUST_LOG", "debug");
    Running::ready(&mut command)
}

test!(a_burst_of_device_messages, |name| {
    const DEVICES: usize = 40;
    let gateway = Gateway::up(name, 2)?;
    let mut running = talkative(&gateway)?;
    // Whether it is quick or slow, it finds them all at once.
    running.signal(Signal::SIGSTOP)?;
    let batch = gateway.dir().join("burst");
    let add = |k| format!("link add burst{k} up type veth peer name tsrub{k}\n");
    std::fs::write(&batch, (0..DEVICES).map(add).collect::<String>())?;
    gateway.ip(&["-batch", &batch.display().to_string()])?;
    running.signal(Signal::SIGCONT)?;
    running.says_that("one look for many messages", |line| {
        let number = line.split("device messages: ").nth(1);
        number
            .and_then(|number| number.parse().ok())
            .is_some_and(|messages: usize| messages >= DEVICES / 2)
    })?;
    gateway.ip(&["addr", "add", "10.2.0.77/32", "dev", "lan0"])?;
    running.says("10.2.0.77, this gateway's own address")?;
    running.stop().map(drop)
});

test!(bucket_tables_that_cannot_be_made, |name| {
    let gateway = Gateway::up(name, 2)?;
    let mut running = talkative(&gateway)?;
    gateway.ip(&["link", "set", "wg1", "down"])?;
    health(&gateway, "wg1", "down")?;
    // The daemon and its threads have their maps, but whoever opens them now fails.
    let (pin, aside) = (gateway.pin(maps::MOVES), gateway.pin("aside"));
    std::fs::rename(&pin, &aside)?;
    std::fs::create_dir(&pin)?;
    gateway.ip(&["link", "set", "wg1", "up"])?;
    running.says("making new bucket tables: ")?;
    let first = Instant::now();
    running.says("making new bucket tables: ")?;
    let pause = first.elapsed();
    println!("tried again after {pause:?}");
    assert!(pause > Duration::from_millis(500), "{pause:?}");
    std::fs::remove_dir(&pin)?;
    std::fs::rename(&aside, &pin)?;
    running.says("new bucket tables are made")?;
    used(&gateway, "wg1")?;
    running.stop().map(drop)
});
