//! What the tests share.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
pub(crate) use steer_tests::gateway_test as test;
use steer_tests::steerctl::{Gateway, Reader, Refusal, Seen};

/// What most tests steer: `lan0` into `wg0` and `wg1`.
pub(crate) const STEER: [&str; 10] = [
    "--iface",
    "lan0",
    "--tunnel",
    "wg0",
    "--tunnel",
    "wg1",
    "--prefix",
    "10.2.0.0/16",
    "--seed",
    "7",
];

/// The kernel takes its time to make larger flow tables and to walk through them.
const SMALL: [&str; 2] = ["--max-flows", "65536"];

/// A command that must be refused: arguments, exit status, message and hint.
pub(crate) type Case<'a> = (&'a str, i32, &'a str, Option<&'a str>);

/// Runs each command, which must be refused in these words and leave everything as it is.
///
/// `{pins}` in words stands for the pin directory.
pub(crate) fn all_refused(gateway: &Gateway, cases: &[Case<'_>]) -> Result<()> {
    let pins = gateway.pin_dir().display().to_string();
    let before = gateway.traces()?;
    for (line, code, message, hint) in cases {
        let args: Vec<_> = line.split_whitespace().collect();
        let message = message.replace("{pins}", &pins);
        let hint = hint.map(|hint| hint.replace("{pins}", &pins));
        let refusal = Refusal {
            code: *code,
            message: &message,
            hint: hint.as_deref(),
        };
        let outcome = gateway.steerctl(&args)?;
        outcome
            .refused(&refusal)
            .with_context(|| format!("steerctl {line}"))?;
        assert_eq!(gateway.traces()?, before, "after steerctl {line}");
    }
    Ok(())
}

/// `STEER`, behind a verb and before more; with a small flow table, if none is asked for.
pub(crate) fn steer<'a>(verb: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let size = if more.contains(&SMALL[0]) {
        &[][..]
    } else {
        &SMALL
    };
    [&[verb], &STEER[..], size, more].concat()
}

/// Makes the kernel forward what steer leaves to it, by `wg0`.
pub(crate) fn forwards(gateway: &Gateway) -> Result<()> {
    gateway.sysctl("net.ipv4.ip_forward", "1")?;
    gateway.ip(&["route", "add", "10.2.0.0/16", "dev", "wg0"])
}

/// What `traces` must be again when steer is gone.
pub(crate) fn is_as_before(gateway: &Gateway, before: &str) -> Result<()> {
    let now = gateway.traces()?;
    assert_eq!(now, before, "something of steer is left");
    Ok(())
}

/// Readers of `wg0` and so on.
pub(crate) fn readers(gateway: &Gateway, count: usize) -> Result<Vec<Reader>> {
    let open = |k| Reader::open(gateway.host(), &format!("wg{k}"));
    (0..count).map(open).collect()
}

/// Everything that came through any of them.
pub(crate) fn seen(readers: &[Reader]) -> Seen {
    let mut all = Seen::default();
    for seen in readers.iter().map(Reader::seen) {
        all.doubles += seen.doubles;
        for datagram in seen.datagrams {
            if !all.datagrams.insert(datagram) {
                all.doubles += 1;
            }
        }
    }
    all
}

/// How many datagrams came through them all.
pub(crate) fn total(readers: &[Reader]) -> usize {
    readers.iter().map(Reader::count).sum()
}

/// The tunnel and origin of each flow of `flows --json`, by sending port.
pub(crate) fn flows(gateway: &Gateway) -> Result<BTreeMap<u64, (String, String)>> {
    let flows = gateway.json(&["flows"])?;
    let flows = flows.as_array().context("not an array")?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("?").to_owned();
    Ok(flows
        .iter()
        .filter_map(|flow| {
            Some((
                flow["src_port"].as_u64()?,
                (text(&flow["tunnel"]), text(&flow["origin"])),
            ))
        })
        .collect())
}
