//! Putting flows on other tunnels, and keeping a log of it.

use core::cell::Cell;

use crate::{
    abi::{
        Admin, FlowKey, GroupId, Health, Move, MoveReason, MoveRecord, Origin, Placer,
        TUNNEL_ID_MAX, Tunnel, TunnelId,
    },
    decide::is_idle,
    known::Known,
    tables::{Standing, Tables},
};

/// A flow that was put on another tunnel.
#[derive(Clone, Copy, Debug)]
pub struct Moved<'k> {
    /// Which.
    pub key: &'k FlowKey,
    /// The tunnel that it was on.
    pub from: TunnelId,
    /// The one that it is on.
    pub to: TunnelId,
    /// Its group.
    pub group: GroupId,
    /// Why, unless it is the state of the tunnel that it was on.
    pub reason: Option<MoveReason>,
}

/// Puts a flow on another tunnel. Whether it did: another CPU may have been first.
#[inline(always)]
pub(crate) fn put_on<T: Tables>(
    tables: &T,
    known: &mut Known<'_>,
    key: &FlowKey,
    to: TunnelId,
    reason: Option<MoveReason>,
) -> bool {
    let from = known.tunnel();
    let has_moved = known.stand_on(tables, to) && from != to;
    if has_moved {
        tables.note_move(&Moved {
            key,
            from,
            to,
            group: known.group(),
            reason,
        });
    }
    has_moved
}

/// Counts a move, and writes it into this CPU's ring.
///
/// All by atomic addition: `steer_move` runs on behalf of a process, which a packet may interrupt on
/// kernels before 6.11.
#[inline(always)]
pub fn note_move<T: Tables>(tables: &T, moved: &Moved<'_>) {
    let Moved {
        key,
        from,
        to,
        group,
        reason,
    } = *moved;
    tables.count(from, |counters| {
        tables.add(Cell::from_mut(&mut counters.moved_out), 1);
    });
    tables.count(to, |counters| {
        tables.add(Cell::from_mut(&mut counters.moved_in), 1);
    });
    tables.log_move(&Move {
        seq: 0,
        at_ns: tables.now_ns(),
        key: *key,
        from: from.into(),
        to: to.into(),
        group: group.into(),
        reason: why(reason, tables.tunnel(from)),
    });
}

/// Why a flow left a tunnel in that state. A route that is gone is told only of a tunnel that is well otherwise:
/// of others it goes because they are gone. What looks well without has lost its device, and nobody has
/// said so yet.
#[inline(always)]
fn why(reason: Option<MoveReason>, tunnel: Option<Tunnel>) -> MoveReason {
    match (reason, tunnel) {
        (Some(reason @ (MoveReason::FarEnd | MoveReason::Rebalanced)), _) => reason,
        (_, Some(tunnel)) if tunnel.admin == Admin::Disabled => MoveReason::TunnelDisabled,
        (_, Some(tunnel)) if tunnel.is_wanted() && tunnel.health == Health::Down => {
            MoveReason::TunnelDown
        }
        (Some(reason), Some(tunnel)) if tunnel.is_usable() => reason,
        _ => MoveReason::TunnelGone,
    }
}

/// Moves one flow because userspace asks for it. Whether it did: only a live flow moves that is still
/// where it was, that this gateway placed, and whose new tunnel takes flows of its group.
#[inline(always)]
pub fn rebalance<T: Tables>(tables: &T, record: &MoveRecord) -> bool {
    let MoveRecord { key, from, to } = record;
    let Some(flow) = tables.flow(key) else {
        return false;
    };
    let was = flow.standing();
    let may_move = u32::from(was.tunnel) == *from
        && from != to
        && *to <= u32::from(TUNNEL_ID_MAX)
        && flow.placer.get() == Placer::Near
        && flow.origin.get() != Origin::Pinned;
    let seen_ns = flow.last_seen_ns.get();
    if !may_move
        || is_idle(
            tables.settings(),
            key,
            flow.phase.get(),
            seen_ns,
            tables.now_ns(),
        )
    {
        return false;
    }
    let to = *to as TunnelId;
    let remote = key.addr(flow.local.get().other());
    let Some(group) = tables.group_of(remote) else {
        return false;
    };
    let is_offered = flow.home.get() == u32::from(tables.home_of(group))
        && tables.is_member(group, to)
        && tables.tunnel(to).is_some_and(Tunnel::takes_new_flows);
    let is = Standing {
        tunnel: to.into(),
        ..was
    };
    if !is_offered || !flow.stand(tables, was, is) {
        return false;
    }
    tables.note_move(&Moved {
        key,
        from: *from as TunnelId,
        to,
        group,
        reason: Some(MoveReason::Rebalanced),
    });
    flow.origin.set(Origin::Moved);
    true
}
