//! Change after change, each of them killed or not, and what must hold after it.

use std::collections::BTreeMap;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use steer_common::abi::TunnelId;
use steer_tests::lab::wait;
use steer_tests::packets::random::Random;
use steer_tests::steerctl::{Flood, Gateway, Running, Sender};
use steer_user::datapath::maps::Maps;
use steer_user::datapath::pins::PinDir;

use crate::changes::{self, Change};
use crate::flows::Flows;
use crate::state::{self, State};
use crate::tables::{self, Watch};

const FLOWS: usize = 24;
const PER_SECOND: u32 = 2_000;
/// All tunnel devices: four of the group that has the traffic, two of the other one.
const DEVICES: usize = 6;

/// The gateway, and what is known of it.
struct Site {
    gateway: Gateway,
    file: String,
    daemon: Running,
    maps: Maps,
    random: Random,
    /// How long each kind of change took that was not killed.
    took: BTreeMap<&'static str, Duration>,
    killed: usize,
}

/// What a change left.
struct Left {
    is_killed: bool,
    /// What there may be now; the first is by the one change alone.
    after: Vec<State>,
    /// What there was on the way.
    between: Vec<State>,
}

/// Makes changes as long as that goes on, by the number of the next.
pub(crate) fn all(name: &str, seed: u64, goes_on: impl Fn(usize) -> bool) -> Result<()> {
    let gateway = Gateway::up(name, DEVICES)?;
    gateway.sysctl("net.ipv4.ip_forward", "1")?;
    gateway.ip(&["route", "add", "10.0.0.0/8", "dev", "wg0"])?;
    for k in 0..DEVICES {
        // A reader that a busy machine keeps waiting loses nothing.
        gateway.ip(&["link", "set", &format!("wg{k}"), "txqueuelen", "10000"])?;
    }
    let mut random = Random::new(seed);
    let mut file = changes::file(&mut random);
    let path = gateway.dir().join("steer.toml").display().to_string();
    std::fs::write(&path, file.text())?;
    let before = gateway.traces()?;
    let daemon = gateway.run(&["--config", &path, "--keep"])?;
    let maps = Maps::open(&PinDir::new(gateway.pin_dir()))?;
    let group = state::group(&maps, "default")?.context("no group")?;
    let watch = Watch::start(&gateway.pin_dir(), group)?;

    let mut sender = Sender::new(gateway.client(), FLOWS)?;
    let mut flows = Flows::watch(&gateway, DEVICES, sender.ports()?)?;
    sender.round()?;
    let flood = Flood::start(sender, PER_SECOND);
    flows.judge(|_| false)?;
    let mut site = Site {
        gateway,
        file: path,
        daemon,
        maps,
        random,
        took: BTreeMap::new(),
        killed: 0,
    };
    let start = Instant::now();
    let mut step = 0;
    while goes_on(step) {
        let now = State::of(&site.maps)?;
        // A change that was killed may have left the table of before.
        let table = tables::table(&site.maps, group)?;
        watch.take();
        let change = changes::any(&mut site.random, &now);
        if change.is_by_file() {
            file = changes::file(&mut site.random);
            std::fs::write(&site.file, file.text())?;
        }
        let what = || format!("change {step}: {change:?} of {now:?}, file {file:?}");
        let left = site.step(&change, &now, &file).with_context(what)?;
        let here = State::of(&site.maps)?;
        let is_so = left.after.contains(&here) || left.is_killed && here == now;
        ensure!(is_so, "{}: is {here:?}, should be {:?}", what(), left.after);

        if !left.is_killed {
            ensure!(
                tables::table(&site.maps, group)? == here.table(),
                "{}: another table",
                what()
            );
        }
        let states = || left.after.iter().chain(&left.between).chain([&now]);
        let mut allowed: Vec<Vec<TunnelId>> = states().map(State::table).collect();
        allowed.push(table);
        let odd = watch
            .take()
            .into_iter()
            .find(|seen| !allowed.contains(seen));
        ensure!(odd.is_none(), "{}: a mixed or empty table: {odd:?}", what());
        let may_leave = |id| states().any(|state| !state.keeps(id));
        flows.judge(may_leave).with_context(what)?;
        step += 1;
    }
    let took = start.elapsed();
    watch.stop()?;
    let sent = flood.stop()?.sent();
    flows.all_arrive(&site.gateway, sent)?;
    println!(
        "{step} changes, {} of them killed, in {:.1} s",
        site.killed,
        took.as_secs_f32()
    );
    println!("a change takes {:?}", site.took);

    // What the last one left is finished by a start, and all of it goes.
    site.restart()?;
    ensure!(
        State::of(&site.maps)? == State::of(&site.maps)?.by(&file),
        "the last start"
    );
    site.daemon.stop()?;
    site.gateway.done(&["detach"])?;
    ensure!(
        site.gateway.traces()? == before,
        "something of steer is left"
    );
    Ok(())
}

impl Site {
    /// Makes one change; it may be killed.
    fn step(&mut self, change: &Change, now: &State, file: &State) -> Result<Left> {
        let after = change.after(now, file);
        let begin = Instant::now();
        let usual = self.took.get(change.kind()).copied();
        let delay = match usual {
            Some(usual) if !self.random.one_in(3) => Some(self.part_of(usual)),
            _ => None,
        };
        let mut left = Left {
            is_killed: delay.is_some(),
            after: vec![after],
            between: Vec::new(),
        };
        match change {
            Change::Reload => {
                self.daemon.signal(Signal::SIGHUP)?;
                match delay {
                    Some(delay) => self.kill_daemon(delay)?,
                    None => self.daemon.says("configuration read again")?,
                }
            }
            Change::Restart => {
                let mut next = Running::start(self.run().stdin(Stdio::null()))?;
                match delay {
                    // Whichever of them is in the middle of something.
                    Some(delay) if self.random.one_in(2) => self.kill_daemon(delay)?,
                    Some(delay) => {
                        wait::pause(delay)?;
                        next.kill()?;
                    }
                    None => {
                        next.prints("ready ")?;
                        self.daemon.ended()?;
                        self.daemon = next;
                    }
                }
            }
            _ if delay.is_none() && change.kind() == "small" && self.random.one_in(4) => {
                (left.after, left.between) = self.two_at_once(change, now, file)?;
            }
            _ => {
                let command = change.command(&self.gateway, &self.file);
                let mut command = command.context("a verb")?;
                let child = command
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()?;
                finish(child, delay)?;
            }
        }
        if delay.is_some() {
            self.killed += 1;
        } else {
            self.took.insert(change.kind(), begin.elapsed());
        }
        self.recover(change, &mut left, now, file)?;
        Ok(left)
    }

    /// Another operator makes a small change at the same time; one is first, and none is lost.
    fn two_at_once(
        &mut self,
        change: &Change,
        now: &State,
        file: &State,
    ) -> Result<(Vec<State>, Vec<State>)> {
        let other = changes::small(&mut self.random, now);
        let children = [change, &other].map(|change| -> Result<Child> {
            let mut command = change
                .command(&self.gateway, &self.file)
                .context("a verb")?;
            Ok(command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?)
        });
        for child in children {
            finish(child?, None)?;
        }
        let (one, two) = (change.after(now, file), other.after(now, file));
        let both = vec![other.after(&one, file), change.after(&two, file)];
        Ok((both, vec![one, two]))
    }

    /// After a change that took the daemon away, or its programs, there is a new one, sometimes only after another
    /// small change.
    fn recover(
        &mut self,
        change: &Change,
        left: &mut Left,
        now: &State,
        file: &State,
    ) -> Result<()> {
        let is_over = match change {
            Change::Weights(_) | Change::Admin(..) => false,
            Change::Attach | Change::Reload | Change::Restart => left.is_killed,
        };
        if !is_over {
            return Ok(());
        }
        let here = State::of(&self.maps)?;
        ensure!(
            here == *now || here.is_between(now, &left.after[0]),
            "is {here:?}, should be between that and {:?}",
            left.after[0]
        );
        left.between.push(here.clone());
        if left.is_killed && self.random.one_in(3) {
            let small = changes::small(&mut self.random, &here);
            let command = small.command(&self.gateway, &self.file);
            let mut command = command.context("a verb")?;
            finish(command.stdout(Stdio::null()).spawn()?, None)?;
            let after = small.after(&here, file);
            ensure!(State::of(&self.maps)? == after, "{small:?} of {here:?}");
            left.after = vec![after.by(file)];
            left.between.push(after);
        }
        self.restart()?;
        ensure!(
            State::of(&self.maps)? == left.after[0],
            "the next start did not finish it"
        );
        left.is_killed = false;
        Ok(())
    }

    /// A new daemon, which ends the old one if there is one.
    fn restart(&mut self) -> Result<()> {
        self.daemon = Running::ready(&mut self.run())?;
        Ok(())
    }

    fn run(&self) -> std::process::Command {
        let mut command = self.gateway.command();
        command.args(["run", "--config", &self.file, "--keep"]);
        command
    }

    fn kill_daemon(&mut self, delay: Duration) -> Result<()> {
        wait::pause(delay)?;
        self.daemon.signal(Signal::SIGKILL)?;
        self.daemon.ended().map(drop)
    }

    /// Some part of a time.
    fn part_of(&mut self, time: Duration) -> Duration {
        let micros = usize::try_from(time.as_micros())
            .unwrap_or(usize::MAX)
            .max(1);
        Duration::from_micros(self.random.below(micros) as u64)
    }
}

/// Waits for a verb, or kills it after a time.
fn finish(mut child: Child, delay: Option<Duration>) -> Result<()> {
    if let Some(delay) = delay {
        wait::pause(delay)?;
        child.kill()?;
        child.wait()?;
        return Ok(());
    }
    let status = child.wait()?;
    ensure!(status.success(), "steerctl: {status}");
    Ok(())
}
