//! A flow table as large as it gets by default: nothing an operator does takes long.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value;
use steer_tests::steerctl::{Flow, FlowTable, Gateway};

use crate::fixture::{steer, test};

/// The default size of the table, and all of it full.
const FLOWS: u32 = 1_048_576;
/// What a command may take. It is ten times what it does take, and more with all the checks of a debug build.
const LIMIT: Duration = Duration::from_secs(30);

test!(a_full_table_is_no_burden, |name| {
    let gateway = Gateway::up(name, 2)?;
    gateway.done(&steer("attach", &[]))?;
    let mut table = FlowTable::open(&gateway.pin_dir())?;
    let tunnel = |number: u32| u8::from(number.is_multiple_of(2));
    table.put((0..FLOWS).map(|number| Flow::new(number, tunnel(number))))?;

    let rehearsed = timed(&gateway, &["weights", "wg0=3", "wg1=1", "--dry-run"])?;
    assert_eq!(rehearsed["live_flows"], FLOWS);
    assert_eq!(rehearsed["live_flows_moved"], 0);
    let done = timed(&gateway, &["weights", "wg0=3", "wg1=1"])?;
    assert_eq!(done["live_flows_moved"], 0, "{done}");
    let status = timed(&gateway, &["status"])?;
    assert_eq!(status["flow_table"]["entries"], FLOWS);
    timed(&gateway, &["flows", "--top", "10"])?;
    timed(&gateway, &["disable", "wg1"])?;
    timed(&gateway, &["enable", "wg1"])?;
    timed(&gateway, &["drain", "wg1"])?;
    timed(&gateway, &["undrain", "wg1"])?;
    gateway.done(&["detach"]).map(drop)
});

/// Runs a command with `--json`, and prints how long it took.
fn timed(gateway: &Gateway, words: &[&str]) -> Result<Value> {
    let start = Instant::now();
    let report = gateway.json(words)?;
    let took = start.elapsed();
    println!("{:>8.1} ms  {}", took.as_secs_f64() * 1e3, words.join(" "));
    assert!(took < LIMIT, "{words:?} took {took:?}");
    Ok(report)
}
