//! Random packets through the host and the kernel, by the million.
//!
//! A run is made again from its seed. Verdict and bytes are compared after each packet, counters and
//! maps after each stride; where those differ, the run is repeated, and in the stride that
//! differed everything is compared after each packet, so that the error names the one.

use std::{
    collections::BTreeMap,
    env,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use steer_common::abi::{
    Admin, FlowKey, GroupId, Health, MOVE_RECORDS_MAX, MSS_CLAMP_MTU, MoveRecord, PassReason,
    Settings,
};

use super::compare::{Pair, now_ns, runnable};
use crate::packets::{
    programs::STEERED,
    random::Random,
    recipe::Hook,
    traffic::Traffic,
    world::{self, DEVICES, GROUP, HOLE, MORE_OF_1, ONLY_0, ONLY_1},
};

/// Packets between two comparisons of everything.
const STRIDE: u64 = 10_000;
/// Time between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(10);
/// Flows that can be made to look idle.
const REMEMBERED: usize = 32;
/// Few, so that the table fills up.
const FLOWS: u32 = 4_096;
/// Prefixes of the world that change their group, and the groups: of one home, and of others.
const ROUTED: usize = 6;
const GROUPS: [GroupId; 6] = [GROUP, GROUP, ONLY_0, ONLY_1, MORE_OF_1, HOLE];
const OTHER_GROUPS: [GroupId; 2] = [1, 6];

/// What to send.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What the packets are made from.
    pub seed: u64,
    /// How many there are at most.
    pub packets: u64,
    /// For how long at most.
    pub time: Duration,
    /// The number of the packet from which on everything is compared after each.
    pub from: u64,
}

impl Options {
    /// `STEER_SEED`, `STEER_PACKETS` and `STEER_FROM`; without a number of packets, as many as the
    /// time allows.
    pub fn from_env(time: Duration) -> Result<Self> {
        let packets = number("STEER_PACKETS")?;
        Ok(Self {
            seed: number("STEER_SEED")?.unwrap_or(1),
            packets: packets.unwrap_or(u64::MAX),
            time: packets.map_or(time, |_| Duration::MAX),
            from: number("STEER_FROM")?.unwrap_or(u64::MAX),
        })
    }
}

fn number(variable: &str) -> Result<Option<u64>> {
    let Ok(text) = env::var(variable) else {
        return Ok(None);
    };
    let number = text.replace('_', "").parse();
    number
        .map(Some)
        .with_context(|| format!("{variable}={text} is not a number"))
}

/// Sends packets through both, and says how it went.
pub fn run(options: Options) -> Result<String> {
    let mut run = Run::new(options)?;
    let Err(error) = run.send_all() else {
        return Ok(run.summary());
    };
    let Run { agreed, sent, .. } = run;
    let Options { seed, .. } = options;
    if !run.is_comparing {
        return Err(error.context(format!("STEER_SEED={seed}, packet {sent}")));
    }
    println!("packets {agreed} to {sent} differ: once more, one by one");
    let again = Options {
        packets: sent,
        time: Duration::MAX,
        from: agreed,
        ..options
    };
    let mut run = Run::new(again)?;
    Err(match run.send_all() {
        Err(error) => error.context(format!("STEER_SEED={seed}, packet {}", run.sent)),
        Ok(()) => error.context(format!(
            "STEER_SEED={seed}, packets {agreed} to {sent}, but not when they were sent again"
        )),
    })
}

struct Run {
    options: Options,
    traffic: Traffic,
    pair: Pair,
    /// Packets that both have seen.
    sent: u64,
    /// After so many packets nothing differed.
    agreed: u64,
    /// Everything is being compared: if that fails, the packet is not known.
    is_comparing: bool,
    /// Keys of packets, the latest last.
    keys: Vec<FlowKey>,
    /// Idle time-outs are fractions of this: what the clock shows at the start.
    uptime_ns: u64,
    started: Instant,
    hooks: BTreeMap<Hook, u64>,
    redirected: u64,
    changed: u64,
    most_flows: usize,
    /// Flows that userspace moved.
    rebalanced: u32,
    changes: u64,
}

impl Run {
    fn new(options: Options) -> Result<Self> {
        let mut pair = Pair::new(FLOWS)?;
        let uptime_ns = now_ns()?;
        // Longer than the run: flows look idle when a change makes them, not because time passes, or
        // a repeated run would be another one.
        pair.set_settings(|settings| {
            settings.idle_tcp_ns = uptime_ns / 16 * 14;
            settings.idle_udp_ns = uptime_ns / 16 * 12;
            settings.idle_other_ns = uptime_ns / 16 * 10;
            settings.idle_closing_ns = uptime_ns / 16 * 8;
        })?;
        Ok(Self {
            options,
            traffic: Traffic::new(options.seed, &Hook::ALL),
            pair,
            sent: 0,
            agreed: 0,
            is_comparing: false,
            keys: Vec::new(),
            uptime_ns,
            started: Instant::now(),
            hooks: BTreeMap::new(),
            redirected: 0,
            changed: 0,
            most_flows: 0,
            rebalanced: 0,
            changes: 0,
        })
    }

    fn send_all(&mut self) -> Result<()> {
        let Options { packets, time, .. } = self.options;
        let mut said = Instant::now();
        while self.sent < packets {
            self.send_next()?;
            if self.sent.is_multiple_of(STRIDE) {
                self.compare()?;
                self.most_flows = self.most_flows.max(self.pair.host.flow_count());
                if self.started.elapsed() > time {
                    break;
                }
                if said.elapsed() > PROGRESS {
                    said = Instant::now();
                    println!("{}", self.progress());
                }
            }
        }
        self.compare()
    }

    fn compare(&mut self) -> Result<()> {
        self.is_comparing = true;
        self.pair.compare()?;
        self.is_comparing = false;
        self.agreed = self.sent;
        Ok(())
    }

    fn send_next(&mut self) -> Result<()> {
        if self.traffic.random().one_in(40) {
            self.change()?;
        }
        let mut arrival = loop {
            if let Some(arrival) = runnable(self.traffic.arrival()) {
                break arrival;
            }
        };
        let random = self.traffic.random();
        arrival.mark = random.pick(&[0, 0, 0x0000_0001, 0xffff_ffff]);
        arrival.marker = random.pick(&[0, 0, 0, 0, 0, 0, 1, STEERED]);
        let ran = if self.sent < self.options.from {
            self.pair.run(&arrival)
        } else {
            self.pair.send(&arrival)
        }?;
        self.sent += 1;
        *self.hooks.entry(arrival.hook).or_default() += 1;
        self.redirected += u64::from(ran.redirected);
        self.changed += u64::from(ran.bytes != arrival.bytes);
        if let Ok(parsed) = ran.parsed {
            if self.keys.len() == REMEMBERED {
                self.keys.remove(0);
            }
            self.keys.push(parsed.key);
        }
        Ok(())
    }

    /// Something happens to the gateway.
    fn change(&mut self) -> Result<()> {
        self.changes += 1;
        let pair = &mut self.pair;
        let random = self.traffic.random();
        match random.below(56) {
            0..4 => pair.bump_epoch(),
            4..8 => pair.set_settings(|settings| clamp_or_mark(random, settings)),
            8..10 => {
                let weights = [(0, random.pick(&[1, 3])), (1, random.pick(&[0, 1, 3]))];
                pair.set_table(0, world::table(&weights))
            }
            10..20 => {
                let Some(at) = self.keys.len().checked_sub(1) else {
                    return Ok(());
                };
                let key = self.keys[random.below(at + 1)];
                let sixteenths = random.pick(&[7, 9, 11, 13, 15]);
                let idle_ns = self.uptime_ns / 16 * sixteenths;
                pair.set_last_seen(&key, now_ns()?.saturating_sub(idle_ns))
            }
            20..22 => {
                let secs = random.pick(&[25, 35]);
                let seen_ns = now_ns()?.saturating_sub(secs * 1_000_000_000);
                pair.set_fragments_seen(seen_ns)
            }
            48..51 => {
                let group = if random.one_in(20) {
                    random.pick(&OTHER_GROUPS)
                } else {
                    random.pick(&GROUPS)
                };
                pair.set_prefix(random.below(ROUTED), group)?;
                // Somebody may be slow to say so.
                if random.one_in(4) {
                    return Ok(());
                }
                pair.bump_epoch()
            }
            51..56 => {
                let keys = random.below(self.keys.len().min(MOVE_RECORDS_MAX) + 1);
                let records: Vec<_> = self.keys[..keys]
                    .iter()
                    .map(|key| {
                        let entry = pair.host.entry(key).filter(|_| !random.one_in(4));
                        MoveRecord {
                            key: *key,
                            from: entry.map_or(0, |entry| entry.tunnel.into()),
                            to: random.pick(&[0, 0, 1, 1, 5, 255, 256, u32::MAX]),
                        }
                    })
                    .collect();
                self.rebalanced += pair.rebalance(&records)?;
                Ok(())
            }
            22 if random.one_in(8) => pair.delete_flows(),
            23 if random.one_in(4) => {
                let id = random.pick(&[1, world::SMALL]);
                pair.set_mtu(id, random.pick(&[1_280, 1_360, 1_420]))
            }
            _ => {
                let id = random.below(DEVICES.len());
                let admin =
                    random.pick(&[Admin::Active, Admin::Active, Admin::Drain, Admin::Disabled]);
                let health = random.pick(&[Health::Up, Health::Up, Health::Degraded, Health::Down]);
                let ifindex = if random.one_in(8) {
                    random.pick(&[0, world::GONE])
                } else {
                    pair.devices.tunnels[id]
                };
                let tunnel = world::tunnel(ifindex, admin, health);
                pair.set_tunnel(u8::try_from(id)?, tunnel)
            }
        }
    }

    fn progress(&self) -> String {
        let secs = self.started.elapsed().as_secs_f64();
        format!(
            "STEER_SEED={}: {} packets in {secs:.0} s, {:.0} per second",
            self.options.seed,
            self.sent,
            u32::try_from(self.sent).map_or(f64::INFINITY, f64::from) / secs,
        )
    }

    fn summary(&self) -> String {
        let host = &self.pair.host;
        let passed: Vec<String> = PassReason::ALL
            .iter()
            .zip(host.pass_counters())
            .map(|(reason, count)| format!("{} {count}", reason.name()))
            .collect();
        format!(
            "{}\n{:?}\n{} redirected, {} rewritten, {} changes of the gateway, up to {} flows\n\
             {} moved by userspace; passed: {}\n{:?}",
            self.progress(),
            self.hooks,
            self.redirected,
            self.changed,
            self.changes,
            self.most_flows,
            self.rebalanced,
            passed.join(", "),
            host.counters(),
        )
    }
}

fn clamp_or_mark(random: &mut Random, settings: &mut Settings) {
    match random.below(2) {
        0 => settings.mss_clamp = random.pick(&[0, MSS_CLAMP_MTU, 536, 1_300, 1_460]),
        _ => settings.mark_mask = random.pick(&[0, 0x00ff_0000, 0xff00_0000, 0xff]),
    }
}
