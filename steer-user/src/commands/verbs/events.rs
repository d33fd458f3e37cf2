//! `steerctl events`: what happened, and what happens.

use std::{io, os::fd::AsFd as _, time::Duration};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use steer_common::abi::{Endpoint, FlowKey};
use tokio::time::Instant;

use crate::{
    cli::EventsArgs,
    commands::{
        Context, Failure,
        flows::stop::Interrupt,
        print, print_to_reader, requirements,
        state::{self, decode_name},
    },
    datapath::{
        DatapathError,
        maps::{self, Maps, MoveCursor},
        pins::PinDir,
    },
    output::{self, EventReport, Happening, MovedFlow, NameBook, collapse, moved_flow},
    plan::Since,
    sys::{nanos, now_ns},
    wall_clock,
};

/// How often `--follow` looks.
const LOOK: Duration = Duration::from_millis(100);

/// How much later than its event a time that was shown may seem: clocks are not read at once.
const TIME_ERROR: Duration = Duration::from_millis(1);

/// `steerctl events`.
pub(in crate::commands) async fn events(
    context: &Context,
    args: &EventsArgs,
) -> Result<(), Failure> {
    requirements::check()??;
    let since_ns = args.since.map_or(0, since_ns);
    if args.follow {
        return follow(context, since_ns).await;
    }
    let maps = Maps::open(&context.pins)?;
    let mut reader = Reader::new(since_ns);
    let happenings = reader.take(&maps, u64::MAX)?;
    let text = if context.json {
        output::json(&reader.reports(&maps, &happenings)).map_err(io::Error::from)?
    } else {
        let reports = reader.reports(&maps, &collapse(happenings));
        reports.iter().map(EventReport::line).collect()
    };
    print(text.as_bytes())
}

/// Tells what happens, also after a detach and the next start, until a signal or until nobody reads any more.
async fn follow(context: &Context, since_ns: u64) -> Result<(), Failure> {
    let mut interrupt = Interrupt::listen()?;
    while let Some(maps) = started(&context.pins, &mut interrupt).await? {
        let mut reader = Reader::new(since_ns);
        if !tell_all(context, &maps, &mut reader, &mut interrupt).await? {
            break;
        }
        let dir = context.pins.path().display();
        eprintln!("steerctl: {dir}: steer was detached; waiting for the next start");
    }
    Ok(())
}

/// The maps, as soon as they are there; `None` when it is over before.
async fn started(pins: &PinDir, interrupt: &mut Interrupt) -> Result<Option<Maps>, Failure> {
    let mut has_told = false;
    loop {
        if pins.holds_maps() && maps::pinned_abi(pins).is_some_and(|abi| abi != 0) {
            match Maps::open(pins) {
                Ok(maps) => return Ok(Some(maps)),
                // Detached at this very moment.
                Err(_) if !pins.holds_maps() => {}
                Err(error) => return Err(error.into()),
            }
        }
        if !std::mem::replace(&mut has_told, true) {
            let dir = pins.path().display();
            eprintln!("steerctl: {dir}: nothing is steered; waiting for a start");
        }
        if !has_reader() || interrupt.comes_before(Instant::now() + LOOK).await {
            return Ok(None);
        }
    }
}

/// Tells what happens until steer is detached; `false` when it is over before.
async fn tell_all(
    context: &Context,
    maps: &Maps,
    reader: &mut Reader,
    interrupt: &mut Interrupt,
) -> Result<bool, Failure> {
    let mut is_over = false;
    loop {
        // What is unpinned can still be read: the last look comes after the end.
        let is_detached = !maps.is_pinned(&context.pins);
        let until_ns = if is_detached || is_over {
            u64::MAX
        } else {
            now_ns()
        };
        let happenings = reader.take(maps, until_ns)?;
        if !happenings.is_empty() {
            let text = if context.json {
                let reports = reader.reports(maps, &happenings);
                let lines: Result<String, _> = reports.iter().map(output::json_line).collect();
                lines.map_err(io::Error::from)?
            } else {
                let reports = reader.reports(maps, &collapse(happenings));
                reports.iter().map(EventReport::line).collect()
            };
            if !print_to_reader(text.as_bytes())? {
                return Ok(false);
            }
        }
        if is_detached || is_over || !has_reader() {
            return Ok(is_detached && !is_over);
        }
        is_over = interrupt.comes_before(Instant::now() + LOOK).await;
    }
}

/// Whether anybody still reads standard output, as far as one can tell without writing.
fn has_reader() -> bool {
    let stdout = io::stdout();
    let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
    let found = poll(&mut fds, PollTimeout::ZERO);
    let events = fds[0].revents().unwrap_or(PollFlags::empty());
    found.is_err() || !events.contains(PollFlags::POLLERR)
}

/// A moment on the clock of the maps.
fn since_ns(since: Since) -> u64 {
    let now = now_ns();
    match since {
        Since::Ago(ago) => now.saturating_sub(nanos(ago)),
        // What lies ahead has not happened yet.
        Since::At(at) => {
            let start = at.checked_sub(TIME_ERROR).unwrap_or(at);
            let start = start.duration_since(wall_clock::zero());
            now.min(nanos(start.unwrap_or_default()))
        }
    }
}

/// How far a reader has come.
struct Reader {
    since_ns: u64,
    has_begun: bool,
    seq: u64,
    moves: MoveCursor,
    /// Moves that are later than the events that were read.
    ahead: Vec<Happening>,
    names: NameBook,
}

impl Reader {
    fn new(since_ns: u64) -> Self {
        Self {
            since_ns,
            has_begun: false,
            seq: 0,
            moves: MoveCursor::default(),
            ahead: Vec::new(),
            names: NameBook::default(),
        }
    }

    /// What is new and happened no later than that, in the order of time; what was lost comes first.
    ///
    /// Whatever happened until now is in the maps: later things wait, for an event that was written before
    /// a move could be read after it.
    fn take(&mut self, maps: &Maps, until_ns: u64) -> Result<Vec<Happening>, DatapathError> {
        let missed_before = self.moves.missed;
        let events = maps.events_after(self.seq)?;
        let moves = maps.moves_after(&mut self.moves)?;
        let mut lost = 0;
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        // What is older than was asked for is not missed.
        let counts = |oldest: Option<u64>| !is_first || oldest.is_none_or(|at| at >= self.since_ns);
        if counts(events.first().map(|event| event.at_ns)) {
            let latest = events.last().map_or(self.seq, |event| event.seq);
            lost += latest - self.seq - u64::try_from(events.len()).unwrap_or(0);
        }
        if counts(moves.first().map(|moved| moved.at_ns)) {
            lost += self.moves.missed - missed_before;
        }
        self.seq = events.last().map_or(self.seq, |event| event.seq);
        let mut found = std::mem::take(&mut self.ahead);
        found.extend(events.into_iter().map(Happening::Event));
        found.extend(moves.into_iter().map(Happening::Move));
        found.retain(|happening| happening.at_ns().is_none_or(|at| at >= self.since_ns));
        found.sort_by_key(Happening::at_ns);
        let later = found.partition_point(|happening| happening.at_ns() <= Some(until_ns));
        self.ahead = found.split_off(later);
        if lost > 0 {
            found.insert(0, Happening::Lost(lost));
        }
        Ok(found)
    }

    /// The same as they are shown.
    fn reports(&mut self, maps: &Maps, happenings: &[Happening]) -> Vec<EventReport> {
        // Names of what is gone by now are kept. Without new ones, numbers do.
        if let (Ok(tunnels), Ok(groups)) = (state::tunnels(maps), state::groups(maps)) {
            let tunnels = tunnels.into_iter().map(|t| (t.id.into(), t.name));
            self.names.tunnels.extend(tunnels);
            let groups = groups.into_iter();
            let groups = groups.map(|(id, group)| (id.into(), decode_name(&group.name)));
            self.names.groups.extend(groups);
        }
        let prefixes = maps.prefixes().unwrap_or_default();
        let flow = |key: &FlowKey| -> MovedFlow {
            // Its entry tells the sides apart; without one, its prefix does.
            let known = maps.flow(key).ok().flatten().map(|entry| entry.local);
            let local = known.unwrap_or_else(|| {
                let low_is_far = moved_flow(key, Endpoint::High).dst_addr;
                let is_far = prefixes
                    .iter()
                    .any(|(prefix, _)| prefix.contains(&low_is_far));
                if is_far {
                    Endpoint::High
                } else {
                    Endpoint::Low
                }
            });
            moved_flow(key, local)
        };
        let zero = wall_clock::zero();
        let time = |at_ns: u64| {
            let at = zero.checked_add(Duration::from_nanos(at_ns));
            humantime::format_rfc3339_millis(at.unwrap_or(zero)).to_string()
        };
        happenings
            .iter()
            .map(|happening| {
                let time = happening.at_ns().map(time);
                EventReport::new(happening, time, &self.names, flow)
            })
            .collect()
    }
}
