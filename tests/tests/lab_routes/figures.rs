//! How long it takes: many prefixes at once, and one change among many.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Map, MapData};
use steer_common::abi::maps::PREFIXES;
use steer_tests::lab::{Lab, Setup, Side, Steer, wait};
use steer_tests::scenario;

use crate::routes::{Ip, PATIENCE};

const PREFIX_COUNT: u32 = 10_000;

/// steer's map of prefixes, read without steer.
struct Prefixes(LpmTrie<MapData, [u8; 16], [u8; 8]>);

impl Prefixes {
    fn open(lab: &Lab) -> Result<Self> {
        let path = lab.pin_dir(Side::A).join(PREFIXES);
        let data = MapData::from_pin(&path).with_context(|| format!("{}", path.display()))?;
        Ok(Self(LpmTrie::try_from(Map::LpmTrie(data))?))
    }

    /// What the longest prefix around an address leads to.
    fn at(&self, address: Ipv4Addr) -> Option<[u8; 8]> {
        self.0
            .get(&Key::new(128, address.to_ipv6_mapped().octets()), 0)
            .ok()
    }

    fn count(&self) -> usize {
        self.0.keys().flatten().count()
    }
}

/// The networks of the test: 10.100.0.0/24 and what follows.
fn network(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a64_0000 + (n << 8))
}

fn prefix(n: u32) -> String {
    format!("{}/24", network(n))
}

fn all(verb: &str) -> String {
    let lines = (0..PREFIX_COUNT).map(|n| format!("route {verb} {} dev wg{}", prefix(n), n % 2));
    lines.collect::<Vec<_>>().join("\n")
}

fn median(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[times.len() - 1])
}

/// How long a change of one route takes, from when `ip` is told to when the map says it.
fn one_change(prefixes: &Prefixes, ip: &mut Ip, rounds: usize) -> Result<(Duration, Duration)> {
    let mut times = Vec::new();
    for round in 0..rounds {
        let before = prefixes.at(network(7));
        let start = Instant::now();
        ip.say(&format!("route replace {} dev wg{}", prefix(7), round % 2))?;
        loop {
            let now = prefixes.at(network(7));
            if now.is_some() && now != before {
                break;
            }
            wait::check_interrupt()?;
            anyhow::ensure!(
                start.elapsed() < wait::here(PATIENCE),
                "round {round}: no change"
            );
        }
        times.push(start.elapsed());
        // Not all at once: that is another test.
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(median(times))
}

#[test]
fn ten_thousand_prefixes() -> Result<()> {
    scenario::run("ten_thousand_prefixes", || {
        let lab = scenario::lab(2)?;
        let setup = Setup::new(&[1, 1]).follow_routes();
        let mut near = Steer::start_as(&lab, Side::A, &setup)?;
        let prefixes = Prefixes::open(&lab)?;
        let home = prefixes.count();
        let mut ip = Ip::start(&lab)?;
        let few = {
            // Among a few prefixes.
            ip.say(&format!("route add {} dev wg1", prefix(7)))?;
            wait::until("the first", PATIENCE, || {
                Ok((prefixes.count() == home + 1).then_some(()))
            })?;
            one_change(&prefixes, &mut ip, 40)?
        };
        ip.say(&format!("route del {}", prefix(7)))?;
        ip.end()?;
        wait::until("none", PATIENCE, || {
            Ok((prefixes.count() == home).then_some(()))
        })?;

        let start = Instant::now();
        let mut ip = Ip::start(&lab)?;
        ip.say(&all("add"))?;
        ip.end()?;
        let told = start.elapsed();
        let whole = home + PREFIX_COUNT as usize;
        wait::until("all", PATIENCE, || {
            Ok((prefixes.count() == whole).then_some(()))
        })?;
        let loaded = start.elapsed();
        // In the order of the lines, so this one was the last.
        let mut ip = Ip::start(&lab)?;
        let many = one_change(&prefixes, &mut ip, 40)?;
        ip.end()?;

        near.stop()?;
        let start = Instant::now();
        let near = Steer::start_as(&lab, Side::A, &setup)?;
        let started = start.elapsed();
        assert_eq!(Prefixes::open(&lab)?.count(), whole, "when it is ready");
        println!(
            "{PREFIX_COUNT} prefixes: the kernel took {told:?}, steer had them {:?} later; a start with all of them \
             {started:?}\none change, median and worst of 40: {few:?} among {home}, {many:?} among {whole}",
            loaded.saturating_sub(told)
        );
        assert!(
            loaded < wait::here(Duration::from_secs(4))
                && started < wait::here(Duration::from_secs(8))
        );
        assert!(
            few.0 < wait::here(Duration::from_millis(200))
                && many.0 < wait::here(Duration::from_millis(800))
        );
        drop(near);
        Ok(())
    })
}
