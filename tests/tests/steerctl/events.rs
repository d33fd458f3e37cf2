//! `steerctl events`: what was done is told, in its order, once.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use steer_common::abi::{Cause, EVENTS_MAX, Event, EventKind};
use steer_tests::lab::wait;
use steer_tests::steerctl::{Flow, FlowTable, Gateway, Running, Sender};
use steer_user::datapath::maps::Maps;
use steer_user::datapath::pins::PinDir;

use crate::fixture::{flows, steer, test};

const LIMIT: Duration = Duration::from_secs(10);

/// Keys that every event has.
const KEYS: [&str; 13] = [
    "time", "event", "group", "tunnel", "before", "after", "count", "reason", "cause", "device",
    "prefix", "flow", "at_ns",
];

/// An event in a few words.
fn short(event: &Value) -> String {
    let word = |key: &str| match &event[key] {
        Value::Null => String::new(),
        Value::String(text) => format!(" {text}"),
        other => format!(" {other}"),
    };
    let keys = [
        "tunnel", "device", "prefix", "before", "after", "count", "reason", "cause",
    ];
    let words: String = keys.iter().map(|key| word(key)).collect();
    format!("{}{words}", event["event"].as_str().unwrap_or("?"))
}

fn told(gateway: &Gateway, more: &[&str]) -> Result<Vec<Value>> {
    let events = gateway.json(&[&["events"], more].concat())?;
    events.as_array().cloned().context("not an array")
}

test!(every_change_is_told, |name| {
    let gateway = Gateway::up(name, 3)?;
    gateway.done(&steer("attach", &[]))?;
    let mut table = FlowTable::open(&gateway.pin_dir())?;
    table.put((0..8).map(|number| Flow::new(number, 0)))?;
    for line in [
        "weights wg0=3 wg1=2",
        "weights wg0=3",
        "weights wg0=9 --dry-run",
        "weights wg0=1 wg1=1 --rebalance",
        "drain wg0 --wait --timeout 0s",
        "undrain wg0",
        "disable wg1",
        "enable wg1",
    ] {
        gateway.done(&line.split(' ').collect::<Vec<_>>())?;
    }
    gateway.done(&steer(
        "attach",
        &["--tunnel", "wg2=5", "--prefix", "10.3.0.0/16"],
    ))?;
    let events = told(&gateway, &[])?;
    let all: Vec<_> = events.iter().map(short).collect();
    let expected = [
        "attached lan0 ingress operator",
        "attached wg0 learn operator",
        "attached wg1 learn operator",
        "attached wg0 egress operator",
        "attached wg1 egress operator",
        "tunnel_added wg0 1 operator",
        "tunnel_added wg1 1 operator",
        "prefix_added 10.2.0.0/16 operator",
        "weight_changed wg0 1 3 operator",
        "weight_changed wg1 1 2 operator",
        "weight_changed wg0 3 1 operator",
        "weight_changed wg1 2 1 operator",
        "flow_moved wg0 wg1 rebalanced",
        "flow_moved wg0 wg1 rebalanced",
        "flow_moved wg0 wg1 rebalanced",
        "flow_moved wg0 wg1 rebalanced",
        "rebalanced 4 0 4 operator",
        "admin_changed wg0 active drain operator",
        "flow_moved wg0 wg1 rebalanced",
        "flow_moved wg0 wg1 rebalanced",
        "flow_moved wg0 wg1 rebalanced",
        "flow_moved wg0 wg1 rebalanced",
        "drain_done wg0 4 0 4 operator",
        "admin_changed wg0 drain active operator",
        "admin_changed wg1 active disabled operator",
        "admin_changed wg1 disabled active operator",
        "attached wg2 learn operator",
        "attached wg2 egress operator",
        "tunnel_added wg2 5 operator",
        "prefix_added 10.3.0.0/16 operator",
    ];
    let sorted = |lines: &[String]| {
        // Hooks are attached at once, in whatever order the table of hooks has.
        let mut lines = lines.to_vec();
        lines.sort();
        lines
    };
    let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
    assert_eq!(sorted(&all), sorted(&expected), "{all:#?}");
    // The program's clock ticks: a move may seem to come before the change that it follows.
    let changes = |lines: &[String]| -> Vec<String> {
        let moves = |line: &&String| line.starts_with("flow_moved");
        lines.iter().filter(|line| !moves(line)).cloned().collect()
    };
    assert_eq!(changes(&all[5..26]), changes(&expected[5..26]));
    for event in &events {
        let object = event.as_object().context("not an object")?;
        let keys: Vec<_> = KEYS
            .iter()
            .filter(|key| !object.contains_key(**key))
            .collect();
        ensure!(keys.is_empty(), "{event} has no {keys:?}");
    }
    let at = |event: &Value| event["at_ns"].as_u64();
    assert!(events.is_sorted_by_key(at), "not in the order of time");
    let flow = &events[12]["flow"];
    assert_eq!(
        (&flow["protocol"], &flow["src_addr"], &flow["dst_port"]),
        (&"tcp".into(), &"10.1.0.0".into(), &443.into())
    );

    // The same for people, and what is not long ago.
    let text = gateway.done(&["events"])?;
    assert_eq!(text.lines().count(), events.len(), "{text}");
    assert!(
        text.contains("  admin_changed    wg1  active → disabled  (operator)\n"),
        "{text}"
    );
    let since = told(&gateway, &["--since", "1h"])?;
    // What the wall clock said then is another calculation each time.
    let without_time = |events: &[Value]| -> Vec<Value> {
        let mut events = events.to_vec();
        for event in &mut events {
            event["time"].take();
        }
        events
    };
    assert_eq!(without_time(&since), without_time(&events));
    assert_eq!(told(&gateway, &["--since", "0s"])?, Vec::<Value>::new());
    let last = &events[events.len() - 1]["time"];
    let last = last.as_str().context("no time")?;
    let since = told(&gateway, &["--since", last])?;
    ensure!(!since.is_empty() && since.len() < events.len(), "{since:?}");
    gateway.done(&["detach"]).map(drop)
});

test!(followed_until_the_end, |name| {
    let gateway = Gateway::up(name, 2)?;
    let running = gateway.run(&steer("run", &[])[1..])?;
    let mut json = Running::start(gateway.command().args(["events", "--follow", "--json"]))?;
    let mut text = Running::start(gateway.command().args(["events", "-f", "--since", "0s"]))?;
    json.prints("\"event\":\"prefix_added\"")?;
    gateway.done(&["weights", "wg0=3"])?;
    json.prints("\"event\":\"weight_changed\"")?;
    text.prints("weight_changed   wg0  1 → 3  (operator)")?;

    // Few moves are told one by one, many as one.
    let mut sender = Sender::new(gateway.client(), 60)?;
    sender.round()?;
    let first = wait::until("60 flows", LIMIT, || {
        Ok(Some(flows(&gateway)?).filter(|flows| flows.len() == 60))
    })?;
    let on_wg0 = first.values().filter(|(on, _)| on == "wg0").count();
    gateway.done(&["disable", "wg0"])?;
    sender.round()?;
    text.prints(" flows  wg0 → wg1  tunnel_disabled")?;
    running.stop()?;
    json.says("steer was detached; waiting for the next start")?;
    text.says("steer was detached; waiting for the next start")?;
    let (json, text) = (json.stop()?, text.stop_by(Signal::SIGINT)?);
    let events: Vec<Value> = json
        .iter()
        .map(|line| serde_json::from_str(line))
        .collect::<Result<_, _>>()?;
    let moves: Vec<_> = events
        .iter()
        .filter(|event| event["event"] == "flow_moved")
        .collect();
    assert_eq!(moves.len(), on_wg0);
    for moved in moves {
        assert_eq!(short(moved), "flow_moved wg0 wg1 tunnel_disabled");
        assert_eq!(moved["flow"]["src_addr"], "10.1.0.2", "{moved}");
    }
    // The daemon's end is the last that there is to tell.
    let tail: Vec<_> = events.iter().rev().take(6).map(short).collect();
    ensure!(tail.contains(&"stopped daemon".to_owned()), "{tail:?}");
    ensure!(
        tail.contains(&"detached lan0 ingress daemon".to_owned()),
        "{tail:?}"
    );
    let counted: usize = text
        .iter()
        .filter(|line| line.contains("flow_moved") && line.contains("tunnel_disabled"))
        .map(|line| {
            let count = line
                .split(" flows  ")
                .next()
                .and_then(|head| head.rsplit(' ').next());
            count.and_then(|count| count.parse().ok()).unwrap_or(1)
        })
        .sum();
    assert_eq!(counted, on_wg0, "{text:?}");
    Ok(())
});

test!(before_a_start_and_after_a_detach, |name| {
    let gateway = Gateway::up(name, 2)?;
    let follow = || Running::start(gateway.command().args(["events", "--follow", "--json"]));
    let mut readers = [follow()?, follow()?, follow()?];
    for reader in &mut readers {
        reader.says("nothing is steered; waiting for a start")?;
    }
    // Each tells all of it, whoever else reads.
    for weight in ["wg0=2", "wg0=3"] {
        gateway.done(&steer("attach", &[]))?;
        gateway.done(&["weights", weight])?;
        for reader in &mut readers {
            reader.prints("\"event\":\"weight_changed\"")?;
        }
        gateway.done(&["detach"])?;
        for reader in &mut readers {
            reader.says("steer was detached; waiting for the next start")?;
        }
    }
    let mut first: Option<Vec<String>> = None;
    for reader in readers {
        let lines = reader.stop()?;
        let events: Vec<String> = lines
            .iter()
            .map(|line| Ok(short(&serde_json::from_str(line)?)))
            .collect::<Result<_>>()?;
        let count = |what: &str| events.iter().filter(|event| *event == what).count();
        for (what, times) in [
            ("attached lan0 ingress operator", 2),
            ("weight_changed wg0 1 2 operator", 1),
            ("weight_changed wg0 1 3 operator", 1),
            ("detached lan0 ingress operator", 2),
        ] {
            assert_eq!(count(what), times, "{what}: {events:#?}");
        }
        assert_eq!(*first.get_or_insert_with(|| events.clone()), events);
    }
    Ok(())
});

test!(what_the_daemon_and_the_file_change_is_told, |name| {
    let gateway = Gateway::up(name, 2)?;
    let file = gateway.host().dir().join("steer.toml");
    let write = |weight: &str| -> Result<()> {
        let text = format!(
            "[[group]]\nname = \"default\"\niface = [\"lan0\"]\nprefixes = [\"10.2.0.0/16\"]\n\
             [[group.tunnel]]\nname = \"wg0\"\nweight = {weight}\n\
             [[group.tunnel]]\nname = \"wg1\"\nweight = 1\n"
        );
        Ok(std::fs::write(&file, text)?)
    };
    write("1")?;
    let path = file.to_str().context("a path")?;
    let running = gateway.run(&["--config", path])?;
    let mut reader = Running::start(gateway.command().args(["events", "--follow", "--json"]))?;
    reader.prints("\"event\":\"started\"")?;
    write("4")?;
    running.signal(Signal::SIGHUP)?;
    reader.prints("\"event\":\"reloaded\"")?;
    write("\"many\"")?;
    running.signal(Signal::SIGHUP)?;
    reader.prints("\"event\":\"reload_refused\"")?;
    gateway.ip(&["link", "set", "wg1", "down"])?;
    reader.prints("\"after\":\"down\"")?;
    gateway.ip(&["link", "set", "wg1", "up"])?;
    reader.prints("\"before\":\"down\"")?;
    gateway.ip(&["link", "del", "wg1"])?;
    reader.prints("\"event\":\"device_changed\"")?;
    running.stop()?;
    reader.says("steer was detached")?;
    let all: Vec<String> = reader
        .stop()?
        .iter()
        .map(|line| Ok(short(&serde_json::from_str(line)?)))
        .collect::<Result<_>>()?;
    for told in [
        "tunnel_added wg0 1 config",
        "weight_changed wg0 1 4 config",
        "reloaded 1 config",
        "reload_refused config",
    ] {
        ensure!(all.iter().any(|event| event == told), "{told}: {all:#?}");
    }
    let told = |start: &str, end: &str| {
        let is_it = |event: &&String| event.starts_with(start) && event.ends_with(end);
        all.iter()
            .find(is_it)
            .with_context(|| format!("{start} … {end}: {all:#?}"))
    };
    told("health_changed wg1 ", " down device_down daemon")?;
    told("health_changed wg1 down ", " daemon")?;
    told("device_changed wg1 ", " daemon")?;
    Ok(())
});

test!(what_was_overwritten_is_said, |name| {
    let gateway = Gateway::up(name, 2)?;
    gateway.done(&steer("attach", &[]))?;
    let mut maps = Maps::open(&PinDir::new(gateway.pin_dir()))?;
    let before = told(&gateway, &[])?.len();
    let reload = Event::new(EventKind::Reloaded, Cause::Config);
    for _ in 0..EVENTS_MAX {
        maps.push_event(&reload)?;
    }
    let events = told(&gateway, &[])?;
    let lost = events[0]["count"].as_u64().context("no count")?;
    assert_eq!(
        (&events[0]["event"], lost),
        (&"lost".into(), u64::try_from(before)?)
    );
    assert_eq!(events.len(), 1 + EVENTS_MAX);
    let text = gateway.done(&["events"])?;
    let first = format!("… {before} events lost (overwritten before they were read)\n");
    ensure!(text.starts_with(&first), "{text:.200}");
    // Nothing of the last moment was.
    assert_eq!(told(&gateway, &["--since", "0s"])?, Vec::<Value>::new());
    gateway.done(&["detach"]).map(drop)
});

test!(a_reader_that_goes_away, |name| {
    let gateway = Gateway::up(name, 2)?;
    gateway.done(&steer("attach", &[]))?;
    let mut child = gateway
        .command()
        .args(["events", "--follow"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    drop(child.stdout.take());
    let status = wait::until("the end", LIMIT, || Ok(child.try_wait()?))?;
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().context("no pipe")?, &mut said)?;
    ensure!(status.success() && said.is_empty(), "{status}: {said}");
    gateway.done(&["detach"]).map(drop)
});
