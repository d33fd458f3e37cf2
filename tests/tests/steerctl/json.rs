//! The shapes that scripts rely on: every key, in order; more may follow.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use steer_tests::lab::wait;
use steer_tests::steerctl::{FAR, Gateway, Sender};

use crate::fixture::{steer, test};

const STATUS: [&str; 11] = [
    "version",
    "abi",
    "pin_dir",
    "kernel",
    "groups",
    "passed",
    "flow_table",
    "hook",
    "mss_clamp",
    "mark_mask",
    "counters",
];
const COUNTERS: [&str; 4] = [
    "unmatched_fragments",
    "unmatched_errors",
    "clamped_mss",
    "returned",
];
const GROUP: [&str; 8] = [
    "name",
    "id",
    "prefixes",
    "placement",
    "seed",
    "epoch",
    "hooks",
    "tunnels",
];
const HOOK: [&str; 5] = ["iface", "ifindex", "hook", "attach", "program_id"];
const TUNNEL: [&str; 22] = [
    "name",
    "id",
    "ifindex",
    "weight",
    "share",
    "admin",
    "health",
    "health_reason",
    "mtu",
    "flows",
    "tx_packets",
    "tx_bytes",
    "rx_packets",
    "rx_bytes",
    "new_flows",
    "moved_in",
    "moved_out",
    "rtt_ms",
    "jitter_ms",
    "loss",
    "handshake_age_secs",
    "tier",
];
const TABLE: [&str; 2] = ["entries", "capacity"];
const FLOW: [&str; 14] = [
    "protocol",
    "src_addr",
    "src_port",
    "dst_addr",
    "dst_port",
    "group",
    "tunnel",
    "origin",
    "age_secs",
    "idle_secs",
    "tx_packets",
    "tx_bytes",
    "rx_packets",
    "rx_bytes",
];
const EXPLAIN: [&str; 5] = ["group", "tunnel", "reason", "existing", "entry"];

/// Where the keys of the outermost object stand in a text of JSON, in order.
fn keys(text: &str) -> Vec<String> {
    let (mut depth, mut keys, mut rest) = (0, Vec::new(), text);
    while let Some(at) = rest.find(['{', '}', '[', ']', '"']) {
        let found = &rest[at..];
        match found.as_bytes()[0] {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {
                // No key or value of ours holds a quotation mark.
                let inner = found[1..].split('"').next().unwrap_or("");
                rest = &found[inner.len() + 2..];
                if depth == 1 && rest.trim_start().starts_with(':') {
                    keys.push(inner.to_owned());
                }
                continue;
            }
        }
        rest = &found[1..];
    }
    keys
}

/// The text of the first object behind `"key":`, or of the first in an array there.
fn object<'a>(text: &'a str, key: &str) -> Result<&'a str> {
    let at = text
        .find(&format!("\"{key}\":"))
        .with_context(|| format!("no {key}"))?;
    let open = at + text[at..].find('{').context("no object")?;
    Ok(&text[open..])
}

/// The keys of an object that ends somewhere in this text start with those wanted.
fn starts_with(text: &str, wanted: &[&str]) -> Result<()> {
    let mut depth = 0;
    let end = text.bytes().position(|byte| {
        depth += i32::from(byte == b'{') - i32::from(byte == b'}');
        depth == 0
    });
    let found = keys(&text[..=end.context("no end")?]);
    ensure!(
        found.len() >= wanted.len() && found[..wanted.len()] == *wanted,
        "{found:?}\nwanted {wanted:?}"
    );
    Ok(())
}

test!(the_shapes_of_json, |name| {
    let gateway = Gateway::up(name, 2)?;
    let _running = gateway.run(&steer("run", &[])[1..])?;
    let mut sender = Sender::new(gateway.client(), 1)?;
    sender.send()?;
    wait::until("a flow", Duration::from_secs(5), || {
        Ok((gateway.json(&["flows"])?.as_array().map(Vec::len) == Some(1)).then_some(()))
    })?;

    let status = gateway.done(&["status", "--json"])?;
    starts_with(&status, &STATUS)?;
    starts_with(object(&status, "groups")?, &GROUP)?;
    starts_with(object(&status, "hooks")?, &HOOK)?;
    starts_with(object(&status, "tunnels")?, &TUNNEL)?;
    starts_with(object(&status, "flow_table")?, &TABLE)?;
    starts_with(object(&status, "counters")?, &COUNTERS)?;
    let reasons = steer_common::abi::PassReason::ALL.map(steer_common::abi::PassReason::name);
    starts_with(object(&status, "passed")?, &reasons)?;

    let flows = gateway.done(&["flows", "--json"])?;
    starts_with(&flows[flows.find('{').context("no flow")?..], &FLOW)?;

    let port = sender.ports()?[0];
    let source = format!("10.1.0.2:{port}");
    let known = gateway.done(&["explain", "udp", &source, FAR, "--json"])?;
    starts_with(&known, &EXPLAIN)?;
    starts_with(object(&known, "entry")?, &FLOW)?;
    let known: Value = serde_json::from_str(&known)?;
    ensure!(
        known["existing"] == true && known["reason"] == "flow_table",
        "{known}"
    );
    let unknown = gateway.json(&["explain", "udp", "10.1.0.2:1", FAR])?;
    ensure!(
        unknown["existing"] == false && unknown["entry"].is_null(),
        "{unknown}"
    );
    let elsewhere = gateway.json(&["explain", "udp", "10.1.0.2:1", "192.0.2.1:9"])?;
    ensure!(
        elsewhere["reason"] == "not_steered" && elsewhere["tunnel"].is_null(),
        "{elsewhere}"
    );
    let numbered = gateway.json(&["explain", "esp", "10.1.0.2:0x1001", "10.2.0.2"])?;
    ensure!(numbered["reason"] == "hash", "{numbered}");
    let itself = gateway.json(&["explain", "esp", "10.2.0.2:1", "10.1.0.1"])?;
    ensure!(itself["reason"] == "hash", "{itself}");
    // Asking creates nothing.
    ensure!(gateway.json(&["status"])?["flow_table"]["entries"] == 1);

    let weights = gateway.done(&["weights", "wg0=3", "--json"])?;
    starts_with(
        &weights,
        &["group", "tunnels", "live_flows_moved", "dry_run"],
    )?;
    starts_with(
        object(&weights, "tunnels")?,
        &["name", "id", "weight_old", "weight", "share_old", "share"],
    )?;
    let weights: Value = serde_json::from_str(&weights)?;
    ensure!(
        weights["tunnels"][0]["weight_old"] == 1 && weights["tunnels"][0]["weight"] == 3,
        "{weights}"
    );
    ensure!(weights["live_flows_moved"] == 0, "{weights}");
    Ok(())
});

test!(idle_flows_are_forgotten, |name| {
    let gateway = Gateway::up(name, 2)?;
    let _running = gateway.run(&steer("run", &["--idle", "2s"])[1..])?;
    let mut sender = Sender::new(gateway.client(), 30)?;
    let listed =
        || -> Result<usize> { Ok(gateway.json(&["flows"])?.as_array().map_or(0, Vec::len)) };
    wait::until("30 flows", Duration::from_secs(5), || {
        sender.round()?;
        Ok((listed()? == 30).then_some(()))
    })?;
    wait::until("no flow to be listed", Duration::from_secs(5), || {
        Ok((listed()? == 0).then_some(()))
    })?;
    wait::until("no entry in the table", Duration::from_secs(15), || {
        Ok((gateway.json(&["status"])?["flow_table"]["entries"] == 0).then_some(()))
    })
});
