//! Moves of flows: their log, as a function of its own, and `steer_move`, which userspace runs.

use core::{
    ptr,
    sync::atomic::{Ordering, compiler_fence},
};

use aya_ebpf::{bindings::__sk_buff, macros::classifier, programs::TcContext};
use steer_common::{
    abi::{FlowKey, GroupId, MOVE_RECORDS_MAX, MOVES_MAX, Move, MoveReason, MoveRecord, TunnelId},
    moves::{self, Moved},
    packet::Packet as _,
};

use crate::{
    maps::{COUNTERS, MOVES, Maps},
    packet::Skb,
    tables::fetch_add,
};

/// What stands before the records: a test run wants a MAC header.
const HEADER_BYTES: u32 = 14;
/// Bytes of a record.
const RECORD_BYTES: u32 = size_of::<MoveRecord>() as u32;
/// What `steer_move` returns where there are too many records, or part of one.
const REFUSED: i32 = -1;
/// No [`MoveReason`].
const BY_STATE: u32 = 0;

/// Counts and logs through the global function.
#[inline(always)]
pub(crate) fn note(moved: &Moved<'_>) {
    let reason = moved.reason.map_or(BY_STATE, |reason| reason as u32);
    note_move(
        ptr::from_ref(moved.key),
        moved.from.into(),
        moved.to.into(),
        moved.group.into(),
        reason,
    );
}

#[unsafe(no_mangle)]
extern "C" fn note_move(key: *const FlowKey, from: u32, to: u32, group: u32, reason: u32) -> u32 {
    // SAFETY: the caller's `key` is its own, or null as far as the verifier knows.
    let (Some(key), Some(maps)) = (unsafe { key.as_ref() }, Maps::of(ptr::null_mut())) else {
        return 0;
    };
    let moved = Moved {
        key,
        from: from as TunnelId,
        to: to as TunnelId,
        group: group as GroupId,
        // The others are told by the state of the tunnel.
        reason: match reason {
            ROUTE_GONE => Some(MoveReason::RouteGone),
            FAR_END => Some(MoveReason::FarEnd),
            REBALANCED => Some(MoveReason::Rebalanced),
            _ => None,
        },
    };
    moves::note_move(&maps, &moved);
    0
}

const ROUTE_GONE: u32 = MoveReason::RouteGone as u32;
const FAR_END: u32 = MoveReason::FarEnd as u32;
const REBALANCED: u32 = MoveReason::Rebalanced as u32;

/// Writes a move into this CPU's ring. A reader takes one without a number for unfinished.
#[inline(always)]
pub(crate) fn log(moved: &Move) {
    let Some(counters) = COUNTERS.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: an aligned `u64` of a map element.
    let seq = unsafe { fetch_add(&raw mut (*counters).moves, 1) } + 1;
    let Some(slot) = MOVES.get_ptr_mut((seq % MOVES_MAX as u64) as u32) else {
        return;
    };
    // SAFETY: whoever else runs on this CPU has another number, and so another slot.
    unsafe {
        (&raw mut (*slot).seq).write_volatile(0);
        compiler_fence(Ordering::Release);
        (*slot).at_ns = moved.at_ns;
        (*slot).key = moved.key;
        (*slot).from = moved.from;
        (*slot).to = moved.to;
        (*slot).group = moved.group;
        (*slot).reason = moved.reason;
        compiler_fence(Ordering::Release);
        (&raw mut (*slot).seq).write_volatile(seq);
    }
}

/// Never attached: userspace runs it on a packet of [`MoveRecord`]s behind a MAC header. Returns how
/// many flows it moved.
#[classifier]
pub(crate) fn steer_move(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the kernel hands a valid context to the program.
    let len = unsafe { (*skb).len };
    let bytes = len.wrapping_sub(HEADER_BYTES);
    if bytes > RECORD_BYTES * MOVE_RECORDS_MAX as u32 || bytes % RECORD_BYTES != 0 {
        return REFUSED;
    }
    let (mut at, mut moved) = (0, 0);
    // The test stands at the end: kernels before 6.7 take a loop only if it is closed by a jump.
    loop {
        if at == MOVE_RECORDS_MAX as u32 {
            break;
        }
        moved += move_flow(skb, at);
        at += 1;
        if at * RECORD_BYTES >= bytes {
            break;
        }
    }
    moved.cast_signed()
}

/// Moves the flow of one record; 1 if it did.
#[unsafe(no_mangle)]
extern "C" fn move_flow(skb: *mut __sk_buff, at: u32) -> u32 {
    let Some(maps) = Maps::of(skb) else {
        return 0;
    };
    if at >= MOVE_RECORDS_MAX as u32 {
        return 0;
    }
    let offset = (HEADER_BYTES + at * RECORD_BYTES) as usize;
    match Skb::new(skb).load::<MoveRecord>(offset) {
        Some(record) => moves::rebalance(&maps, &record).into(),
        None => 0,
    }
}
