//! Live flows and weights: what is promised on the live table is what is done.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use serde_json::Value;
use steer_common::abi::Placer;
use steer_tests::lab::wait;
use steer_tests::steerctl::{Flow, FlowTable, Gateway, Outcome, Running, Sender};

use crate::fixture::{all_refused, flows, steer, test};

/// A gateway over `wg0` and `wg1`, with so many entries on each.
fn with_flows(name: &str, counts: [u32; 2]) -> Result<(Gateway, FlowTable)> {
    let gateway = Gateway::up(name, 2)?;
    gateway.done(&steer("attach", &[]))?;
    let mut table = FlowTable::open(&gateway.pin_dir())?;
    table.put((0..counts[0]).map(|number| Flow::new(number, 0)))?;
    table.put((counts[0]..counts[0] + counts[1]).map(|number| Flow::new(number, 1)))?;
    Ok((gateway, table))
}

/// A number of each tunnel of a report.
fn of_tunnels(report: &Value, key: &str) -> Vec<u64> {
    let tunnels = report["tunnels"].as_array();
    let numbers = tunnels.into_iter().flatten();
    numbers
        .map(|tunnel| tunnel[key].as_u64().unwrap_or(u64::MAX))
        .collect()
}

/// What `status` counts of moves: into `wg0`, out of it, into `wg1`, out of it.
fn moves(gateway: &Gateway) -> Result<[u64; 4]> {
    let number = |name, key: &str| -> Result<u64> {
        gateway.tunnel(name)?[key].as_u64().context("no number")
    };
    Ok([
        number("wg0", "moved_in")?,
        number("wg0", "moved_out")?,
        number("wg1", "moved_in")?,
        number("wg1", "moved_out")?,
    ])
}

test!(a_rehearsal_is_exact, |name| {
    let gateway = Gateway::up(name, 2)?;
    gateway.done(&steer("attach", &[]))?;
    let mut sender = Sender::new(gateway.client(), 60)?;
    sender.round()?;
    let first = wait::until("60 flows", Duration::from_secs(5), || {
        Ok(Some(flows(&gateway)?).filter(|flows| flows.len() == 60))
    })?;
    let on_wg0 = first.values().filter(|(on, _)| on == "wg0").count();
    let on_wg0 = u64::try_from(on_wg0)?;
    let surplus = on_wg0.abs_diff(45);
    ensure!(
        (10..45).contains(&on_wg0),
        "{on_wg0} of 60 flows are on wg0"
    );

    let wanted = ["weights", "wg0=3", "wg1=1", "--dry-run"];
    let report = gateway.json(&wanted)?;
    assert_eq!(report["live_flows_moved"], 0, "{report}");
    assert_eq!(report["live_flows"], 60);
    assert_eq!(of_tunnels(&report, "flows_old"), [on_wg0, 60 - on_wg0]);
    assert_eq!(of_tunnels(&report, "flows"), [on_wg0, 60 - on_wg0]);

    let report = gateway.json(&[&wanted[..], &["--rebalance"]].concat())?;
    assert_eq!(report["live_flows_moved"], surplus, "{report}");
    assert_eq!(of_tunnels(&report, "flows_old"), [on_wg0, 60 - on_wg0]);
    assert_eq!(of_tunnels(&report, "flows"), [45, 15]);
    assert_eq!(report["tunnels"][0]["flow_share"], 0.75);
    assert_eq!(flows(&gateway)?, first, "a rehearsal changes nothing");
    assert_eq!(gateway.tunnel("wg0")?["weight"], 1);

    let report = gateway.json(&["weights", "wg0=3", "wg1=1", "--rebalance"])?;
    assert_eq!(report["live_flows_moved"], surplus, "{report}");
    assert_eq!(report["live_flows_left"], 0);
    assert_eq!(of_tunnels(&report, "flows"), [45, 15]);
    let second = flows(&gateway)?;
    let moved: Vec<_> = first
        .keys()
        .filter(|port| second.get(port) != first.get(port))
        .collect();
    assert_eq!(moved.len(), usize::try_from(surplus)?);
    for port in moved {
        assert_eq!(second[port], ("wg0".into(), "moved".into()), "port {port}");
    }
    assert_eq!(moves(&gateway)?, [surplus, 0, 0, surplus]);

    // Once more moves none, and packets stay where their flows are now.
    let again = gateway.json(&["weights", "--rebalance"])?;
    assert_eq!(
        (&again["live_flows_moved"], &again["rebalance"]),
        (&0.into(), &true.into())
    );
    sender.round()?;
    assert_eq!(flows(&gateway)?, second);
    gateway.done(&["detach"]).map(drop)
});

test!(the_longest_idle_go_and_the_far_ends_stay, |name| {
    let (gateway, mut table) = with_flows(name, [0, 0])?;
    let flow = |number: u32| Flow {
        idle_ms: u64::from(100 - number) * 100,
        placer: if number < 10 {
            Placer::Far
        } else {
            Placer::Near
        },
        ..Flow::new(number, 0)
    };
    table.put((0..100).map(flow))?;
    let report = gateway.json(&["weights", "wg0=3", "wg1=1", "--rebalance"])?;
    assert_eq!(report["live_flows_moved"], 25, "{report}");
    for number in 0..100 {
        let moved = (10..35).contains(&number);
        assert_eq!(table.tunnel_of(flow(number))?, u32::from(moved), "{number}");
    }
    // All that may go.
    let report = gateway.json(&["weights", "wg0=0", "--rebalance"])?;
    assert_eq!(report["live_flows_moved"], 65, "{report}");
    assert_eq!(of_tunnels(&report, "flows"), [10, 90]);
    gateway.done(&["detach"]).map(drop)
});

test!(flows_are_moved_at_the_rate, |name| {
    let (gateway, _table) = with_flows(name, [3_000, 0])?;
    let began = Instant::now();
    let report = gateway.json(&["weights", "--rebalance", "--rate", "1000/s"])?;
    let took = began.elapsed();
    assert_eq!(report["live_flows_moved"], 1_500, "{report}");
    println!("1500 flows at 1000/s: {took:?}");
    assert!(took > Duration::from_millis(1_400), "{took:?}");
    assert!(took < wait::here(Duration::from_secs(10)), "{took:?}");
    gateway.done(&["detach"]).map(drop)
});

/// A rebalance of 2,000 flows at 200/s, and what happens when 100 of them are moved.
fn amid(gateway: &Gateway, work: impl FnOnce(nix::unistd::Pid) -> Result<()>) -> Result<Outcome> {
    let mut command = gateway.command();
    command.args(["weights", "--rebalance", "--rate", "200/s", "--json"]);
    let before = moves(gateway)?[2];
    Outcome::during(&mut command, |pid| {
        wait::until("100 moves", Duration::from_secs(10), || {
            Ok((moves(gateway)?[2] >= before + 100).then_some(()))
        })?;
        work(pid)
    })
}

test!(stopped_and_resumed, |name| {
    let (gateway, _table) = with_flows(name, [4_000, 0])?;
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let planned = gateway.json(&["weights", "--rebalance", "--dry-run"])?;
        let planned = planned["live_flows_moved"].as_u64().context("a number")?;
        let before = moves(&gateway)?[2];
        let stopped = amid(&gateway, |pid| Ok(kill(pid, signal)?))?;
        let report = stopped.json()?;
        let done = report["live_flows_moved"].as_u64().context("a number")?;
        let left = planned - done;
        assert_eq!(report["live_flows_left"], left, "{report}");
        assert!(left > 100, "{report}");
        assert_eq!(stopped.code, 1);
        assert_eq!(
            stopped.stderr,
            format!(
                "steerctl: stopped: {done} flows were moved, {left} are left\n\
                 hint: the same command again goes on\n"
            )
        );
        assert_eq!(moves(&gateway)?[2], before + done);
    }
    gateway.done(&["weights", "--rebalance", "--rate", "100000/s"])?;
    assert_eq!(moves(&gateway)?, [0, 2_000, 2_000, 0], "each flow once");
    gateway.done(&["detach"]).map(drop)
});

test!(it_stops_when_the_plan_holds_no_more, |name| {
    let (gateway, _table) = with_flows(name, [4_000, 0])?;
    let stopped = amid(&gateway, |_| gateway.done(&["weights", "wg0=2"]).map(drop))?;
    assert_eq!(stopped.code, 1);
    let report = stopped.json()?;
    let (moved, left) = (&report["live_flows_moved"], &report["live_flows_left"]);
    assert_eq!(
        stopped.stderr,
        format!(
            "steerctl: group default: a weight or state of its tunnels was changed meanwhile: \
             {moved} flows were moved, {left} are left\n\
             hint: see steerctl weights, then again\n"
        )
    );
    let stopped = amid(&gateway, |_| gateway.done(&["detach"]).map(drop))?;
    assert_eq!(stopped.code, 1);
    let pins = gateway.pin_dir();
    assert_eq!(
        stopped.stderr,
        format!(
            "steerctl: {}: steer was detached meanwhile\n",
            pins.display()
        )
    );
    ensure!(!pins.exists(), "the pins are back");
    Ok(())
});

test!(one_at_a_time_moves_flows, |name| {
    let (gateway, _table) = with_flows(name, [4_000, 0])?;
    let stopped = amid(&gateway, |pid| {
        let dir = gateway.pin_dir().display().to_string();
        let message = format!("{dir}: another steerctl is moving flows");
        let hint = format!("wait until it is done, or stop it: kill -INT {pid}");
        let line = "weights wg0=5 --rebalance";
        all_refused(&gateway, &[(line, 1, &message, Some(&hint))])?;
        ensure!(gateway.tunnel("wg0")?["weight"] == 1, "refused and done");
        // The end of a drain waits for its turn. The mover, which would see the drain and end, is
        // stopped until then.
        kill(pid, Signal::SIGSTOP)?;
        let mut command = gateway.command();
        command.args(["drain", "wg0", "--wait", "--timeout", "0s"]);
        let mut drain = Running::start(&mut command)?;
        drain.says("another steerctl is moving flows")?;
        drop(drain);
        Ok(kill(pid, Signal::SIGCONT)?)
    })?;
    // By the drain, which was killed then.
    ensure!(
        stopped.stderr.contains("was changed meanwhile"),
        "{stopped:?}"
    );
    let counts = |report: &Value| -> Result<u64> {
        let tunnels = of_tunnels(report, "flows");
        ensure!(tunnels.iter().sum::<u64>() == 4_000, "{report}");
        Ok(tunnels[0])
    };
    gateway.done(&["undrain", "wg0"])?;
    // What a killed one leaves keeps nobody from it, and two at once do no more than one.
    std::fs::create_dir_all(gateway.pin("moving"))?;
    let args = ["weights", "--rebalance", "--rate", "5000/s", "--json"];
    let outcomes = thread::scope(|scope| {
        let two = [0, 1].map(|_| scope.spawn(|| gateway.steerctl(&args)));
        let join = |one: thread::ScopedJoinHandle<'_, _>| {
            one.join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        two.map(join).into_iter().collect::<Result<Vec<_>>>()
    })?;
    ensure!(
        outcomes.iter().any(|outcome| outcome.code == 0),
        "{outcomes:?}"
    );
    let report = gateway.json(&["weights", "--rebalance"])?;
    assert_eq!(counts(&report)?, 2_000);
    let [_, out, into, _] = moves(&gateway)?;
    assert_eq!((out, into), (2_000, 2_000));
    ensure!(!gateway.pin("moving").exists(), "the directory is left");

    // Nor is it in the way of a detach.
    std::fs::create_dir_all(gateway.pin("moving"))?;
    gateway.done(&["detach"])?;
    ensure!(!gateway.pin_dir().exists(), "something is left");
    Ok(())
});

test!(saved_weights, |name| {
    const TEXT: &str = "# ours\n[[group]]\niface = [\"lan0\"]\nprefixes = [\"10.2.0.0/16\"]\n\
                        [[group.tunnel]]\nname = \"wg0\" # the good one\nweight = 1\n\
                        [[group.tunnel]]\nname = \"wg1\"\n";
    let (gateway, _table) = with_flows(name, [0, 0])?;
    let path = gateway.dir().join("steer.toml");
    let file = path.display().to_string();
    let save = |more: &[&str]| {
        let args = [&["weights", "wg0=7", "--save", "--config", &file], more].concat();
        gateway.steerctl(&args)
    };
    let refused = |message: &str| -> Result<()> {
        for more in [&[][..], &["--dry-run"], &["--rebalance"]] {
            let outcome = save(more)?;
            ensure!(
                outcome.code == 1 && outcome.stdout.is_empty(),
                "{outcome:?}"
            );
            let said = outcome
                .stderr
                .strip_prefix("steerctl: ")
                .unwrap_or_default();
            ensure!(
                said.starts_with(&format!("{file}:{message}")),
                "{outcome:?}"
            );
        }
        ensure!(
            gateway.tunnel("wg0")?["weight"] == 1,
            "a refused command changed a weight"
        );
        Ok(())
    };
    refused(" cannot be read: ")?;
    std::fs::write(&path, "[[group]\n")?;
    refused("1")?;
    std::fs::write(&path, TEXT.replace("wg1", "wg5"))?;
    refused("1: tunnel wg1: is not in the file")?;
    std::fs::write(&path, TEXT)?;

    let said = save(&["--dry-run"])?.done()?.stdout;
    ensure!(
        said.contains(&format!("would be saved in {file}\n")),
        "{said}"
    );
    ensure!(std::fs::read_to_string(&path)? == TEXT, "a rehearsal wrote");
    let said = save(&[])?.done()?.stdout;
    ensure!(said.contains(&format!("\nsaved in {file}\n")), "{said}");
    let text = std::fs::read_to_string(&path)?;
    assert_eq!(text, TEXT.replace("weight = 1", "weight = 7"));
    assert_eq!(gateway.tunnel("wg0")?["weight"], 7);
    // What was changed before is saved, too.
    gateway.done(&["weights", "wg1=5"])?;
    gateway.done(&["weights", "--save", "--config", &file])?;
    let text = std::fs::read_to_string(&path)?;
    ensure!(text.ends_with("name = \"wg1\"\nweight = 5\n"), "{text}");
    gateway.done(&["detach"]).map(drop)
});

test!(a_million_flows, |name| {
    const FLOWS: u32 = 1_048_576;
    let gateway = Gateway::up(name, 2)?;
    let room = FLOWS.to_string();
    gateway.done(&steer("attach", &["--max-flows", &room]))?;
    let mut table = FlowTable::open(&gateway.pin_dir())?;
    table.put((0..FLOWS).map(|number| Flow::new(number, u8::from(number % 4 == 3))))?;
    let timed = |args: &[&str]| -> Result<(Value, Duration)> {
        let began = Instant::now();
        let report = gateway.json(args)?;
        let took = began.elapsed();
        println!("steerctl {}, {FLOWS} live flows: {took:?}", args.join(" "));
        Ok((report, took))
    };
    let (_, changed) = timed(&["weights", "wg0=3", "wg1=2"])?;
    gateway.done(&["weights", "wg0=1", "wg1=1"])?;
    let (report, rehearsed) = timed(&["weights", "wg0=1", "wg1=3", "--dry-run"])?;
    assert_eq!(of_tunnels(&report, "flows"), [786_432, 262_144]);
    let (report, _) = timed(&["weights", "wg0=1", "wg1=3", "--rebalance", "--dry-run"])?;
    assert_eq!(report["live_flows_moved"], 524_288, "{report}");
    let (report, _) = timed(&["weights", "--rebalance", "--rate", "1000000/s"])?;
    assert_eq!(report["live_flows_moved"], 262_144, "{report}");
    assert_eq!(of_tunnels(&report, "flows"), [524_288, 524_288]);
    assert!(changed < wait::here(Duration::from_secs(1)), "{changed:?}");
    assert!(
        rehearsed < wait::here(Duration::from_secs(10)),
        "{rehearsed:?}"
    );
    gateway.done(&["detach"]).map(drop)
});
