//! `steerctl drain`: who keeps what, and how the waiting ends.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use steer_common::abi::Placer;
use steer_tests::lab::wait;
use steer_tests::steerctl::{Flow, FlowTable, Gateway, Outcome, Refusal, Running, Sender};

use crate::fixture::{all_refused, flows, steer, test};

/// A gateway over two tunnels with so many entries on `wg0`, and the command to drain that.
fn with_flows(name: &str, count: u32) -> Result<(Gateway, FlowTable)> {
    let gateway = Gateway::up(name, 2)?;
    gateway.done(&steer("attach", &[]))?;
    let mut table = FlowTable::open(&gateway.pin_dir())?;
    table.put((0..count).map(|number| Flow::new(number, 0)))?;
    Ok((gateway, table))
}

/// Drains `wg0` and waits, and does something once the tunnel is in drain.
fn waiting(
    gateway: &Gateway,
    more: &[&str],
    work: impl FnOnce(nix::unistd::Pid) -> Result<()>,
) -> Result<Outcome> {
    let mut command = gateway.command();
    command.args(["drain", "wg0", "--wait"]).args(more);
    Outcome::during(&mut command, |pid| {
        wait::until("wg0 to be in drain", Duration::from_secs(10), || {
            Ok((gateway.tunnel("wg0")?["admin"] == "drain").then_some(()))
        })?;
        work(pid)
    })
}

test!(drained_and_back, |name| {
    let gateway = Gateway::up(name, 2)?;
    gateway.done(&steer("attach", &[]))?;
    let mut sender = Sender::new(gateway.client(), 40)?;
    sender.round()?;
    let first = wait::until("40 flows", Duration::from_secs(5), || {
        Ok(Some(flows(&gateway)?).filter(|flows| flows.len() == 40))
    })?;
    let on_wg0 = first.values().filter(|(on, _)| on == "wg0").count();

    for _ in 0..2 {
        let report = gateway.json(&["drain", "wg0"])?;
        assert_eq!(report["tunnels"][0]["admin"], "drain", "{report}");
        assert_eq!(report["live_flows_left"], on_wg0, "{report}");
        assert!(report["live_flows_moved"].is_null(), "{report}");
    }
    assert_eq!(gateway.tunnel("wg0")?["share"], 0.0);
    sender.round()?;
    assert_eq!(flows(&gateway)?, first, "live flows stay");
    let mut newcomers = Sender::new(gateway.client(), 40)?;
    newcomers.round()?;
    let second = wait::until("80 flows", Duration::from_secs(5), || {
        Ok(Some(flows(&gateway)?).filter(|flows| flows.len() == 80))
    })?;
    for port in newcomers.ports()? {
        assert_eq!(second[&port.into()].0, "wg1", "port {port}");
    }

    for _ in 0..2 {
        let report = gateway.json(&["undrain", "wg0"])?;
        assert_eq!(report["tunnels"][0]["admin"], "active", "{report}");
        assert!(report["live_flows_left"].is_null(), "{report}");
    }
    assert_eq!(gateway.tunnel("wg0")?["share"], 0.5);
    assert_eq!(flows(&gateway)?, second);
    gateway.done(&["detach"]).map(drop)
});

test!(what_is_not_drained, |name| {
    let gateway = Gateway::up(name, 2)?;
    gateway.done(&steer("attach", &[]))?;
    let no_tunnel = "tunnel wg9: no such tunnel";
    let existing = Some("existing: wg0, wg1");
    all_refused(
        &gateway,
        &[
            ("drain wg9", 1, no_tunnel, existing),
            ("drain wg9 --wait", 1, no_tunnel, existing),
            ("undrain wg9", 1, no_tunnel, existing),
        ],
    )?;
    gateway.done(&["drain", "wg1"])?;
    let last = "tunnel wg0: is the last of group default that takes new flows";
    let hint = "wg1 is in drain; drain wg0 --force leaves new flows to the kernel";
    all_refused(
        &gateway,
        &[
            ("drain wg0", 1, last, Some(hint)),
            ("drain wg0 --dry-run", 1, last, Some(hint)),
            ("drain wg0 --wait --timeout 1s", 1, last, Some(hint)),
        ],
    )?;
    assert_eq!(gateway.tunnel("wg0")?["admin"], "active");
    let said = gateway.done(&["drain", "wg0", "--force"])?;
    assert!(
        said.contains("no tunnel of group default can get new flows"),
        "{said}"
    );
    gateway.done(&["disable", "wg0"])?;
    all_refused(
        &gateway,
        &[(
            "undrain wg0",
            1,
            "tunnel wg0: is disabled, not in drain",
            Some("steerctl enable wg0"),
        )],
    )?;
    gateway.done(&["detach"]).map(drop)
});

test!(waited_until_the_flows_have_ended, |name| {
    let (gateway, mut table) = with_flows(name, 30)?;
    let mut command = gateway.command();
    command.args(["drain", "wg0", "--wait", "--json"]);
    let mut waiting = Running::start(&mut command)?;
    waiting.says("steerctl: tunnel wg0: 30 flows left, none has ended lately")?;
    table.remove((0..30).map(|number| Flow::new(number, 0)))?;
    let (status, lines) = waiting.until_end()?;
    assert!(status.success(), "{lines:?}");
    let report: serde_json::Value = serde_json::from_str(&lines.join("\n"))?;
    assert_eq!(report["live_flows_left"], 0, "{report}");
    assert_eq!(report["live_flows_moved"], 0, "{report}");
    assert_eq!(report["tunnels"][0]["admin_old"], "active", "{report}");
    // Those of a tunnel without flows are waited for no time.
    let began = Instant::now();
    let outcome = gateway.steerctl(&["drain", "wg0", "--wait", "--timeout", "1h"])?;
    assert_eq!(outcome.done()?.stderr, "");
    assert!(began.elapsed() < wait::here(Duration::from_secs(5)));
    gateway.done(&["detach"]).map(drop)
});

test!(the_rest_is_moved_after_the_time_out, |name| {
    let (gateway, mut table) = with_flows(name, 300)?;
    let began = Instant::now();
    let args = ["--timeout", "1s", "--rate", "200/s", "--json"];
    let outcome = waiting(&gateway, &args, |_| Ok(()))?.done()?;
    let took = began.elapsed();
    let report = outcome.json()?;
    assert_eq!(report["live_flows_moved"], 300, "{report}");
    assert_eq!(report["live_flows_left"], 0, "{report}");
    assert!(
        outcome.stderr.starts_with(
            "steerctl: tunnel wg0: 300 flows left, none has ended lately; the rest is moved in "
        ),
        "{}",
        outcome.stderr
    );
    // One second of waiting, and one and a half of moving.
    assert!(took > Duration::from_millis(2_400), "{took:?}");
    assert!(took < wait::here(Duration::from_secs(15)), "{took:?}");
    for number in 0..300 {
        assert_eq!(table.tunnel_of(Flow::new(number, 0))?, 1, "flow {number}");
    }

    // What the far end placed cannot be moved from here.
    gateway.done(&["undrain", "wg0"])?;
    let far = (300..310).map(|number| Flow {
        placer: Placer::Far,
        ..Flow::new(number, 0)
    });
    table.put(far)?;
    let outcome = waiting(&gateway, &["--timeout", "0s"], |_| Ok(()))?;
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert_eq!(
        outcome.stderr,
        "steerctl: tunnel wg0: 10 flows are still on it, and cannot be moved from here\n\
         hint: drain it on the far gateway, too, which placed them; or steerctl disable wg0\n"
    );
    assert!(
        outcome
            .stdout
            .ends_with("live flows moved: 0\nlive flows left: 10\n"),
        "{}",
        outcome.stdout
    );
    gateway.done(&["detach"]).map(drop)
});

test!(waiting_ends_before_the_flows, |name| {
    let (gateway, _table) = with_flows(name, 5)?;
    let wait_for_line = |gateway: &Gateway| -> Result<()> {
        // The tunnel is in drain before the waiting begins: signals are listened to from the start.
        ensure!(gateway.tunnel("wg0")?["admin"] == "drain");
        Ok(())
    };
    let outcome = waiting(&gateway, &[], |pid| {
        wait_for_line(&gateway)?;
        Ok(kill(pid, Signal::SIGINT)?)
    })?;
    assert_eq!(outcome.code, 1, "{outcome:?}");
    let last_lines = |outcome: &Outcome| -> Result<String> {
        let at = outcome
            .stderr
            .find("steerctl: stopped")
            .or(outcome.stderr.rfind("steerctl: "));
        Ok(outcome.stderr[at.context("no line")?..].to_owned())
    };
    assert_eq!(
        last_lines(&outcome)?,
        "steerctl: stopped waiting: tunnel wg0 stays in drain, 5 flows are left\n\
         hint: steerctl undrain wg0 gives it new flows again\n"
    );
    assert!(
        outcome.stdout.ends_with("live flows left: 5\n"),
        "{}",
        outcome.stdout
    );
    assert_eq!(gateway.tunnel("wg0")?["admin"], "drain");

    let outcome = waiting(&gateway, &[], |_| {
        gateway.done(&["undrain", "wg0"]).map(drop)
    })?;
    assert_eq!(
        last_lines(&outcome)?,
        "steerctl: tunnel wg0: is active now, no longer in drain\n"
    );
    let outcome = waiting(&gateway, &[], |_| gateway.done(&["detach"]).map(drop))?;
    let pins = gateway.pin_dir().display().to_string();
    assert_eq!(
        last_lines(&outcome)?,
        format!("steerctl: {pins}: steer was detached meanwhile\n")
    );
    Ok(())
});

test!(a_drain_of_a_tunnel_that_others_change, |name| {
    let (gateway, _table) = with_flows(name, 2_000)?;
    gateway.done(&["weights", "wg1=3"])?;
    // The weights of the others change while the rest is moved: that makes a new plan of it, not an end.
    let args = ["--timeout", "0s", "--rate", "1000/s", "--json"];
    let outcome = waiting(&gateway, &args, |_| {
        wait::until("100 moves", Duration::from_secs(10), || {
            let moved = gateway.tunnel("wg1")?["moved_in"].as_u64();
            Ok((moved >= Some(100)).then_some(()))
        })?;
        gateway.done(&["weights", "wg1=7"]).map(drop)
    })?;
    let report = outcome.done()?.json()?;
    assert_eq!(report["live_flows_moved"], 2_000, "{report}");
    let refusal = Refusal {
        code: 2,
        message: "the following required arguments were not provided: --wait",
        hint: Some("usage: steerctl drain --wait --timeout <TIME> <NAME>"),
    };
    gateway
        .steerctl(&["drain", "wg0", "--timeout", "1s"])?
        .refused(&refusal)?;
    gateway.done(&["detach"]).map(drop)
});
