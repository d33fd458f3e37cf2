//! The table of routes that is kept up to date by what the kernel tells is the one that the kernel lists.

use std::process::Command;
use std::time::Duration;

use ipnet::IpNet;
use steer_user::net::{Netlink, Noted, RouteEvents, RouteNotice, RouteTable};
use tokio::time::timeout;

use crate::{Netns, block_on};

mod commands;

use commands::Random;

const TABLES: [u32; 2] = [254, 100];
const STEPS: usize = 400;

/// Devices with addresses and their gateways.
fn netns(test: &str) -> Option<Netns> {
    let netns = Netns::new(test)?;
    for pair in 0..2 {
        let (one, other) = (2 * pair, 2 * pair + 1);
        netns.ip(&format!("link add d{one} type veth peer name d{other}"));
    }
    for device in 0..4 {
        // The kernel has no routes to make of its own account, whenever it finds the time.
        netns.ip(&format!("link set d{device} addrgenmode none"));
        netns.ip(&format!("address add 10.9.{device}.1/24 dev d{device}"));
        netns.ip(&format!("link set d{device} up"));
    }
    netns.ip("-6 address add fd00:9::1/128 dev d0 nodad");
    netns.enter();
    Some(netns)
}

/// Whether `ip` did it.
fn ip(command: &str) -> bool {
    let output = Command::new("ip").args(command.split_whitespace()).output();
    output.expect("ip").status.success()
}

/// What a table says.
fn said(table: &RouteTable) -> Vec<String> {
    let mut lines = Vec::new();
    for (prefix, routes) in table.iter() {
        lines.extend(
            routes
                .iter()
                .map(|route| format!("{prefix}: {route:?} → {:?}", table.hops(route))),
        );
    }
    lines
}

/// A table that is kept by messages.
struct Kept {
    netlink: Netlink,
    events: RouteEvents,
    table: RouteTable,
}

impl Kept {
    async fn new() -> Self {
        let netlink = Netlink::connect().expect("netlink");
        let events = RouteEvents::subscribe().expect("subscribe");
        let table = netlink.route_table(&TABLES).await.expect("list");
        Self {
            netlink,
            events,
            table,
        }
    }

    async fn list(&self) -> RouteTable {
        self.netlink.route_table(&TABLES).await.expect("list")
    }

    /// What the kernel told.
    async fn told(&mut self) -> Vec<RouteNotice> {
        let mut told = Vec::new();
        // What a command did is told before it ends; only the task that reads has to run, which it may not
        // have before the first time is over.
        for _ in 0..2 {
            while let Ok(Some(notice)) = timeout(Duration::from_millis(3), self.events.next()).await
            {
                told.push(notice);
            }
        }
        told
    }

    /// Notes what the kernel told of a command; whether that was enough. If it was, the table is as listed.
    async fn note(&mut self, command: &str) -> bool {
        let before = said(&self.table);
        let told = self.told().await;
        let mut is_sure = true;
        for notice in &told {
            is_sure &= self.table.note(notice.clone()) != Noted::Unsure;
        }
        let anew = self.list().await;
        let (kept, listed) = (said(&self.table), said(&anew));
        let only = |one: &[String], other: &[String]| {
            let only = one.iter().filter(|line| !other.contains(line));
            only.map(|line| ["  ", line, "\n"].concat())
                .collect::<String>()
        };
        assert!(
            !is_sure || kept == listed,
            "{command}\nbefore:\n  {}\nmessages:\n  {}\nnot listed:\n{}not kept:\n{}",
            before.join("\n  "),
            told.iter()
                .map(|notice| format!("{notice:?}"))
                .collect::<Vec<_>>()
                .join("\n  "),
            only(&kept, &listed),
            only(&listed, &kept),
        );
        if !is_sure {
            self.table.renew(anew);
        }
        is_sure
    }
}

#[test]
fn what_is_told_is_what_is_listed() {
    let Some(_netns) = netns("route-table") else {
        return;
    };
    let mut random = Random::from_environment();
    block_on(async {
        let mut kept = Kept::new().await;
        let (mut done, mut unsure) = (0, 0);
        for _ in 0..STEPS {
            let command = random.anything();
            done += usize::from(ip(&command));
            unsure += usize::from(!kept.note(&command).await);
        }
        println!(
            "{done} of {STEPS} commands did something; {unsure} times the table was listed anew"
        );
        assert!(done > STEPS / 4, "only {done} commands did something");
        assert!(unsure < done * 3 / 4, "{unsure} of {done} not sure");
    });
}

/// What was told before a listing, and is noted after it, changes nothing in the end.
#[test]
fn what_is_told_before_a_listing() {
    const AT_ONCE: usize = 4;
    let Some(_netns) = netns("route-race") else {
        return;
    };
    let mut random = Random::from_environment();
    block_on(async {
        let mut kept = Kept::new().await;
        let (mut done, mut unsure) = (0, 0);
        for _ in 0..STEPS / AT_ONCE {
            let commands: Vec<_> = (0..AT_ONCE).map(|_| random.anything()).collect();
            let (before, after) = commands.split_at(random.below(AT_ONCE));
            done += before.iter().filter(|command| ip(command)).count();
            let listed = kept.list().await;
            done += after.iter().filter(|command| ip(command)).count();
            kept.table.renew(listed);
            unsure += usize::from(!kept.note(&commands.join("\n")).await);
        }
        println!("{done} commands did something; {unsure} times the table was listed anew");
        assert!(done > STEPS / 4, "only {done} commands did something");
        assert!(unsure < done * 3 / 4, "{unsure} of {done} not sure");
    });
}

/// While IPv6 routes go and come the kernel's listing may miss others without a word. That is noticed, and
/// what was known stays.
#[test]
fn a_listing_that_misses_routes_is_noticed() {
    const ROUTES: usize = 3000;
    const LISTINGS: usize = 20;
    let Some(netns) = netns("route-misses") else {
        return;
    };
    let batch = |name: &str, lines: &mut dyn Iterator<Item = String>| {
        let path = std::env::temp_dir().join(format!("{}-{name}", netns.0));
        std::fs::write(&path, lines.collect::<String>()).expect("write");
        path
    };
    let staying = |index| format!("route add fd01:{index:x}::/48 dev d0\n");
    let staying = batch("staying", &mut (0..ROUTES).map(staying));
    let going = |verb: &str, index| format!("route {verb} fd00:{index:x}::/48 dev d0\n");
    let going = batch(
        "going",
        &mut ["add", "del"]
            .into_iter()
            .flat_map(|verb| (0..100).map(move |index| going(verb, index))),
    );
    assert!(ip(&format!("-6 -batch {}", staying.display())));
    let count = |table: &RouteTable| {
        let within = "fd01::/16".parse::<IpNet>().expect("a prefix");
        table
            .iter()
            .filter(|(prefix, _)| within.contains(prefix))
            .count()
    };
    block_on(async {
        let mut kept = Kept::new().await;
        assert_eq!(count(&kept.table), ROUTES);
        let (mut missing, mut noticed) = (0, 0);
        for _ in 0..LISTINGS {
            kept.told().await;
            let mut changes = Command::new("ip")
                .args(["-6", "-batch"])
                .arg(&going)
                .spawn()
                .expect("ip");
            // Once it has begun.
            let first = kept.events.next().await.expect("a notice");
            let listed = kept.list().await;
            assert!(changes.wait().expect("ip").success());
            let told = kept.told().await;
            let mut told = std::iter::once(&first).chain(&told);
            let is_noticed = told.any(|notice| kept.table.spoils_listing(notice));
            missing += usize::from(count(&listed) < ROUTES);
            noticed += usize::from(is_noticed);
            assert!(is_noticed || count(&listed) == ROUTES, "{}", count(&listed));
            kept.table.renew_in_part(listed);
            assert_eq!(count(&kept.table), ROUTES);
        }
        println!(
            "{missing} of {LISTINGS} listings missed routes; {noticed} times that was possible"
        );
    });
    std::fs::remove_file(staying).expect("remove");
    std::fs::remove_file(going).expect("remove");
}

/// What BIRD and FRR do needs no listing: the kernel's messages are enough.
#[test]
fn what_routing_daemons_do_is_told() {
    let Some(_netns) = netns("route-daemons") else {
        return;
    };
    let mut random = Random::from_environment();
    block_on(async {
        let mut kept = Kept::new().await;
        let (mut done, mut most) = (0, 0);
        for _ in 0..STEPS / 2 {
            for command in random.of_a_daemon() {
                done += usize::from(ip(&command));
                assert!(kept.note(&command).await, "not sure: {command}");
            }
            most = most.max(kept.table.len());
        }
        println!("{done} commands did something; up to {most} routes");
        assert!(done > STEPS / 4, "only {done} commands did something");
        assert!(most > 10, "never more than {most} routes");
    });
}
