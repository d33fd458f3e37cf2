//! What a full flow table costs in memory, and whom it makes wait.

use std::fs;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use aya::maps::MapData;
use serde::de::IgnoredAny;
use steer_common::abi::maps;

use super::Report;
use super::side_by_side::{self, Column, Table};
use super::values::{Value, Values};
use crate::lab::{Status, wait};
use crate::steerctl::{Flow, FlowTable, Gateway, Sender};

const METHOD: &str = "A gateway with two tunnels and a flow table for 1,048,576 flows, empty and full. Memory is what the kernel says \
     of the full map. Times are those of whole commands, by the clock on the wall. What each command did or listed is checked; \
     with live flows, 1,000 new ones are seen to be placed by the new weights once the command has returned. There is no peer: \
     the connection tracker holds no more than net.netfilter.nf_conntrack_max, which is the machine's and not a benchmark's to \
     change, and routes keep no flows.";

const NAME: &str = "bench-scale";
/// The largest table that is made without being asked for.
const FLOWS: u32 = 1_048_576;
const TUNNELS: usize = 2;
/// New flows that show whether weights are in effect: 5 standard deviations of their share are 8 %.
const NEW_FLOWS: usize = 1_000;

/// Group of the times.
const TIMES: &str = "commands with 1,048,576 live flows";
/// Group of the times without flows.
const EMPTY: &str = "commands without flows";
/// Group of the memory.
const MEMORY: &str = "memory of the full flow table";

/// Measures.
pub fn run(rounds: usize) -> Result<Report> {
    let mut report = Report::new("scale", METHOD, rounds);
    let mut values = Values::default();
    for _ in 0..rounds {
        wait::check_interrupt()?;
        one(&mut values)?;
    }
    report.groups = values.unpaired()?;
    Ok(report)
}

/// What is shown: a table for each group.
pub fn tables(report: &Report) -> Vec<Table<'_>> {
    let groups = report.groups.iter();
    groups
        .map(|group| Table {
            title: format!("{}, {}", group.name, group.unit),
            columns: vec![
                Column::new(group, "median", side_by_side::median),
                Column::new(group, "worst", side_by_side::most),
            ],
        })
        .collect()
}

fn one(values: &mut Values) -> Result<()> {
    let gateway = Gateway::up(NAME, TUNNELS)?;
    let room = FLOWS.to_string();
    let attach = [
        "attach",
        "--iface=lan0",
        "--tunnel=wg0",
        "--tunnel=wg1",
        "--prefix=10.2.0.0/16",
        "--max-flows",
        &room,
    ];
    let (took, _) = timed(|| gateway.done(&attach))?;
    let value = Value::new(EMPTY, "ms", took);
    values.add("attach: load, verify, attach", value);
    commands(&gateway, EMPTY, 0, values)?;

    let mut table = FlowTable::open(&gateway.pin_dir())?;
    table.put((0..FLOWS).map(|number| Flow::new(number, u8::from(number % 2 == 1))))?;
    let per_flow = bytes(&gateway)? / f64::from(FLOWS);
    values.add("per flow", Value::new(MEMORY, "bytes", per_flow));
    commands(&gateway, TIMES, FLOWS, values)?;
    let (took, _) = timed(|| gateway.done(&attach))?;
    let value = Value::new(TIMES, "ms", took);
    values.add("attach again, adopting the flows", value);
    listed(&gateway.done(&["flows", "--json"])?, FLOWS)?;
    gateway.done(&["detach"]).map(drop)
}

/// Times what an operator does with so many live flows, and checks that it was done.
fn commands(gateway: &Gateway, group: &str, flows: u32, values: &mut Values) -> Result<()> {
    let mut time = |name: &str, args: &[&str]| {
        let (took, said) = timed(|| gateway.done(args))?;
        values.add(name, Value::new(group, "ms", took));
        Ok::<_, anyhow::Error>(said)
    };
    time("weights wg0=3 wg1=2", &["weights", "wg0=3", "wg1=2"])?;
    let tunnels = status(gateway)?.tunnels().to_vec();
    let weights: Vec<_> = tunnels.iter().map(|tunnel| tunnel.weight).collect();
    ensure!(weights == [3, 2], "weights are {weights:?}");
    if flows > 0 {
        let share = new_on_first(gateway)?;
        ensure!((0.52..0.68).contains(&share), "{share} of new flows on wg0");
    }
    time("disable wg1", &["disable", "wg1"])?;
    if flows > 0 {
        let share = new_on_first(gateway)?;
        ensure!(share >= 1.0, "wg1 is disabled, {share} of new flows on wg0");
    }
    let said = time("status --json", &["status", "--json"])?;
    let said: Status = serde_json::from_str(&said)?;
    ensure!(
        said.tunnel("wg1")?.admin == "disabled",
        "wg1 is not disabled"
    );
    let counted: u64 = said.tunnels().iter().filter_map(|one| one.flows).sum();
    ensure!(counted == u64::from(flows), "status counts {counted} flows");
    listed(&time("flows --json", &["flows", "--json"])?, flows)?;
    gateway.done(&["enable", "wg1"])?;
    gateway.done(&["weights", "wg0=1", "wg1=1"]).map(drop)
}

/// Fails unless so many flows are listed.
fn listed(said: &str, flows: u32) -> Result<()> {
    let listed = serde_json::from_str::<Vec<IgnoredAny>>(said)?.len();
    ensure!(
        listed == usize::try_from(flows)?,
        "{listed} of {flows} flows are listed"
    );
    Ok(())
}

fn status(gateway: &Gateway) -> Result<Status> {
    Ok(serde_json::from_value(gateway.json(&["status"])?)?)
}

/// The first tunnel's share of new flows, one datagram each.
#[expect(clippy::cast_precision_loss, reason = "a share of few bytes")]
fn new_on_first(gateway: &Gateway) -> Result<f64> {
    let sent = || -> Result<Vec<u64>> {
        let tunnels = status(gateway)?.tunnels().to_vec();
        Ok(tunnels.iter().filter_map(|one| one.tx_bytes).collect())
    };
    let before = sent()?;
    Sender::new(gateway.client(), NEW_FLOWS)?.round()?;
    let after = sent()?;
    let sent: Vec<_> = after.iter().zip(&before).map(|(a, b)| a - b).collect();
    let all = sent.iter().sum::<u64>().max(1);
    let first = sent.first().context("status: no tunnel")?;
    Ok(*first as f64 / all as f64)
}

/// Milliseconds that something takes, and what it gives.
fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
    let start = Instant::now();
    let given = work()?;
    Ok((start.elapsed().as_secs_f64() * 1e3, given))
}

/// Memory that the kernel says it gave the flow table.
fn bytes(gateway: &Gateway) -> Result<f64> {
    use std::os::fd::{AsFd as _, AsRawFd as _};
    let map = MapData::from_pin(gateway.pin(maps::FLOWS))?;
    let path = format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd());
    let text = fs::read_to_string(&path)?;
    memlock(&text).with_context(|| format!("{path}: no memlock in {text}"))
}

/// The line `memlock:` of a map's `/proc/…/fdinfo`.
fn memlock(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("memlock:"));
    line?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_a_map() {
        let text = "pos:\t0\nmap_type:\t1\nmemlock:\t184549472\nmap_id:\t7\n";
        assert_eq!(memlock(text), Some(184_549_472.0));
        assert_eq!(memlock("map_type:\t1\n"), None);
    }
}
