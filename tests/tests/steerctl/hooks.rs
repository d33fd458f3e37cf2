//! The ways of steering: each from start to end, one after the other under traffic, and beside other
//! programs.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aya::programs::TcAttachType;
use aya::programs::tc::TcAttachOptions;
use aya::programs::{LinkOrder, SchedClassifier};
use aya::{Ebpf, EbpfLoader};
use serde_json::Value;
use steer_common::bench::programs::REDIRECT;
use steer_tests::lab::wait;
use steer_tests::steerctl::{Flood, Gateway, Reader, Sender, tcx_programs, tcx_programs_at};
use steer_user::datapath::object::BENCH_OBJECT;

use crate::fixture::{
    all_refused, flows, forwards, is_as_before, readers, seen, steer, test, total,
};

const SOON: Duration = Duration::from_secs(10);

/// The hooks that `status` tells of: kind and device.
fn hooks(status: &Value) -> Vec<String> {
    let hooks = status["groups"][0]["hooks"].as_array();
    let mut found: Vec<String> = hooks
        .into_iter()
        .flatten()
        .map(|hook| {
            let is_there = hook["program_id"].is_u64();
            let text = |key: &str| hook[key].as_str().unwrap_or("?").to_owned();
            format!(
                "{} {}{}",
                text("hook"),
                text("iface"),
                if is_there { "" } else { " (gone)" }
            )
        })
        .collect();
    found.sort();
    found
}

const MODES: [(&str, &[&str]); 3] = [
    (
        "ingress",
        &[
            "egress wg0",
            "egress wg1",
            "ingress lan0",
            "learn wg0",
            "learn wg1",
        ],
    ),
    (
        "egress",
        &["egress wg0", "egress wg1", "learn wg0", "learn wg1"],
    ),
    (
        "mark",
        &["learn wg0", "learn wg1", "mark lan0", "own wg0", "own wg1"],
    ),
];

/// Each way from start to end, by `attach` and by `run`.
fn each_way(name: &str, attach: &str) -> Result<()> {
    let gateway = Gateway::up(name, 2)?;
    let before = gateway.traces()?;
    for (mode, expected) in MODES {
        let more = ["--hook", mode, "--attach", attach];
        gateway.done(&steer("attach", &more))?;
        let status = gateway.json(&["status"])?;
        assert_eq!(status["hook"], mode);
        assert_eq!(hooks(&status), expected, "{mode}");
        gateway.done(&["detach"])?;
        is_as_before(&gateway, &before)?;

        gateway.run(&steer("run", &more)[1..])?.stop()?;
        is_as_before(&gateway, &before)?;
    }
    Ok(())
}

test!(each_way_by_tcx, |name| each_way(name, "tcx"));
test!(each_way_by_clsact, |name| each_way(name, "clsact"));

/// 60 flows, of which each tunnel gets its share, and every datagram arrives.
fn steers(name: &str, attach: &str) -> Result<()> {
    let gateway = Gateway::up(name, 2)?;
    forwards(&gateway)?;
    let tunnels = readers(&gateway, 2)?;
    for (mode, _) in MODES {
        tunnels.iter().for_each(Reader::clear);
        gateway.done(&steer("attach", &["--hook", mode, "--attach", attach]))?;
        let mut sender = Sender::new(gateway.client(), 60)?;
        sender.round()?;
        sender.round()?;
        wait::until(&format!("{mode}: 120 datagrams"), SOON, || {
            Ok((total(&tunnels) == 120).then_some(()))
        })?;
        let ports: Vec<_> = tunnels.iter().map(|tunnel| tunnel.seen().ports()).collect();
        assert!(ports[0].is_disjoint(&ports[1]), "{mode}: a flow on both");
        assert!(
            ports.iter().all(|ports| ports.len() > 10),
            "{mode}: {ports:?}"
        );
        let flows = flows(&gateway)?;
        for (tunnel, ports) in ports.iter().enumerate() {
            for port in ports {
                let told = &flows[&u64::from(*port)].0;
                assert_eq!(*told, format!("wg{tunnel}"), "{mode}: port {port}");
            }
        }
        let sent = ["wg0", "wg1"].map(|name| gateway.tunnel(name));
        let mut counted = 0;
        for tunnel in sent {
            counted += tunnel?["tx_packets"].as_u64().unwrap_or(0);
        }
        assert_eq!(counted, 120, "{mode}: each packet is counted once");
        gateway.done(&["detach"])?;
    }
    Ok(())
}

test!(every_way_steers_by_tcx, |name| steers(name, "tcx"));
test!(every_way_steers_by_clsact, |name| steers(name, "clsact"));

/// From each way to each other one: no datagram is lost, no flow moves.
fn changed_under_traffic(name: &str, attach: &str) -> Result<()> {
    let gateway = Gateway::up(name, 2)?;
    forwards(&gateway)?;
    let before = gateway.traces()?;
    let tunnels = readers(&gateway, 2)?;
    let args = |mode| steer("run", &["--attach", attach, "--hook", mode]);
    let mut running = gateway.run(&args("ingress")[1..])?;
    let mut sender = Sender::new(gateway.client(), 40)?;
    sender.round()?;
    wait::until("every flow's first datagram", SOON, || {
        Ok((total(&tunnels) == 40).then_some(()))
    })?;
    let ports_before: Vec<_> = tunnels.iter().map(|tunnel| tunnel.seen().ports()).collect();
    let flood = Flood::start(sender, 2_000);
    for mode in ["egress", "mark", "ingress", "mark", "egress", "ingress"] {
        let next = gateway.run(&args(mode)[1..])?;
        ensure!(running.ended()?.success(), "the old one");
        running = next;
        let status = gateway.json(&["status"])?;
        let expected = MODES.iter().find(|(known, _)| *known == mode);
        assert_eq!(hooks(&status), expected.context("a mode")?.1, "{mode}");
    }
    let sent = flood.stop()?.sent();
    let arrived = wait::until(&format!("all of {sent} datagrams"), SOON, || {
        Ok((u64::try_from(total(&tunnels))? == sent).then_some(()))
    });
    println!("{sent} sent, {} arrived", total(&tunnels));
    arrived?;
    assert_eq!(seen(&tunnels).doubles, 0);
    let ports: Vec<_> = tunnels.iter().map(|tunnel| tunnel.seen().ports()).collect();
    assert_eq!(ports, ports_before, "no flow moved");
    running.stop()?;
    drop(tunnels);
    is_as_before(&gateway, &before)
}

test!(from_way_to_way_by_tcx, |name| changed_under_traffic(
    name, "tcx"
));
test!(from_way_to_way_by_clsact, |name| changed_under_traffic(
    name, "clsact"
));

test!(adopted_as_it_is, |name| {
    let gateway = Gateway::up(name, 2)?;
    forwards(&gateway)?;
    for (mode, expected) in MODES {
        gateway.done(&steer(
            "attach",
            &["--hook", mode, "--mss-clamp", "1300", "--order", "first"],
        ))?;
        let steering = gateway.json(&["status"])?;
        let running = gateway.run(&[])?;
        let now = gateway.json(&["status"])?;
        for key in ["hook", "mss_clamp", "mark_mask"] {
            assert_eq!(now[key], steering[key], "{mode}: {key}");
        }
        assert_eq!(now["mss_clamp"], "1300");
        assert_eq!(hooks(&now), expected, "{mode}");
        running.stop()?;
    }
    Ok(())
});

/// A TCX program that is not steer's, attached for as long as this lives.
fn foreign_program(gateway: &Gateway, device: &str, direction: TcAttachType) -> Result<Ebpf> {
    gateway.host().within(|| {
        let mut object = EbpfLoader::new().load(BENCH_OBJECT)?;
        let program = object.program_mut(REDIRECT).context("no program")?;
        let program: &mut SchedClassifier = program.try_into()?;
        program.load()?;
        let options = TcAttachOptions::TcxOrder(LinkOrder::default());
        program.attach_with_options(device, direction, options)?;
        Ok(object)
    })
}

test!(before_and_after_another_program, |name| {
    let gateway = Gateway::up(name, 2)?;
    let _on_lan = foreign_program(&gateway, "lan0", TcAttachType::Ingress)?;
    let _on_tunnel = foreign_program(&gateway, "wg0", TcAttachType::Egress)?;
    let before = gateway.traces()?;
    // The kernel cuts names after 15 bytes.
    let order = |device: &str, direction| -> Result<Vec<String>> {
        let programs = tcx_programs_at(gateway.host(), device, direction)?;
        Ok(programs.into_iter().map(|(_, name)| name).collect())
    };
    let check = |mode: &str, first: bool| -> Result<()> {
        let program = if mode == "mark" {
            "steer_mark"
        } else {
            "steer_ingress"
        };
        let mut on_lan = [program, REDIRECT].map(ToOwned::to_owned);
        let mut on_tunnel = ["steer_egress", REDIRECT].map(ToOwned::to_owned);
        if !first {
            on_lan.reverse();
            on_tunnel.reverse();
        }
        assert_eq!(order("lan0", TcAttachType::Ingress)?, on_lan, "{mode}");
        if mode == "ingress" {
            assert_eq!(order("wg0", TcAttachType::Egress)?, on_tunnel);
        }
        Ok(())
    };
    for mode in ["ingress", "mark"] {
        let attach = |more: &[&str]| {
            let more = [&["--attach", "tcx", "--hook", mode], more].concat();
            gateway.done(&steer("attach", &more)).map(drop)
        };
        attach(&[])?;
        check(mode, false)?;
        attach(&["--order", "first"])?;
        check(mode, true)?;
        attach(&[])?;
        check(mode, true)?;
        attach(&["--order", "last"])?;
        check(mode, false)?;
        assert_eq!(tcx_programs(gateway.host(), "lan0")?.len(), 2);
        gateway.done(&["detach"])?;
        is_as_before(&gateway, &before)?;
    }
    Ok(())
});

test!(before_and_after_another_filter, |name| {
    let gateway = Gateway::up(name, 2)?;
    let tc = |args: &[&str]| gateway.host().output("tc", args);
    tc(&["qdisc", "add", "dev", "lan0", "clsact"])?;
    let filter = ["filter", "add", "dev", "lan0", "ingress", "prio", "9"];
    let program = ["protocol", "all", "bpf", "bytecode", "1,6 0 0 0"];
    tc(&[&filter[..], &program].concat())?;
    let before = gateway.traces()?;
    let ours = || -> Result<(usize, bool)> {
        let shown = tc(&["filter", "show", "dev", "lan0", "ingress"])?;
        let lines: Vec<_> = shown
            .lines()
            .filter(|line| line.contains("handle"))
            .collect();
        let at = lines.iter().position(|line| line.contains("steer_"));
        Ok((lines.len(), at == Some(0)))
    };
    for (order, first) in [("last", false), ("first", true), ("last", false)] {
        gateway.done(&steer("attach", &["--attach", "clsact", "--order", order]))?;
        assert_eq!(ours()?, (2, first), "{order}");
    }
    gateway.done(&["detach"])?;
    is_as_before(&gateway, &before)
});

test!(another_way_for_one_of_two_groups, |name| {
    let gateway = Gateway::up(name, 3)?;
    gateway.done(&steer("attach", &["--hook", "mark"]))?;
    let tail = "--iface lan0 --tunnel wg2 --prefix 10.3.0.0/16";
    let other = format!("run --group b --hook ingress {tail}");
    let refusal = "hook ingress: group default steers with hook mark";
    let hint = Some("all groups have one hook: --hook mark, or steerctl detach first");
    all_refused(&gateway, &[(&other, 1, refusal, hint)])?;
    let inherits = format!("attach --group b {tail}");
    let args: Vec<_> = inherits.split_whitespace().collect();
    gateway.done(&args)?;
    all_refused(
        &gateway,
        &[(
            "attach --hook egress",
            1,
            "hook egress: group b steers with hook mark",
            hint,
        )],
    )?;
    gateway.done(&["detach"])?;
    Ok(())
});

test!(two_groups_share_a_lan_device, |name| {
    let gateway = Gateway::up(name, 3)?;
    let before = gateway.traces()?;
    gateway.done(&steer("attach", &[]))?;
    let second = "attach --group b --iface lan0 --tunnel wg2 --prefix 10.3.0.0/16";
    gateway.done(&second.split_whitespace().collect::<Vec<_>>())?;
    let on_lan = || -> Result<Vec<String>> {
        let status = gateway.json(&["status"])?;
        let groups = status["groups"].as_array().cloned().unwrap_or_default();
        let of_group = |group: &Value| {
            let hooks = group["hooks"].as_array().cloned().unwrap_or_default();
            let of_lan = hooks.iter().filter(|hook| hook["hook"] == "ingress");
            let names = of_lan.map(|hook| hook["iface"].as_str().unwrap_or("?").to_owned());
            names.collect::<Vec<_>>().join(" ")
        };
        Ok(groups.iter().map(of_group).collect())
    };
    assert_eq!(on_lan()?, ["lan0", "lan0"]);
    // Either goes on without a word.
    gateway.done(&["attach"])?;
    gateway.done(&["attach", "--group", "b"])?;
    assert_eq!(on_lan()?, ["lan0", "lan0"]);
    // One takes another device; the other keeps this one.
    gateway.ip(&[
        "link", "add", "lan1", "up", "type", "veth", "peer", "name", "host1",
    ])?;
    let other = "attach --iface lan1 --tunnel wg0 --tunnel wg1 --prefix 10.2.0.0/16";
    gateway.done(&other.split_whitespace().collect::<Vec<_>>())?;
    assert_eq!(on_lan()?, ["lan0 lan1", "lan0 lan1"]);
    gateway.done(&["detach"])?;
    gateway.ip(&["link", "del", "lan1"])?;
    is_as_before(&gateway, &before)
});
