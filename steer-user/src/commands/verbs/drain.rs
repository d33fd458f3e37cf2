//! `steerctl drain`: no new flows for a tunnel, and waiting until its live ones have ended.

use std::{io::IsTerminal as _, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use steer_common::abi::{Admin, EventKind, TunnelId};
use tokio::time::Instant;

use crate::{
    cli::DrainArgs,
    commands::{
        Context, Failure, colour,
        flows::{
            flow_moves::{self, Outcome, Run, Table},
            stop::{Interrupt, StopError},
        },
        print_either, routes, state,
        verbs::{change, show::live_flows},
    },
    datapath::{DatapathError, maps::Maps, mover::Mover},
    output::{AdminReport, drain_line},
    plan::{self, Change, DrainPace, Existing, Fate, Pinned, Rate, Served},
};

/// How often the flows are counted, at most.
const LOOK: Duration = Duration::from_secs(1);
/// The pause between two looks is this many times as long as the look took.
const EASE: u32 = 10;
/// How often a line is written where nobody watches a terminal.
const TELL: Duration = Duration::from_secs(10);

/// `steerctl drain`.
pub(in crate::commands) async fn drain(context: &Context, args: &DrainArgs) -> Result<(), Failure> {
    let name = &args.name;
    let (mut interrupt, mut mover) = (None, None);
    let plan = |_: &Maps, existing: &Existing, routed: &Pinned| {
        // From now on, so that an early signal finds the tunnel in drain, or untouched.
        interrupt = args.wait.then(Interrupt::listen).transpose()?;
        let change = plan::drain(existing, routed, name, args.force)?;
        // What can fail does so before anything is changed.
        mover = args
            .timeout
            .map(|_| Mover::load(&context.pins))
            .transpose()?;
        Ok(change)
    };
    let (mut maps, change) = change::set_admin(context, args.dry_run, plan)?;
    let id = change.id_of(name)?;
    let mut report = AdminReport::new(&change, args.dry_run);
    let Some(interrupt) = interrupt else {
        report.live_flows_left = Some(live_flows(&maps, id.into())?);
        return print_either(context, &report, || report.render(colour()));
    };
    let mut wait = Wait {
        context,
        name,
        id,
        change: &change,
        rate: args.rate.unwrap_or_default(),
        interrupt,
    };
    let outcome = wait.until_empty(&mut maps, mover, args.timeout).await?;
    report.live_flows_moved = Some(outcome.moved);
    report.live_flows_left = Some(outcome.left);
    print_either(context, &report, || report.render(colour()))?;
    outcome.end.map_or(Ok(()), |end| Err(end.into()))
}

/// Waiting for a tunnel's flows to end.
struct Wait<'a> {
    context: &'a Context,
    name: &'a str,
    id: TunnelId,
    change: &'a Change,
    rate: Rate,
    interrupt: Interrupt,
}

impl Wait<'_> {
    /// Waits until no flow is left; after the time-out, moves those that are.
    async fn until_empty(
        &mut self,
        maps: &mut Maps,
        mut mover: Option<Mover>,
        timeout: Option<Duration>,
    ) -> Result<Outcome, Failure> {
        let began = Instant::now();
        let deadline = timeout.and_then(|timeout| began.checked_add(timeout));
        let mut pace = DrainPace::default();
        let mut teller = Teller::new();
        loop {
            let looked = Instant::now();
            let left = self.left(maps)?;
            if let Some(end) = self.came_between(maps)? {
                return Ok(Outcome::stopped(left, end));
            }
            if left == 0 {
                drop(teller);
                return self.end(maps, None, left).await;
            }
            let rest = deadline.map(|deadline| deadline.saturating_duration_since(looked));
            if let Some(mover) = mover.as_mut()
                && rest == Some(Duration::ZERO)
            {
                match self.context.pins.begin_moving() {
                    Ok(_turn) => {
                        drop(teller);
                        return self.end(maps, Some(mover), left).await;
                    }
                    Err(error @ DatapathError::Moving { .. }) => teller.tell(&error.to_string()),
                    Err(error) => return Err(error.into()),
                }
            } else {
                pace.note(looked - began, left);
                teller.tell(&drain_line(self.name, left, &pace, rest));
            }
            let next = Instant::now() + LOOK.max(looked.elapsed() * EASE);
            let next = deadline
                .filter(|deadline| looked < *deadline)
                .map_or(next, |deadline| next.min(deadline));
            if self.interrupt.comes_before(next).await {
                let name = self.name.to_owned();
                return Ok(Outcome::stopped(left, StopError::Waiting { name, left }));
            }
        }
    }

    fn left(&self, maps: &Maps) -> Result<u64, Failure> {
        Ok(live_flows(maps, self.id.into())?)
    }

    /// Whether somebody ended the drain.
    fn came_between(&self, maps: &Maps) -> Result<Option<StopError>, Failure> {
        let pins = &self.context.pins;
        if !maps.is_pinned(pins) {
            let dir = pins.path().to_owned();
            return Ok(Some(StopError::Detached { dir }));
        }
        let admin = maps.tunnel(self.id)?.admin;
        let name = self.name.to_owned();
        Ok((admin != Admin::Drain).then_some(StopError::NotInDrain { name, admin }))
    }

    /// Moves what is left, if there is a mover, and writes down that the drain is done.
    async fn end(
        &mut self,
        maps: &mut Maps,
        mover: Option<&mut Mover>,
        at_first: u64,
    ) -> Result<Outcome, Failure> {
        let mut total = Outcome::default();
        if let Some(mover) = mover {
            total = self.move_rest(maps, mover).await?;
        }
        if total.end.is_some() {
            return Ok(total);
        }
        total.left = self.left(maps)?;
        total.gone = at_first.saturating_sub(total.moved + total.left);
        let of = (self.change.group_id, Some((self.id, self.name)));
        flow_moves::record(&self.context.pins, maps, EventKind::DrainDone, of, &total)?;
        if total.left > 0 {
            let (name, left) = (self.name.to_owned(), total.left);
            let why = self.why_they_stay(maps)?;
            total.end = Some(StopError::Stay { name, left, why });
        }
        Ok(total)
    }

    /// What keeps the flows that are left.
    fn why_they_stay(&self, maps: &Maps) -> Result<Fate, Failure> {
        let existing = state::existing(maps)?;
        let routed = routes::read_pinned(maps, &state::groups(maps)?)?;
        // As it is now, which may be another thing than at the beginning.
        let now = plan::change_admin(&existing, self.name, Admin::Drain)?;
        let served = Served::by(&now, &existing, &routed);
        Ok(change::fate(maps, self.id, &served)?)
    }

    /// Moves what can be moved. A change of the other tunnels only makes a new plan of it.
    async fn move_rest(&mut self, maps: &Maps, mover: &mut Mover) -> Result<Outcome, Failure> {
        let home = (self.change.group_id, self.change.group.as_str());
        let mut total = Outcome::default();
        loop {
            let mut run = Run::new(&self.context.pins, maps, mover, home, self.rate)?;
            let moves = Table::read_drained(maps, home.0, self.id)?.moves(maps)?;
            let outcome = run.carry_out(maps, &moves, &mut self.interrupt).await?;
            total.moved += outcome.moved;
            total.left = self.left(maps)?;
            total.end = self.came_between(maps)?;
            match outcome.end {
                Some(StopError::Interrupted { .. }) => {
                    let (name, left) = (self.name.to_owned(), total.left);
                    total.end = Some(StopError::Waiting { name, left });
                }
                Some(StopError::Changed { .. }) if total.end.is_none() => continue,
                // Those that could not go where they were to may go elsewhere.
                None if outcome.gone > 0 && outcome.moved > 0 && total.end.is_none() => continue,
                _ => {}
            }
            return Ok(total);
        }
    }
}

/// Says how far it has come, on standard error.
struct Teller {
    spinner: ProgressBar,
    told: Option<Instant>,
}

impl Teller {
    fn new() -> Self {
        let style = ProgressStyle::with_template("{msg}");
        let spinner = ProgressBar::new_spinner()
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        Self {
            spinner,
            told: None,
        }
    }

    fn tell(&mut self, line: &str) {
        if std::io::stderr().is_terminal() {
            self.spinner.set_message(line.to_owned());
            self.spinner.tick();
        } else if self.told.is_none_or(|told| told.elapsed() >= TELL) {
            self.told = Some(Instant::now());
            eprintln!("steerctl: {line}");
        }
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.spinner.finish_and_clear();
    }
}
