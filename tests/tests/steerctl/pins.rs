//! Pins and hooks that are not what this steer would have made.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType, tc::TcAttachOptions};
use aya::{Ebpf, EbpfLoader};
use steer_common::{abi::ABI_VERSION, bench::programs::REDIRECT};
use steer_tests::lab::attach_modes;
use steer_tests::steerctl::{Gateway, Outcome, Refusal, tcx_programs};
use steer_user::datapath::object::BENCH_OBJECT;

use crate::fixture::{is_as_before, steer, test};

/// Runs bpftool; `None` where there is none.
fn bpftool(args: &[&str]) -> Result<Option<()>> {
    let Ok(output) = Command::new("bpftool").args(args).output() else {
        return Ok(None);
    };
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "bpftool {}: {stderr}",
        args.join(" ")
    );
    Ok(Some(()))
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Says that the pins are of another layout; `None` where there is no bpftool.
fn set_layout(pin_dir: &Path, version: &str) -> Result<Option<()>> {
    let settings = text(&pin_dir.join("settings"));
    let mut update = vec!["map", "update", "pinned", &settings];
    update.extend(["key", "0", "0", "0", "0", "value", version, "0", "0", "0"]);
    // Only the version matters, whatever follows it.
    update.extend([0; size_of::<steer_common::abi::Settings>() - 4].map(|_: u8| "0"));
    bpftool(&update)
}

test!(a_start_killed_before_its_last_step, |name| {
    let gateway = Gateway::up(name, 2)?;
    let before = gateway.traces()?;
    for &attach in attach_modes() {
        let args = steer("attach", &["--attach", attach]);
        let unfinished = || -> Result<Option<()>> {
            gateway.done(&args)?;
            set_layout(&gateway.pin_dir(), "0")
        };
        if unfinished()?.is_none() {
            println!("SKIP {name}: needs bpftool");
            break;
        }
        gateway.done(&args)?;
        gateway.done(&["detach"])?;
        is_as_before(&gateway, &before)?;
        unfinished()?;
        gateway.done(&["detach"])?;
        is_as_before(&gateway, &before)?;
    }
    Ok(())
});

test!(pins_of_another_layout, |name| {
    let gateway = Gateway::up(name, 2)?;
    let before = gateway.traces()?;
    gateway.done(&steer("attach", &[]))?;
    if set_layout(&gateway.pin_dir(), "77")?.is_none() {
        println!("SKIP {name}: needs bpftool");
        return Ok(());
    }
    let pins = text(&gateway.pin_dir());
    let steering = gateway.traces()?;
    for args in [
        &steer("run", &[])[..],
        &["status"],
        &["weights", "wg0=2"],
        &["disable", "wg0"],
        &["flows"],
    ] {
        gateway.steerctl(args)?.refused(&Refusal {
            code: 1,
            message: &format!(
                "{pins}: pinned by steer with map layout 77, this is layout {ABI_VERSION}"
            ),
            hint: Some(&format!(
                "use the steerctl that made it, or start over (flows are placed anew): steerctl --pin-dir {pins} detach"
            )),
        })?;
        is_as_before(&gateway, &steering)?;
    }
    gateway.done(&["detach"])?;
    is_as_before(&gateway, &before)
});

test!(a_pin_that_is_another_map, |name| {
    let gateway = Gateway::up(name, 2)?;
    let before = gateway.traces()?;
    let flows = text(&gateway.pin("flows"));
    for (kind, key, what) in [
        (
            "array",
            "4",
            "the map's type is Array, this steer needs Hash",
        ),
        ("hash", "8", "the key's size is 8, this steer needs 40"),
    ] {
        // Only to have the directory with a bpffs.
        gateway.done(&steer("attach", &[]))?;
        std::fs::remove_file(gateway.pin("flows"))?;
        let map = [
            "map", "create", &flows, "type", kind, "key", key, "value", "8", "entries", "4",
            "name", "x",
        ];
        if bpftool(&map)?.is_none() {
            println!("SKIP {name}: needs bpftool");
            return Ok(());
        }
        let steering = gateway.traces()?;
        for args in [&steer("run", &[])[..], &["status"], &["weights", "wg0=2"]] {
            gateway.steerctl(args)?.refused(&Refusal {
                code: 1,
                message: &format!("{flows}: {what}"),
                hint: Some("not a map of this steer: remove it, or name another --pin-dir"),
            })?;
            is_as_before(&gateway, &steering)?;
        }
        // It is somebody's: it stays, with the mount that it is on.
        gateway.done(&["detach"])?;
        assert!(gateway.pin("flows").exists());
        std::fs::remove_file(gateway.pin("flows"))?;
        gateway.done(&["detach"])?;
        is_as_before(&gateway, &before)?;
    }
    Ok(())
});

test!(links_whose_maps_are_gone, |name| {
    let gateway = Gateway::up(name, 2)?;
    let before = gateway.traces()?;
    // What a detach leaves that is killed half-way.
    let half_detached = || -> Result<()> {
        gateway.done(&steer("attach", &["--attach", "tcx"]))?;
        for map in steer_common::abi::maps::ALL {
            std::fs::remove_file(gateway.pin(map))?;
        }
        Ok(())
    };
    half_detached()?;
    gateway.run(&steer("run", &[])[1..])?.stop()?;
    is_as_before(&gateway, &before)?;
    half_detached()?;
    gateway.done(&["detach"])?;
    is_as_before(&gateway, &before)
});

/// A second steer on the devices of the first.
fn second_instance(name: &str, first: &str, second: &str) -> Result<()> {
    let gateway = Gateway::up(name, 3)?;
    let before = gateway.traces()?;
    gateway.done(&steer("attach", &["--attach", first]))?;
    let steering = gateway.traces()?;
    let other = gateway.dir().join("other");
    for (device, args) in [
        (
            "lan0",
            [
                "--iface",
                "lan0",
                "--tunnel",
                "wg2",
                "--prefix",
                "10.7.0.0/16",
            ],
        ),
        (
            "wg1",
            [
                "--iface",
                "lan1",
                "--tunnel",
                "wg1",
                "--prefix",
                "10.7.0.0/16",
            ],
        ),
    ] {
        if device == "wg1" {
            gateway.ip(&[
                "link", "add", "lan1", "up", "type", "veth", "peer", "name", "host1",
            ])?;
        }
        let steering = if device == "wg1" {
            gateway.traces()?
        } else {
            steering.clone()
        };
        let outcome = Outcome::of(
            gateway
                .command_at(&other)
                .arg("run")
                .args(["--attach", second])
                .args(args),
        )?;
        let start = format!("steerctl: device {device}: another steer instance is attached");
        ensure!(
            outcome.code == 1 && outcome.stdout.is_empty(),
            "{outcome:?}"
        );
        ensure!(outcome.stderr.starts_with(&start), "{outcome:?}");
        let hint = "\nhint: use its --pin-dir, or detach it with its own steerctl\n";
        ensure!(outcome.stderr.ends_with(hint), "{outcome:?}");
        is_as_before(&gateway, &steering)?;
    }
    gateway.ip(&["link", "del", "lan1"])?;
    gateway.done(&["detach"])?;
    is_as_before(&gateway, &before)
}

test!(another_instance_by_tcx, |name| second_instance(
    name, "tcx", "tcx"
));
test!(another_instance_by_clsact, |name| second_instance(
    name, "clsact", "clsact"
));
test!(another_instance_the_other_way, |name| {
    second_instance(name, "tcx", "clsact")?;
    second_instance(name, "clsact", "tcx")
});

// What is found without its own notes is its own: maps, links and programs have numbers that are alike.
test!(beside_another_instance_whose_pins_cannot_be_read, |name| {
    let gateway = Gateway::up(name, 4)?;
    gateway.ip(&[
        "link", "add", "lan1", "up", "type", "veth", "peer", "name", "host1",
    ])?;
    for device in ["lan1", "wg2", "wg3"] {
        let args = ["qdisc", "add", "dev", device, "clsact"];
        gateway.host().output("tc", &args)?;
    }
    let other = gateway.dir().join("other");
    let at_other = |args: &[&str]| Outcome::of(gateway.command_at(&other).args(args))?.done();
    for &attach in attach_modes() {
        gateway.done(&steer("attach", &["--attach", "clsact"]))?;
        let before = gateway.traces()?;
        let there = ["--iface", "lan1", "--tunnel", "wg2", "--tunnel", "wg3"];
        let prefix = ["--prefix", "10.7.0.0/16", "--max-flows", "65536"];
        let start = ["attach", "--attach", attach];
        at_other(&[&start[..], &there, &prefix].concat())?;
        if set_layout(&other, "77")?.is_none() {
            println!("SKIP {name}: needs bpftool");
            return Ok(());
        }
        at_other(&["detach"])?;
        assert_eq!(gateway.traces()?, before, "{attach}");
        gateway.done(&["detach"])?;
    }
    Ok(())
});

test!(a_clsact_that_was_there_stays, |name| {
    let gateway = Gateway::up(name, 2)?;
    let tc = |args: &[&str]| gateway.host().output("tc", args).map(drop);
    tc(&["qdisc", "add", "dev", "lan0", "clsact"])?;
    tc(&[
        "filter",
        "add",
        "dev",
        "lan0",
        "ingress",
        "prio",
        "9",
        "protocol",
        "all",
        "bpf",
        "bytecode",
        "1,6 0 0 0",
    ])?;
    tc(&["qdisc", "add", "dev", "wg0", "clsact"])?;
    let before = gateway.traces()?;
    gateway.done(&steer("attach", &["--attach", "clsact"]))?;
    assert_ne!(gateway.traces()?, before);
    gateway.done(&["detach"])?;
    is_as_before(&gateway, &before)
});

test!(a_clsact_of_ours_stays_for_others, |name| {
    let gateway = Gateway::up(name, 2)?;
    gateway.done(&steer("attach", &["--attach", "clsact"]))?;
    let tc = |args: &[&str]| gateway.host().output("tc", args);
    // Somebody else uses what steer made, on the other side.
    tc(&[
        "filter",
        "add",
        "dev",
        "lan0",
        "egress",
        "prio",
        "9",
        "protocol",
        "all",
        "bpf",
        "bytecode",
        "1,6 0 0 0",
    ])?;
    gateway.done(&["detach"])?;
    assert!(tc(&["qdisc", "show", "dev", "lan0"])?.contains("clsact"));
    assert!(tc(&["filter", "show", "dev", "lan0", "egress"])?.contains("bpf"));
    assert_eq!(tc(&["filter", "show", "dev", "lan0", "ingress"])?, "");
    assert!(!tc(&["qdisc", "show", "dev", "wg0"])?.contains("clsact"));
    Ok(())
});

test!(an_ingress_qdisc_excludes_clsact_only, |name| {
    let gateway = Gateway::up(name, 2)?;
    gateway
        .host()
        .output("tc", &["qdisc", "add", "dev", "lan0", "ingress"])?;
    let before = gateway.traces()?;
    gateway
        .steerctl(&steer("run", &["--attach", "clsact"]))?
        .refused(&Refusal {
            code: 1,
            message: "device lan0: it has an ingress qdisc where clsact would go",
            hint: Some("if nothing needs it: tc qdisc del dev lan0 ingress"),
        })?;
    is_as_before(&gateway, &before)?;
    gateway.done(&steer("attach", &["--attach", "tcx"]))?;
    gateway.done(&["detach"])?;
    is_as_before(&gateway, &before)
});

/// A TCX program that is not steer's, attached for as long as this lives.
fn foreign_program(gateway: &Gateway, device: &str) -> Result<Ebpf> {
    gateway.host().within(|| {
        let mut object = EbpfLoader::new().load(BENCH_OBJECT)?;
        let program = object.program_mut(REDIRECT).context("no program")?;
        let program: &mut SchedClassifier = program.try_into()?;
        program.load()?;
        let options = TcAttachOptions::TcxOrder(LinkOrder::default());
        program.attach_with_options(device, TcAttachType::Ingress, options)?;
        Ok(object)
    })
}

test!(a_foreign_tcx_program_survives, |name| {
    let gateway = Gateway::up(name, 2)?;
    let _foreign = foreign_program(&gateway, "lan0")?;
    let before = gateway.traces()?;
    assert_eq!(tcx_programs(gateway.host(), "lan0")?.len(), 1);
    let running = gateway.run(&steer("run", &["--attach", "tcx"])[1..])?;
    assert_eq!(tcx_programs(gateway.host(), "lan0")?.len(), 2);
    running.stop()?;
    is_as_before(&gateway, &before)
});

test!(bpftool_reads_every_pin, |name| {
    let gateway = Gateway::up(name, 2)?;
    gateway.done(&steer("attach", &[]))?;
    for map in steer_common::abi::maps::ALL {
        if bpftool(&["map", "dump", "pinned", &text(&gateway.pin(map))])?.is_none() {
            println!("SKIP {name}: needs bpftool");
            break;
        }
    }
    gateway.done(&["detach"]).map(drop)
});
