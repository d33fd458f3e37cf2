//! SIGHUP: the file is read again, and all of it becomes so or nothing does.

use anyhow::Result;
use nix::sys::signal::Signal;
use steer_tests::lab::wait;
use steer_tests::steerctl::{Flood, Gateway, Running, Sender};

use crate::fixture::{Group, SOON, Site, arrive, one_group, ports, test, text};

/// Has the file read again, and waits for these words about it.
fn reload(running: &mut Running, words: &str) -> Result<()> {
    running.signal(Signal::SIGHUP)?;
    running.says(words)
}

/// What is steered where, without counters.
fn kept(gateway: &Gateway) -> Result<String> {
    let status = gateway.json(&["status"])?;
    let groups = status["groups"].as_array().into_iter().flatten();
    let told = groups.map(|group| {
        let tunnels = group["tunnels"].as_array().into_iter().flatten();
        let tunnels: Vec<_> = tunnels
            .map(|t| {
                format!(
                    "{}={}@{} {} {}",
                    t["name"], t["weight"], t["id"], t["share"], t["admin"]
                )
            })
            .collect();
        let hooks = group["hooks"].as_array().map(Vec::len);
        format!(
            "{} {} {hooks:?} {tunnels:?}",
            group["name"], group["prefixes"]
        )
    });
    Ok(told.collect::<Vec<_>>().join("\n"))
}

/// Tunnels, a prefix and a group come and go, and weights change; only the flows of a tunnel that leaves move.
fn changes_under_traffic(name: &str, attach: &str) -> Result<()> {
    let first = one_group(&[("wg0", 1), ("wg1", 1), ("wg2", 1)]);
    let site = Site::up(name, 5, &first)?;
    let gateway = &site.gateway;
    let before = gateway.traces()?;
    let readers = site.readers(5)?;
    let mut running = site.run(&["--attach", attach])?;
    let mut sender = Sender::new(gateway.client(), 90)?;
    sender.round()?;
    arrive(&readers, 90)?;
    let placed = ports(&readers);
    assert!(
        placed[..3].iter().all(|ports| ports.len() > 10),
        "{placed:?}"
    );
    let flood = Flood::start(sender, 2_000);

    reload(
        &mut running,
        "configuration read again: 0 changes, 0 live flows moved",
    )?;
    site.write(&one_group(&[("wg0", 7), ("wg1", 2), ("wg2", 1)]))?;
    reload(
        &mut running,
        "configuration read again: 2 changes, 0 live flows moved",
    )?;
    let all = [
        Group {
            name: "default",
            prefixes: &["10.2.0.0/16", "10.7.0.0/16"],
            tunnels: &[("wg0", 1), ("wg1", 1), ("wg3", 1)],
        },
        Group {
            name: "east",
            prefixes: &["10.3.0.0/16"],
            tunnels: &[("wg4", 1)],
        },
    ];
    site.write(&text(&all))?;
    let moving = placed[2].len();
    // Weights back, a tunnel for another one, a prefix, a group with a tunnel and a prefix.
    let words = format!("configuration read again: 8 changes, {moving} live flows moved");
    reload(&mut running, &words)?;
    let mut east = Sender::to(gateway.client(), 20, "10.3.0.2:9")?;
    east.round()?;
    site.write(&first)?;
    reload(&mut running, "configuration read again: 4 changes")?;

    let sent = flood.stop()?.sent();
    arrive(&readers, sent + east.sent())?;
    let seen = ports(&readers);
    assert_eq!(seen[4].len(), 20, "the other group's flows");
    for (k, placed) in placed.iter().enumerate().take(2) {
        for (other, seen) in seen.iter().enumerate().filter(|(other, _)| *other != k) {
            assert!(seen.is_disjoint(placed), "wg{k}'s flows on wg{other}");
        }
    }
    let doubles: u64 = readers.iter().map(|reader| reader.seen().doubles).sum();
    println!("{sent} sent, {moving} of 90 flows on the tunnel that left");
    assert_eq!(doubles, 0);
    running.stop()?;
    assert_eq!(gateway.traces()?, before);
    Ok(())
}

test!(what_is_new_is_done_under_traffic, |name| {
    changes_under_traffic(name, "tcx")
});
test!(what_is_new_is_done_on_clsact, |name| changes_under_traffic(
    name, "clsact"
));

test!(what_cannot_be_is_refused_whole, |name| {
    let first = one_group(&[("wg0", 1), ("wg1", 3)]);
    let site = Site::up(name, 3, &first)?;
    let gateway = &site.gateway;
    let mut running = site.run(&[])?;
    gateway.done(&["weights", "wg0=2"])?;
    let (steering, before) = (kept(gateway)?, gateway.traces()?);
    let two = |prefix: &str, tunnel: &str| {
        let prefixes = [prefix];
        let group = Group {
            name: "east",
            prefixes: &prefixes,
            tunnels: &[(tunnel, 1)],
        };
        let default = Group {
            name: "default",
            prefixes: &["10.2.0.0/16"],
            tunnels: &[("wg0", 9), ("wg1", 9)],
        };
        text(&[default, group])
    };
    for (text, words) in [
        ("seed = \n".to_owned(), ":1: "),
        (first.replace("weight", "wieght"), "wieght: unknown key"),
        (
            two("10.2.9.0/24", "wg2"),
            "overlaps prefix 10.2.0.0/16 of group default",
        ),
        (two("10.3.0.0/16", "wg7"), "tunnel wg7: no such device"),
        (
            two("10.3.0.0/16", "wg1"),
            "tunnel wg1: belongs to group default",
        ),
        (two("10.1.0.0/16", "wg2"), "10.1.0.1"),
        (
            format!("max-flows = 1\n{}", two("10.3.0.0/16", "wg2")),
            "flow",
        ),
        (
            two("10.3.0.0/16", "wg2") + "mtu = 1300\n",
            "tunnel wg2: its MTU is 1420, not 1300",
        ),
    ] {
        site.write(&text)?;
        reload(&mut running, "configuration refused, nothing is changed: ")
            .and_then(|()| running.said(words))?;
        assert_eq!(kept(gateway)?, steering, "{words}");
        assert_eq!(gateway.traces()?, before, "{words}");
    }
    let events = gateway.done(&["events"])?;
    assert_eq!(events.matches("reload_refused").count(), 8, "{events}");
    // The process is as good as before.
    site.write(&two("10.3.0.0/16", "wg2"))?;
    reload(&mut running, "configuration read again: 5 changes")?;
    assert_ne!(kept(gateway)?, steering);
    running.stop().map(drop)
});

// The hook mode, with which all programs change.
test!(another_hook, |name| {
    let first = one_group(&[("wg0", 1), ("wg1", 1)]);
    let site = Site::up(name, 2, &format!("hook = \"ingress\"\n{first}"))?;
    let gateway = &site.gateway;
    let before = gateway.traces()?;
    let readers = site.readers(2)?;
    let mut running = site.run(&[])?;
    let mut sender = Sender::new(gateway.client(), 40)?;
    sender.round()?;
    arrive(&readers, 40)?;
    let placed = ports(&readers);
    let flood = Flood::start(sender, 1_000);
    for hook in ["egress", "mark", "ingress"] {
        site.write(&format!("hook = {hook:?}\n{first}"))?;
        reload(&mut running, "configuration read again: ")?;
        assert_eq!(gateway.json(&["status"])?["hook"], hook);
    }
    let sent = flood.stop()?.sent();
    arrive(&readers, sent)?;
    assert_eq!(ports(&readers), placed, "no flow moved");
    running.stop()?;
    assert_eq!(gateway.traces()?, before);
    Ok(())
});

// A group's prefixes are given, or those of the kernel's routes, of all or of some.
test!(routes_are_followed_or_not, |name| {
    let given = one_group(&[("wg0", 1), ("wg1", 1)]);
    let follow = |which: &str| {
        let follow = format!("follow-routes = {which}");
        given.replace("prefixes = [\"10.2.0.0/16\"]", &follow)
    };
    let site = Site::up(name, 2, &given)?;
    let gateway = &site.gateway;
    for route in [
        &["del", "10.0.0.0/8"][..],
        &["add", "10.20.0.0/16", "dev", "wg0"],
        &["add", "10.21.0.0/16", "dev", "wg1", "metric", "500"],
    ] {
        gateway.ip(&[&["route"], route].concat())?;
    }
    let before = gateway.traces()?;
    let mut running = site.run(&[])?;
    for (file, wanted) in [
        (follow("true"), &["10.20.0.0/16", "10.21.0.0/16"][..]),
        (follow("{ metric-max = 100 }"), &["10.20.0.0/16"]),
        (
            follow("{ tables = [\"main\"], protocols = [\"boot\"] }"),
            &["10.20.0.0/16", "10.21.0.0/16"],
        ),
        (given.clone(), &["10.2.0.0/16"]),
    ] {
        site.write(&file)?;
        reload(&mut running, "configuration read again: ")?;
        wait::until(&format!("{wanted:?}"), SOON, || {
            let status = gateway.json(&["status"])?;
            let found = status["groups"][0]["prefixes"]
                .as_array()
                .into_iter()
                .flatten();
            let mut found: Vec<_> = found.filter_map(|prefix| prefix.as_str()).collect();
            found.sort_unstable();
            Ok((found == wanted).then_some(()))
        })?;
    }
    running.stop()?;
    assert_eq!(gateway.traces()?, before);
    Ok(())
});

// One that was started without a file has none to read.
test!(without_a_file, |name| {
    let site = Site::up(name, 1, "")?;
    let args = [
        "--iface",
        "lan0",
        "--tunnel",
        "wg0",
        "--prefix",
        "10.2.0.0/16",
    ];
    let mut running = site.gateway.run(&args)?;
    reload(
        &mut running,
        "configuration refused, nothing is changed: there is no configuration file",
    )?;
    running.says("hint: start with steerctl run --config FILE")?;
    running.stop().map(drop)
});

// What was changed by hand and not saved is as the file says after it is read again; what was saved stays, and
// so do the file's comments.
test!(weights_that_were_saved_stay, |name| {
    let first =
        one_group(&[("wg0", 1), ("wg1", 1)]).replace("weight = 1\n", "weight = 1  # as ever\n");
    let site = Site::up(name, 2, &first)?;
    let gateway = &site.gateway;
    let mut running = site.run(&[])?;
    gateway.done(&["weights", "wg0=5"])?;
    reload(&mut running, "configuration read again: 1 changes")?;
    assert_eq!(gateway.tunnel("wg0")?["weight"], 1);
    gateway.done(&["weights", "wg0=5", "--save", "--config", site.file()])?;
    let saved = first.replacen("weight = 1  # as ever", "weight = 5  # as ever", 1);
    assert_eq!(site.text()?, saved);
    reload(&mut running, "configuration read again: 0 changes")?;
    assert_eq!(gateway.tunnel("wg0")?["weight"], 5);
    running.stop().map(drop)
});

test!(a_reload_that_only_fixes_sysctls, |name| {
    let text = one_group(&[("wg0", 1), ("wg1", 1)]);
    let site = Site::up(name, 2, &text)?;
    let mut running = site.run(&[])?;
    let rp_filter = "net.ipv4.conf.wg1.rp_filter";
    site.gateway.sysctl(rp_filter, "1")?;
    site.write(&format!("fix = true\n{text}"))?;
    let said = site.gateway.done(&["check"])?;
    assert!(
        said.contains(&format!("sysctl {rp_filter}: value 1 becomes 2\n")),
        "{said}"
    );
    reload(
        &mut running,
        "configuration read again: 1 changes, 0 live flows moved",
    )?;
    let path = "/proc/sys/net/ipv4/conf/wg1/rp_filter";
    let now = || {
        site.gateway
            .host()
            .within(|| Ok(std::fs::read_to_string(path)?))
    };
    assert_eq!(now()?.trim(), "2");
    running.stop()?;
    assert_eq!(now()?.trim(), "1", "as it was before");
    Ok(())
});

test!(tunnels_that_leave_or_are_renumbered_are_told, |name| {
    let site = Site::up(name, 3, &one_group(&[("wg0", 1), ("wg1", 1), ("wg2", 1)]))?;
    let mut running = site.run(&[])?;
    let text = one_group(&[("wg0", 1), ("wg1", 1)]);
    site.write(&text.replace("name = \"wg1\"\n", "name = \"wg1\"\nid = 7\n"))?;
    reload(&mut running, "configuration read again: 2 changes")?;
    let events = site.gateway.done(&["events"])?;
    let told: Vec<_> = events
        .lines()
        .filter_map(|line| Some(line.split_once("Z  ")?.1))
        .filter(|line| line.starts_with("tunnel_"))
        .collect();
    assert_eq!(
        told,
        [
            "tunnel_added     wg0  weight 1, id 0  (config)",
            "tunnel_added     wg1  weight 1, id 1  (config)",
            "tunnel_added     wg2  weight 1, id 2  (config)",
            "tunnel_removed   wg1  id 1  (config)",
            "tunnel_removed   wg2  id 2  (config)",
            "tunnel_added     wg1  weight 1, id 7  (config)",
        ]
    );
    running.stop().map(drop)
});
