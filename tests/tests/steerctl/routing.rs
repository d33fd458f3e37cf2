//! Policy rules, routes and sysctls: they come before packets need them, go after, and come back.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use steer_tests::lab::wait;
use steer_tests::steerctl::{Gateway, Outcome, Refusal, Running, Sender};
use steer_user::datapath::maps::Maps;
use steer_user::datapath::pins::PinDir;

use crate::fixture::{forwards, is_as_before, readers, steer, test, total};

const SOON: Duration = Duration::from_secs(20);
const MARK: [&str; 2] = ["--hook", "mark"];

/// steer's rules and routes, as `ip` shows them.
fn routing(gateway: &Gateway) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for family in ["-4", "-6"] {
        let rules = gateway.host().output("ip", &[family, "rule"])?;
        let routes = ["route", "show", "table", "all", "proto", "87"];
        let routes = gateway
            .host()
            .output("ip", &[&[family][..], &routes].concat())?;
        let ours = rules.lines().filter(|line| line.contains("proto 87"));
        let line = |line: &str| {
            let words = line.split_whitespace().filter(|word| *word != "linkdown");
            format!("{family} {}", words.collect::<Vec<_>>().join(" "))
        };
        found.extend(ours.map(line));
        found.extend(routes.lines().map(line));
    }
    found.sort();
    Ok(found)
}

/// What `routing` is for `wg0` and `wg1` in the first slot.
fn expected() -> Vec<String> {
    let mut all = Vec::new();
    for (family, end) in [("-4", "scope link"), ("-6", "metric 1024 pref medium")] {
        for k in 0..2 {
            all.push(format!(
                "{family} 5210: from all fwmark {:#x}/0xff000000 lookup {} proto 87",
                (k + 1) << 24,
                572_300 + k
            ));
        }
        for k in 0..2 {
            all.push(format!(
                "{family} default dev wg{k} table {} {end}",
                572_300 + k
            ));
        }
    }
    all.sort();
    all
}

fn settled(gateway: &Gateway, what: &str) -> Result<()> {
    wait::until(what, SOON, || {
        Ok((routing(gateway)? == expected()).then_some(()))
    })
    .with_context(|| format!("{:#?}", routing(gateway)))
}

test!(rules_and_routes_come_back, |name| {
    let gateway = Gateway::up(name, 2)?;
    let before = gateway.traces()?;
    let running = gateway.run(&steer("run", &MARK)[1..])?;
    settled(&gateway, "at the start")?;
    gateway.ip(&["link", "set", "wg1", "down"])?;
    gateway.ip(&["link", "set", "wg1", "up"])?;
    settled(&gateway, "after down and up")?;
    gateway.ip(&["link", "del", "wg1"])?;
    gateway.add_tunnel("wg1")?;
    settled(&gateway, "made anew")?;
    gateway.ip(&["rule", "del", "pref", "5210"])?;
    gateway.ip(&["-6", "rule", "flush"])?;
    gateway.ip(&["-6", "rule", "add", "pref", "0", "lookup", "local"])?;
    gateway.ip(&["-6", "rule", "add", "pref", "32766", "lookup", "main"])?;
    gateway.ip(&["route", "flush", "table", "572301"])?;
    settled(&gateway, "removed by somebody")?;
    running.stop()?;
    let after = gateway.traces()?;
    assert!(!after.contains("5210"), "{after}");
    assert!(before.contains("lookup main"), "{before}");
    Ok(())
});

/// Kills a start by marks at some time, then goes on from there.
fn killed_starts(name: &str, attach: &str) -> Result<()> {
    let gateway = Gateway::up(name, 2)?;
    gateway.sysctl("net.ipv4.conf.wg1.rp_filter", "1")?;
    let before = gateway.traces()?;
    let args = steer("run", &["--attach", attach, "--fix", "--hook", "mark"]);
    for attempt in 0..24_u64 {
        let running = Running::start(gateway.command().args(&args))?;
        // The point in its life at which it dies.
        wait::pause(Duration::from_millis(attempt * 25))?;
        running.kill()?;
        match attempt % 4 {
            0 => {}
            1 => {
                let again = gateway.run(&args[1..])?;
                assert_eq!(routing(&gateway)?, expected());
                again.stop()?;
            }
            2 => {
                // Another way needs none of it.
                gateway.done(&steer("attach", &["--hook", "egress", "--fix"]))?;
                assert!(routing(&gateway)?.is_empty());
            }
            _ => {
                gateway.run(&args[1..])?.kill()?;
                assert_eq!(routing(&gateway)?, expected());
            }
        }
        gateway.done(&["detach"])?;
        is_as_before(&gateway, &before)?;
    }
    Ok(())
}

test!(a_start_by_marks_killed_anywhere, |name| killed_starts(
    name, "tcx"
));
test!(a_start_by_marks_killed_anywhere_on_clsact, |name| {
    killed_starts(name, "clsact")
});

test!(a_detach_killed_anywhere, |name| {
    let gateway = Gateway::up(name, 2)?;
    gateway.sysctl("net.ipv4.conf.wg1.rp_filter", "1")?;
    let before = gateway.traces()?;
    for attempt in 0..24_u64 {
        gateway.done(&steer("attach", &["--fix", "--hook", "mark"]))?;
        let detach = Running::start(gateway.command().arg("detach"))?;
        // The point in its life at which it dies.
        wait::pause(Duration::from_millis(attempt * 5))?;
        detach.kill()?;
        gateway.done(&["detach"])?;
        is_as_before(&gateway, &before)?;
    }
    Ok(())
});

/// A route of somebody else's where steer's would go.
fn block(gateway: &Gateway, verb: &str) -> Result<()> {
    let route = ["default", "dev", "lan0", "table", "572301"];
    gateway.ip(&[&["route", verb][..], &route].concat())
}

test!(a_start_that_fails_half_way, |name| {
    let gateway = Gateway::up(name, 2)?;
    gateway.sysctl("net.ipv4.conf.wg1.rp_filter", "1")?;
    let refusal = Refusal {
        code: 1,
        message: "IPv4 routing table 572301: it has a default route that is not steer's",
        hint: Some("ip route show table 572301"),
    };
    let args = steer("attach", &["--fix", "--hook", "mark"]);
    block(&gateway, "add")?;
    let before = gateway.traces()?;
    gateway.steerctl(&args)?.refused(&refusal)?;
    is_as_before(&gateway, &before)?;

    // What was there goes on, whatever it was.
    for mode in ["ingress", "egress"] {
        gateway.done(&steer("attach", &["--fix", "--hook", mode]))?;
        let steering = gateway.traces()?;
        let status = gateway.json(&["status"])?;
        gateway.steerctl(&args)?.refused(&refusal)?;
        is_as_before(&gateway, &steering)?;
        let now = gateway.json(&["status"])?;
        assert_eq!(now["hook"], status["hook"]);
        gateway.done(&["detach"])?;
        is_as_before(&gateway, &before)?;
    }
    block(&gateway, "del")?;
    gateway.done(&args)?;
    gateway.done(&["detach"])?;
    Ok(())
});

test!(marks_that_somebody_uses, |name| {
    let gateway = Gateway::up(name, 2)?;
    gateway.ip(&[
        "rule",
        "add",
        "pref",
        "77",
        "fwmark",
        "0x2000000/0x2000000",
        "lookup",
        "main",
    ])?;
    let before = gateway.traces()?;
    gateway.steerctl(&steer("run", &MARK))?.refused(&Refusal {
        code: 1,
        message: "mark 0xff000000: IPv4 rule 'pref 77 fwmark 0x2000000/0x2000000 lookup 254' uses these bits",
        hint: Some("give steer bits of its own: --mark-mask 0x00ff0000"),
    })?;
    gateway
        .steerctl(&steer("run", &["--hook", "mark", "--mark-mask", "0x1"]))?
        .refused(&Refusal {
            code: 1,
            message: "mark 0x00000001: no room for tunnel wg1, whose id is 1",
            hint: Some("more bits, or a smaller id: --tunnel wg1@0"),
        })?;
    is_as_before(&gateway, &before)?;
    gateway.done(&steer(
        "attach",
        &["--hook", "mark", "--mark-mask", "ff0000"],
    ))?;
    assert_eq!(gateway.json(&["status"])?["mark_mask"], 0x00ff_0000);
    gateway.done(&["detach"])?;
    is_as_before(&gateway, &before)
});

test!(two_steers_by_marks, |name| {
    let gateway = Gateway::up(name, 2)?;
    gateway.add_tunnel("wg5")?;
    gateway.ip(&[
        "link", "add", "lan5", "up", "type", "veth", "peer", "name", "host5",
    ])?;
    let before = gateway.traces()?;
    gateway.done(&steer("attach", &MARK))?;
    let first = gateway.traces()?;
    let other = gateway.dir().join("other");
    let second = |more: &[&str]| {
        let args = [
            "--iface",
            "lan5",
            "--tunnel",
            "wg5",
            "--prefix",
            "10.5.0.0/16",
        ];
        let mut command = gateway.command_at(&other);
        Outcome::of(command.arg("attach").args(args).args(MARK).args(more))
    };
    let refused = second(&[])?;
    assert_eq!(refused.code, 1);
    let user = "mark 0xff000000: IPv4 rule 'pref 5210 fwmark 0x1000000/0xff000000 lookup 572300' uses these bits";
    assert!(refused.stderr.contains(user), "{refused:?}");
    is_as_before(&gateway, &first)?;

    second(&["--mark-mask", "0xff0000"])?.done()?;
    let both = routing(&gateway)?;
    let rule = "-4 5211: from all fwmark 0x60000/0xff0000 lookup 572561 proto 87";
    assert!(both.iter().any(|line| line == rule), "{both:#?}");
    gateway.done(&["detach"])?;
    let left = routing(&gateway)?;
    assert_eq!(left.len(), 4, "{left:#?}");
    Outcome::of(gateway.command_at(&other).arg("detach"))?.done()?;
    std::fs::remove_dir_all(&other).or_else(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })?;
    is_as_before(&gateway, &before)
});

test!(marks_only_while_the_mtus_differ, |name| {
    let gateway = Gateway::up(name, 2)?;
    forwards(&gateway)?;
    let before = gateway.traces()?;
    gateway.ip(&["link", "set", "wg1", "mtu", "1380"])?;
    gateway.done(&steer("attach", &[]))?;
    assert_eq!(gateway.json(&["status"])?["hook"], "ingress");
    assert_eq!(routing(&gateway)?, expected());
    gateway
        .steerctl(&steer("attach", &["--hook", "egress"]))?
        .refused(&Refusal {
            code: 1,
            message: "hook egress: the tunnels' MTUs differ (wg0 1420, wg1 1380)",
            hint: Some("--hook mark, or give the tunnels one MTU"),
        })?;
    gateway.ip(&["link", "set", "wg1", "mtu", "1420"])?;
    gateway.done(&["attach"])?;
    assert!(routing(&gateway)?.is_empty());
    gateway.done(&["detach"])?;
    is_as_before(&gateway, &before)
});

test!(strict_filters_are_fixed_and_restored, |name| {
    let gateway = Gateway::up(name, 2)?;
    forwards(&gateway)?;
    let filter = |value| gateway.sysctl("net.ipv4.conf.wg1.rp_filter", value);
    filter("1")?;
    let before = gateway.traces()?;
    let strict = "tunnel wg1: net.ipv4.conf.wg1.rp_filter is strict, and the kernel's route to \
                  10.2.0.0/16 is not by this tunnel: replies that come by it would be dropped";
    for args in [&["run"][..], &["attach"], &["attach", "--dry-run"]] {
        gateway
            .steerctl(&[args, &steer("", &[])[1..]].concat())?
            .refused(&Refusal {
                code: 1,
                message: strict,
                hint: Some("sysctl -w net.ipv4.conf.wg1.rp_filter=2, or --fix"),
            })?;
        is_as_before(&gateway, &before)?;
    }
    let now = || gateway.value("net.ipv4.conf.wg1.rp_filter");
    let running = gateway.run(&steer("run", &["--fix"])[1..])?;
    assert_eq!(now()?, "2");
    // The device is made anew, with the value that new devices have.
    gateway.sysctl("net.ipv4.conf.default.rp_filter", "1")?;
    gateway.ip(&["link", "del", "wg1"])?;
    gateway.add_tunnel("wg1")?;
    wait::until("the new wg1 is loose", SOON, || {
        Ok((now()? == "2").then_some(()))
    })?;
    running.kill()?;
    // A restart without a word keeps it.
    let running = gateway.run(&[])?;
    assert_eq!(now()?, "2");
    // A tunnel that leaves gets its value back.
    let only = [
        "--iface",
        "lan0",
        "--tunnel",
        "wg0",
        "--prefix",
        "10.2.0.0/16",
    ];
    gateway.done(&[&["attach"][..], &only].concat())?;
    assert_eq!(now()?, "1");
    gateway.done(&steer("attach", &["--fix"]))?;
    assert_eq!(now()?, "2");
    drop(running);
    gateway.done(&["detach"])?;
    assert_eq!(now()?, "1");
    // What somebody else has set since is theirs.
    gateway.done(&steer("attach", &["--fix"]))?;
    filter("0")?;
    gateway.done(&["detach"])?;
    assert_eq!(now()?, "0");
    Ok(())
});

// A try to follow a new device may fail after its filter was changed and before the maps know the device.
test!(what_a_filter_was_survives_a_second_try, |name| {
    let gateway = Gateway::up(name, 2)?;
    forwards(&gateway)?;
    for device in ["wg1", "default"] {
        gateway.sysctl(&format!("net.ipv4.conf.{device}.rp_filter"), "1")?;
    }
    let running = gateway.run(&steer("run", &["--fix"])[1..])?;
    let pins = PinDir::new(gateway.pin_dir());
    // As the first try leaves it: what is noted is as before, and the filter is loose.
    let lock = pins.lock()?;
    gateway.ip(&["link", "del", "wg1"])?;
    gateway.add_tunnel("wg1")?;
    gateway.sysctl("net.ipv4.conf.wg1.rp_filter", "2")?;
    drop(lock);
    let ifindex = gateway
        .host()
        .within(|| Ok(nix::net::if_::if_nametoindex("wg1")?))?;
    let maps = Maps::open(&pins)?;
    wait::until("the new wg1 is followed", SOON, || {
        Ok((maps.tunnel(1)?.ifindex == ifindex).then_some(()))
    })?;
    running.stop()?;
    assert_eq!(gateway.value("net.ipv4.conf.wg1.rp_filter")?, "1");
    Ok(())
});

test!(marked_packets_leave_with_the_tunnel, |name| {
    let gateway = Gateway::up(name, 2)?;
    forwards(&gateway)?;
    let running = gateway.run(&steer("run", &MARK)[1..])?;
    let tunnels = readers(&gateway, 2)?;
    gateway.done(&["disable", "wg0"])?;
    let mut sender = Sender::new(gateway.client(), 20)?;
    sender.round()?;
    wait::until("all by wg1, past the kernel's own route", SOON, || {
        Ok((tunnels[1].count() == 20 && total(&tunnels) == 20).then_some(()))
    })?;
    running.stop()?;
    tunnels[1].clear();
    sender.round()?;
    wait::until("all by the kernel's route again", SOON, || {
        Ok((tunnels[0].count() == 20).then_some(()))
    })?;
    assert_eq!(tunnels[1].count(), 0);
    Ok(())
});

test!(rules_of_another_namespace, |name| {
    let gateway = Gateway::up(name, 2)?;
    let before = gateway.traces()?;
    gateway.done(&steer("attach", &["--hook", "mark"]))?;
    let steering = gateway.traces()?;
    let mut command = Command::new(gateway.program());
    command
        .arg("--pin-dir")
        .arg(gateway.pin_dir())
        .arg("detach");
    let pins = gateway.pin_dir().display().to_string();
    Outcome::of(&mut command)?.refused(&Refusal {
        code: 1,
        message: &format!("{pins}: steers in another network namespace"),
        hint: Some("name that one by --netns, or another --pin-dir for this one"),
    })?;
    assert_eq!(gateway.traces()?, steering);
    gateway.done(&["detach"])?;
    assert_eq!(gateway.traces()?, before);
    Ok(())
});
