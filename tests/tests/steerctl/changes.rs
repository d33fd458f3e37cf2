//! Weights, admin states, ids and rehearsals.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use steer_common::abi::{FlowKey, TunnelId};
use steer_common::hash::{bucket_of, flow_hash};
use steer_tests::lab::wait;
use steer_tests::steerctl::{FAR, Gateway, Sender};
use steer_user::datapath::maps::Maps;
use steer_user::datapath::pins::PinDir;

use crate::fixture::{flows, is_as_before, steer, test};

/// The tunnel of each bucket of the first group.
fn buckets(maps: &Maps) -> Result<Vec<TunnelId>> {
    let table = maps.buckets(0)?.context("no buckets")?;
    Ok(table.buckets.to_vec())
}

fn maps(gateway: &Gateway) -> Result<Maps> {
    Ok(Maps::open(&PinDir::new(gateway.pin_dir()))?)
}

/// Asserts that `explain` has some flows, which do not exist, use the tunnels of their buckets. Gives the
/// tunnel of each bucket.
fn explained(gateway: &Gateway) -> Result<Vec<TunnelId>> {
    let (maps, ids) = (maps(gateway)?, ids(gateway)?);
    let (seed, buckets) = (maps.settings()?.seed, buckets(&maps)?);
    for low_port in 20_000..20_010 {
        let source = SocketAddrV4::new(Ipv4Addr::new(10, 1, 0, 9), low_port);
        let far: SocketAddrV4 = FAR.parse()?;
        let key = FlowKey {
            low_addr: source.ip().to_ipv6_mapped().octets(),
            high_addr: far.ip().to_ipv6_mapped().octets(),
            low_port,
            high_port: far.port(),
            protocol: 6,
        };
        let bucket = usize::try_from(bucket_of(flow_hash(seed, &key)))?;
        let answer = gateway.json(&["explain", "tcp", &source.to_string(), FAR])?;
        ensure!(
            answer["existing"] == false && answer["reason"] == "hash",
            "{answer}"
        );
        let tunnel = answer["tunnel"].as_str().context("no tunnel")?;
        let id = ids.get(tunnel).copied();
        assert_eq!(id, Some(buckets[bucket].into()), "{source}: {answer}");
    }
    Ok(buckets)
}

fn weight(tunnel: &Value) -> u64 {
    tunnel["weight"].as_u64().unwrap_or(u64::MAX)
}

/// Shares of `status` follow from its weights, and the bucket table has them.
fn agrees(gateway: &Gateway) -> Result<Vec<u64>> {
    let status = gateway.json(&["status"])?;
    let tunnels = status["groups"][0]["tunnels"]
        .as_array()
        .context("no tunnels")?;
    let weights: Vec<_> = tunnels.iter().map(weight).collect();
    let sum: u64 = weights.iter().sum();
    let buckets = explained(gateway)?;
    for tunnel in tunnels {
        let share = tunnel["share"].as_f64().context("no share")?;
        let wanted = f64::from(u32::try_from(weight(tunnel))?) / f64::from(u32::try_from(sum)?);
        ensure!((share - wanted).abs() < 1e-9, "{tunnel}");
        let id = tunnel["id"].as_u64();
        let own = buckets.iter().filter(|at| Some(u64::from(**at)) == id);
        let of_table = f64::from(u32::try_from(own.count())?);
        let wanted = share * f64::from(u32::try_from(buckets.len())?);
        ensure!(
            (of_table - wanted).abs() <= 1.0,
            "{tunnel}: {of_table} buckets, not {wanted}"
        );
    }
    Ok(weights)
}

/// Many `steerctl weights` at once: any may win, all of it must be one's.
fn concurrent_weights(name: &str, writers: u64) -> Result<()> {
    let gateway = Gateway::up(name, 2)?;
    let _running = gateway.run(&steer("run", &[])[1..])?;
    let wanted = |writer: u64, round: u64| (writer + 1, 100 + round % 3);
    let rounds = 100 / writers;
    thread::scope(|scope| {
        let writers: Vec<_> = (0..writers)
            .map(|writer| {
                let gateway = &gateway;
                scope.spawn(move || {
                    (0..rounds).try_for_each(|round| {
                        let (a, b) = wanted(writer, round);
                        gateway
                            .done(&["weights", &format!("wg0={a}"), &format!("wg1={b}")])
                            .map(drop)
                    })
                })
            })
            .collect();
        writers.into_iter().try_for_each(|writer| {
            writer
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })?;
    let found = agrees(&gateway)?;
    let is_one_of_them = (0..writers)
        .flat_map(|writer| (0..rounds).map(move |round| wanted(writer, round)))
        .any(|(a, b)| found == [a, b]);
    assert!(is_one_of_them, "{found:?}");
    // One more, of very different shares, so that the table is seen to follow.
    gateway.done(&["weights", "wg0=9", "wg1=1"])?;
    assert_eq!(agrees(&gateway)?, [9, 1]);
    gateway.done(&["weights", "wg0=0", "wg1=1"])?;
    assert_eq!(agrees(&gateway)?, [0, 1]);
    Ok(())
}

test!(two_weights_at_once, |name| concurrent_weights(name, 2));
test!(eight_weights_at_once, |name| concurrent_weights(name, 8));

test!(starts_and_ends_at_once, |name| {
    let gateway = Gateway::up(name, 2)?;
    let before = gateway.traces()?;
    let attach = steer("attach", &[]);
    for _ in 0..5 {
        let results = thread::scope(|scope| {
            let all: Vec<_> = [&attach[..], &attach, &["detach"], &attach]
                .map(|args| scope.spawn(|| gateway.done(args)))
                .into_iter()
                .map(|thread| {
                    thread
                        .join()
                        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                })
                .collect();
            all
        });
        for result in results {
            result?;
        }
        gateway.done(&["detach"])?;
        is_as_before(&gateway, &before)?;
    }
    Ok(())
});

test!(the_order_of_listing_does_not_matter, |name| {
    let gateway = Gateway::up(name, 0)?;
    let names = ["wg3", "alpha", "wg0", "beta"];
    names.iter().try_for_each(|name| gateway.add_tunnel(name))?;
    let listed = |order: &[usize]| -> Result<(Vec<TunnelId>, Value)> {
        let mut args = vec![
            "attach",
            "--iface",
            "lan0",
            "--prefix",
            "10.2.0.0/16",
            "--seed",
            "0x5eed",
        ];
        for index in order {
            args.extend(["--tunnel", names[*index]]);
        }
        gateway.done(&args)?;
        let found = explained(&gateway)?;
        let ids = ids(&gateway)?;
        gateway.done(&["detach"])?;
        Ok((found, serde_json::to_value(ids)?))
    };
    let first = listed(&[0, 1, 2, 3])?;
    assert_eq!(listed(&[3, 2, 1, 0])?, first);
    assert_eq!(listed(&[2, 0, 3, 1])?, first);
    Ok(())
});

fn ids(gateway: &Gateway) -> Result<BTreeMap<String, u64>> {
    let status = gateway.json(&["status"])?;
    let tunnels = status["groups"][0]["tunnels"].as_array().cloned();
    Ok(tunnels
        .into_iter()
        .flatten()
        .filter_map(|tunnel| Some((tunnel["name"].as_str()?.to_owned(), tunnel["id"].as_u64()?)))
        .collect())
}

test!(ids_are_kept, |name| {
    let gateway = Gateway::up(name, 3)?;
    for name in ["uplink", "spare"] {
        gateway.add_tunnel(name)?;
    }
    let attach = |tunnels: &[&str]| -> Result<BTreeMap<String, u64>> {
        let mut args = vec![
            "attach",
            "--iface",
            "lan0",
            "--prefix",
            "10.2.0.0/16",
            "--seed",
            "7",
        ];
        for tunnel in tunnels {
            args.extend(["--tunnel", tunnel]);
        }
        gateway.done(&args)?;
        ids(&gateway)
    };
    let expect = |pairs: &[(&str, u64)]| -> BTreeMap<String, u64> {
        pairs
            .iter()
            .map(|(name, id)| ((*name).to_owned(), *id))
            .collect()
    };
    // A name without a number gets the smallest that is free.
    let first = attach(&["uplink", "wg0", "wg1", "wg2@200"])?;
    assert_eq!(
        first,
        expect(&[("uplink", 2), ("wg0", 0), ("wg1", 1), ("wg2", 200)])
    );
    let before = buckets(&maps(&gateway)?)?;
    // Removal renumbers nobody, and moves nobody else's flows.
    let second = attach(&["wg1", "wg2", "uplink"])?;
    assert_eq!(second, expect(&[("uplink", 2), ("wg1", 1), ("wg2", 200)]));
    let stayed = |after: &[TunnelId]| {
        // The rest was wg0's.
        let others = || before.iter().zip(after).filter(|(old, _)| **old != 0);
        (
            others().filter(|(old, new)| old == new).count(),
            others().count(),
        )
    };
    let (same, of) = stayed(&buckets(&maps(&gateway)?)?);
    assert!(same * 100 >= of * 97, "{same} of {of}");
    // The number that was wg0's goes to a newcomer last.
    let third = attach(&["spare", "wg1", "wg2", "uplink"])?;
    assert_eq!((third["uplink"], third["wg1"], third["wg2"]), (2, 1, 200));
    // With the first ones back, everything is as it was.
    assert_eq!(attach(&["wg2", "wg1", "uplink", "wg0"])?, first);
    assert_eq!(buckets(&maps(&gateway)?)?, before);
    gateway.done(&["detach"]).map(drop)
});

test!(disabled_and_enabled, |name| {
    let gateway = Gateway::up(name, 2)?;
    gateway.done(&steer("attach", &[]))?;
    let mut sender = Sender::new(gateway.client(), 60)?;
    sender.round()?;
    let first = wait::until("60 flows", Duration::from_secs(5), || {
        Ok(Some(flows(&gateway)?).filter(|flows| flows.len() == 60))
    })?;
    let on = |name: &str| first.values().filter(|(tunnel, _)| tunnel == name).count();
    let report = gateway.json(&["disable", "wg0"])?;
    assert_eq!(
        report["live_flows_moved"].as_u64(),
        Some(on("wg0").try_into()?),
        "{report}"
    );
    assert_eq!(gateway.tunnel("wg0")?["admin"], "disabled");
    assert_eq!(gateway.tunnel("wg0")?["share"], 0.0);
    sender.round()?;
    let second = wait::until("all flows on wg1", Duration::from_secs(5), || {
        let now = flows(&gateway)?;
        Ok(now
            .values()
            .all(|(tunnel, _)| tunnel == "wg1")
            .then_some(now))
    })?;
    for (port, (tunnel, _)) in &first {
        let origin = if tunnel == "wg0" { "moved" } else { "hashed" };
        assert_eq!(second[port].1, origin, "port {port}");
    }
    // Nobody takes those of the last one.
    let report = gateway.json(&["disable", "wg1", "--dry-run"])?;
    assert_eq!(
        (&report["live_flows_moved"], &report["live_flows_to_kernel"]),
        (&0.into(), &60.into()),
        "{report}"
    );
    let said = gateway.done(&["disable", "wg1", "--dry-run"])?;
    let words = "live flows left to the kernel, because no other tunnel can take them: 60";
    assert!(said.contains(words), "{said}");
    gateway.done(&["enable", "wg0"])?;
    sender.round()?;
    let ahead = sender.ports()?.len();
    assert_eq!(flows(&gateway)?, second, "live flows stay, all {ahead}");
    assert!((gateway.tunnel("wg0")?["share"].as_f64().unwrap_or(0.0) - 0.5).abs() < 1e-9);
    gateway.done(&["detach"]).map(drop)
});

test!(rehearsals_change_nothing, |name| {
    let gateway = Gateway::up(name, 3)?;
    let bare = gateway.traces()?;
    for verb in ["run", "attach"] {
        let json = gateway.json(&steer(verb, &["--dry-run"]))?;
        assert_eq!(json["dry_run"], true, "{json}");
        is_as_before(&gateway, &bare)?;
    }
    gateway.done(&["detach", "--dry-run"])?;
    is_as_before(&gateway, &bare)?;

    let _running = gateway.run(&steer("run", &[])[1..])?;
    let client = gateway
        .client()
        .within(|| Ok(UdpSocket::bind("10.1.0.2:0")?))?;
    client.send_to(b"x", FAR)?;
    wait::until("a flow", Duration::from_secs(5), || {
        Ok((flows(&gateway)?.len() == 1).then_some(()))
    })?;
    let (traces, status) = (gateway.traces()?, status(&gateway)?);
    let other = [
        "--iface",
        "lan0",
        "--tunnel",
        "wg2=7",
        "--prefix",
        "10.3.0.0/16",
        "--seed",
        "9",
        "--dry-run",
    ];
    let verbs = [
        [&["run"], &other[..]].concat(),
        [&["attach"], &other[..]].concat(),
        vec!["weights", "wg0=9", "--dry-run"],
        vec!["disable", "wg0", "--dry-run"],
        vec!["enable", "wg0", "--dry-run"],
        vec!["detach", "--dry-run"],
    ];
    for verb in verbs {
        let said = gateway.done(&verb)?;
        assert!(!said.is_empty(), "{verb:?}");
        is_as_before(&gateway, &traces)?;
        assert_eq!(self::status(&gateway)?, status, "{verb:?}");
    }
    Ok(())
});

/// All of `status`, without what the client's neighbour discovery counts.
fn status(gateway: &Gateway) -> Result<Value> {
    let mut status = gateway.json(&["status"])?;
    status["passed"].take();
    Ok(status)
}
