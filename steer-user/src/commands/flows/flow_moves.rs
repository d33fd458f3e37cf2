//! Moving live flows: planned on the live table, done in batches at a rate, stopped between any two.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use steer_common::abi::{
    Admin, Cause, Event, EventKind, FlowEntry, FlowKey, GroupId, MoveRecord, NO_TUNNEL, TunnelId,
};
use tokio::time::Instant;

use crate::{
    commands::{
        Failure,
        flows::stop::{Interrupt, StopError},
        state::{self, KnownTunnel, encode_name},
        verbs::show::is_idle,
    },
    datapath::{
        DatapathError,
        maps::Maps,
        mover::Mover,
        pins::{PinDir, WriteLock},
    },
    plan::{
        Rate,
        rebalance::{self, Census, Chooser, FlowMove, Sharer, Target},
    },
    sys::now_ns,
};

/// How long to wait for another steerctl before looking again.
const LOCK_RETRY: Duration = Duration::from_millis(5);

/// The live flows of a home group and its derived groups, and who is to share them.
pub(in crate::commands) struct Table {
    home: GroupId,
    sharers: Vec<(GroupId, Vec<Sharer>)>,
    census: Census,
}

impl Table {
    /// For a rebalance, with these tunnels.
    pub(in crate::commands) fn read(
        maps: &Maps,
        home: GroupId,
        tunnels: &[KnownTunnel],
    ) -> Result<Self, DatapathError> {
        Self::read_for(maps, home, tunnels, None)
    }

    /// For the end of a drain: only the flows of this tunnel move.
    pub(in crate::commands) fn read_drained(
        maps: &Maps,
        home: GroupId,
        drained: TunnelId,
    ) -> Result<Self, DatapathError> {
        Self::read_for(maps, home, &state::tunnels(maps)?, Some(drained))
    }

    fn read_for(
        maps: &Maps,
        home: GroupId,
        tunnels: &[KnownTunnel],
        drained: Option<TunnelId>,
    ) -> Result<Self, DatapathError> {
        let mut sharers = Vec::new();
        let memberships = maps.memberships()?;
        for (id, group) in state::groups_of(maps, home)? {
            let members = state::members(tunnels, id, &group, &memberships);
            let weight = |tunnel: &KnownTunnel| {
                let member = members.iter().find(|member| member.id == tunnel.id);
                let takes = member.filter(|_| tunnel.state.takes_new_flows());
                takes.map_or(0, |member| member.weight.into())
            };
            let sharer = |tunnel: &KnownTunnel| Sharer {
                id: tunnel.id,
                weight: weight(tunnel),
                keeps: tunnel.state.admin == Admin::Drain && drained != Some(tunnel.id),
            };
            let of_group = tunnels.iter().filter(|tunnel| group.has_member(tunnel.id));
            sharers.push((id, of_group.map(sharer).collect()));
        }
        let mut census = Census::default();
        for_each_live(maps, |_, entry| {
            let may_move = drained.is_none_or(|drained| entry.tunnel == u16::from(drained));
            census.add(entry, may_move);
        })?;
        Ok(Self {
            home,
            sharers,
            census,
        })
    }

    /// How many flows a tunnel has.
    pub(in crate::commands) fn flows(&self, tunnel: TunnelId) -> u64 {
        self.census.of_home(self.home, tunnel)
    }

    /// What each tunnel is to have, in each group.
    pub(in crate::commands) fn targets(&self) -> Vec<Target> {
        let of_group = |(group, sharers): &(GroupId, Vec<Sharer>)| {
            rebalance::targets(*group, sharers, &self.census)
        };
        self.sharers.iter().flat_map(of_group).collect()
    }

    /// The moves that lead there.
    pub(in crate::commands) fn moves(&self, maps: &Maps) -> Result<Vec<FlowMove>, DatapathError> {
        let mut chooser = Chooser::new(self.targets());
        for_each_live(maps, |key, entry| chooser.visit(key, entry))?;
        Ok(chooser.moves())
    }
}

/// Calls `visit` with every flow that is not over.
pub(in crate::commands) fn for_each_live(
    maps: &Maps,
    mut visit: impl FnMut(&FlowKey, &FlowEntry),
) -> Result<(), DatapathError> {
    let settings = maps.settings()?;
    let now_ns = now_ns();
    maps.for_each_flow(|key, entry| {
        if !is_idle(&settings, key, entry, now_ns) {
            visit(key, entry);
        }
    })
}

/// Moves flows of one home group.
pub(in crate::commands) struct Run<'a> {
    pins: &'a PinDir,
    mover: &'a mut Mover,
    home: GroupId,
    group: String,
    rate: Rate,
    /// What the moves are planned by.
    basis: Basis,
}

/// Weight, tier and admin state of each tunnel.
type Basis = Vec<(TunnelId, u32, u32, Admin)>;

/// What became of the moves.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::commands) struct Outcome {
    /// Flows that were moved.
    pub(in crate::commands) moved: u64,
    /// Flows that had ended, or gone elsewhere.
    pub(in crate::commands) gone: u64,
    /// Flows that are still to be moved.
    pub(in crate::commands) left: u64,
    /// Why it ended before all were.
    pub(in crate::commands) end: Option<StopError>,
}

impl Outcome {
    /// Nothing was moved.
    pub(in crate::commands) fn stopped(left: u64, end: StopError) -> Self {
        Self {
            left,
            end: Some(end),
            ..Self::default()
        }
    }
}

impl<'a> Run<'a> {
    /// Before anything is planned.
    pub(in crate::commands) fn new(
        pins: &'a PinDir,
        maps: &Maps,
        mover: &'a mut Mover,
        (home, group): (GroupId, &str),
        rate: Rate,
    ) -> Result<Self, DatapathError> {
        Ok(Self {
            pins,
            mover,
            home,
            group: group.to_owned(),
            rate,
            basis: basis(maps, home)?,
        })
    }

    /// Moves flows until all are, or something comes between.
    pub(in crate::commands) async fn carry_out(
        &mut self,
        maps: &Maps,
        moves: &[FlowMove],
        interrupt: &mut Interrupt,
    ) -> Result<Outcome, Failure> {
        let (size, period) = self.rate.batch();
        let mut next = Instant::now();
        let mut outcome = Outcome {
            left: count(moves.len()),
            ..Outcome::default()
        };
        let bar = progress(outcome.left);
        for batch in moves.chunks(size) {
            let (moved, left) = (outcome.moved, outcome.left);
            if interrupt.comes_before(next).await {
                outcome.end = Some(StopError::Interrupted { moved, left });
                break;
            }
            next = next.max(Instant::now()) + period;
            let Some(_lock) = self.lock(interrupt).await? else {
                outcome.end = Some(StopError::Interrupted { moved, left });
                break;
            };
            if !maps.is_pinned(self.pins) {
                let dir = self.pins.path().to_owned();
                outcome.end = Some(StopError::Detached { dir });
                break;
            }
            if basis(maps, self.home)? != self.basis {
                let group = self.group.clone();
                outcome.end = Some(StopError::Changed { group, moved, left });
                break;
            }
            let records: Vec<MoveRecord> = batch.iter().map(record_of).collect();
            let moved: u64 = self.mover.move_flows(&records)?.into();
            outcome.moved += moved;
            outcome.gone += count(batch.len()) - moved;
            outcome.left -= count(batch.len());
            bar.inc(count(batch.len()));
        }
        bar.finish_and_clear();
        Ok(outcome)
    }

    /// The write lock, for one batch; `None` if a signal comes first.
    async fn lock(&self, interrupt: &mut Interrupt) -> Result<Option<WriteLock>, Failure> {
        loop {
            if let Some(lock) = self.pins.try_lock()? {
                return Ok(Some(lock));
            }
            if interrupt.comes_before(Instant::now() + LOCK_RETRY).await {
                return Ok(None);
            }
        }
    }
}

/// Writes down what was done, of a group or of a tunnel of it.
pub(in crate::commands) fn record(
    pins: &PinDir,
    maps: &mut Maps,
    kind: EventKind,
    (home, tunnel): (GroupId, Option<(TunnelId, &str)>),
    outcome: &Outcome,
) -> Result<(), Failure> {
    let _lock = pins.lock()?;
    if !maps.is_pinned(pins) {
        return Ok(());
    }
    let number = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    let (id, name) = tunnel.unwrap_or((NO_TUNNEL, ""));
    Ok(maps.push_event(&Event {
        group: home.into(),
        tunnel: id.into(),
        name: encode_name(name),
        count: number(outcome.moved),
        before: number(outcome.moved + outcome.gone + outcome.left),
        after: number(outcome.left),
        ..Event::new(kind, Cause::Operator)
    })?)
}

fn record_of(flow: &FlowMove) -> MoveRecord {
    MoveRecord {
        key: flow.key,
        from: flow.from.into(),
        to: flow.to.into(),
    }
}

fn count(flows: usize) -> u64 {
    u64::try_from(flows).unwrap_or(u64::MAX)
}

fn basis(maps: &Maps, home: GroupId) -> Result<Basis, DatapathError> {
    let tunnels = state::tunnels(maps)?.into_iter();
    Ok(tunnels
        .filter(|tunnel| tunnel.info.group == u32::from(home))
        .map(|tunnel| {
            let info = tunnel.info;
            (tunnel.id, info.weight, info.tier, tunnel.state.admin)
        })
        .collect())
}

/// A line on standard error, if that is a terminal.
fn progress(flows: u64) -> ProgressBar {
    const LINE: &str = "{pos} of {len} flows moved, {per_sec:.0}, {eta} left {wide_bar}";
    let style = ProgressStyle::with_template(LINE);
    ProgressBar::new(flows).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
