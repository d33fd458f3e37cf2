//! Idle flows are forgotten, and nothing waits for that.

use std::time::{Duration, Instant};

use anyhow::Result;
use steer_tests::lab::wait;
use steer_tests::steerctl::{Flow, FlowTable, Gateway};
use steer_user::datapath::maps::Maps;
use steer_user::datapath::pins::PinDir;

use crate::fixture::{steer, test};

const FLOWS: u32 = 1_048_576;
const SOON: Duration = Duration::from_mins(1);

/// Makes the device of the second tunnel anew; how long it takes until steer knows it by its new number.
fn made_anew(gateway: &Gateway, maps: &Maps) -> Result<Duration> {
    gateway.ip(&["link", "del", "wg1"])?;
    gateway.add_tunnel("wg1")?;
    let began = Instant::now();
    let ifindex = gateway
        .host()
        .within(|| Ok(nix::net::if_::if_nametoindex("wg1")?))?;
    wait::until("the new device is followed", SOON, || {
        Ok((maps.tunnel(1)?.ifindex == ifindex).then_some(()))
    })?;
    Ok(began.elapsed())
}

test!(a_million_idle_flows_are_forgotten_aside, |name| {
    let gateway = Gateway::up(name, 2)?;
    let room = FLOWS.to_string();
    let options = ["--max-flows", &room, "--idle", "tcp=30s"];
    gateway.done(&steer("attach", &options))?;
    let mut table = FlowTable::open(&gateway.pin_dir())?;
    let idle = |number| Flow {
        idle_ms: 60_000,
        ..Flow::new(number, 0)
    };
    table.put((0..FLOWS).map(idle))?;
    let maps = Maps::open(&PinDir::new(gateway.pin_dir()))?;
    let running = gateway.run(&[])?;
    let began = Instant::now();
    let sample = || (0..FLOWS).step_by(4_099).map(idle);
    let (mut longest, mut rounds) = (Duration::ZERO, 0);
    while sample().any(|flow| table.tunnel_of(flow).is_ok()) {
        longest = longest.max(made_anew(&gateway, &maps)?);
        rounds += 1;
        assert!(began.elapsed() < SOON, "flows are still there");
    }
    let took = began.elapsed();
    println!(
        "{FLOWS} idle flows are forgotten after {took:?}; a device that was made anew meanwhile, {rounds} times, was \
         followed within {longest:?}"
    );
    assert!(longest < took / 3, "after {longest:?}");
    running.stop().map(drop)
});

test!(live_flows_stay, |name| {
    let gateway = Gateway::up(name, 2)?;
    gateway.done(&steer("attach", &["--idle", "tcp=30s"]))?;
    let mut table = FlowTable::open(&gateway.pin_dir())?;
    let flow = |number: u32| Flow {
        idle_ms: if number.is_multiple_of(3) { 60_000 } else { 0 },
        ..Flow::new(number, 0)
    };
    // More than one portion.
    table.put((0..12_000).map(flow))?;
    let running = gateway.run(&[])?;
    wait::until("idle flows are forgotten", SOON, || {
        let is_there = |number: &u32| table.tunnel_of(flow(*number)).is_ok();
        Ok((0..12_000)
            .step_by(3)
            .find(is_there)
            .is_none()
            .then_some(()))
    })?;
    for number in (0..12_000).filter(|number| number % 3 != 0) {
        table.tunnel_of(flow(number))?;
    }
    running.stop().map(drop)
});
