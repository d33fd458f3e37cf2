//! The rings of events and moves.

use std::collections::BTreeSet;

use steer_common::abi::{Counters, EVENTS_MAX, Event, MOVES_MAX, Move, maps};

use super::{Maps, Result};
use crate::datapath::records::decode;
use crate::sys::now_ns;

/// The first words of [`Event`] and [`Move`] are their numbers.
const _: () = {
    assert!(std::mem::offset_of!(Event, seq) == 0);
    assert!(std::mem::offset_of!(Move, seq) == 0);
};

/// How far a reader of the moves has come, on each CPU. A new one has read nothing.
#[derive(Clone, Debug, Default)]
pub struct MoveCursor {
    seen: Vec<u64>,
    /// Moves that were overwritten before they could be read.
    pub missed: u64,
}

impl Maps {
    /// Writes an event; its number and time are made here. The caller holds the write lock.
    pub fn push_event(&mut self, event: &Event) -> Result<()> {
        let seq = self.last_event()? + 1;
        let event = Event {
            seq,
            at_ns: now_ns(),
            ..*event
        };
        self.events.set(slot(seq, EVENTS_MAX), &event)
    }

    /// All events that are kept, the oldest first.
    pub fn events(&self) -> Result<Vec<Event>> {
        self.events_after(0)
    }

    /// The events after that number that are kept, the oldest first.
    pub fn events_after(&self, seq: u64) -> Result<Vec<Event>> {
        let last = self.last_event()?;
        let oldest = last.saturating_sub(EVENTS_MAX as u64 - 1);
        let mut found = Vec::new();
        for seq in oldest.max(seq + 1)..=last {
            let event = self.settled_event(seq)?;
            // Others may write meanwhile.
            if event.seq == seq {
                found.push(event);
            }
        }
        Ok(found)
    }

    /// The number of the latest event; 0 when there is none.
    ///
    /// From slot 1 on the numbers ascend by one up to the latest, and are of the lap before behind it.
    fn last_event(&self) -> Result<u64> {
        let first: Event = self.events.get(1)?;
        if first.seq == 0 {
            return Ok(0);
        }
        let (mut latest, mut beyond) = (first.seq, first.seq + EVENTS_MAX as u64);
        while latest + 1 < beyond {
            let middle = latest.midpoint(beyond);
            let event: Event = self.events.get(slot(middle, EVENTS_MAX))?;
            if event.seq == middle {
                latest = middle;
            } else {
                beyond = middle;
            }
        }
        Ok(latest)
    }

    /// An event of which nobody is writing a part.
    fn settled_event(&self, seq: u64) -> Result<Event> {
        let mut event = self.events.get(slot(seq, EVENTS_MAX))?;
        loop {
            let again = self.events.get(slot(seq, EVENTS_MAX))?;
            if event == again {
                return Ok(event);
            }
            event = again;
        }
    }

    /// All moves that are kept, of all CPUs, the oldest first.
    pub fn moves(&self) -> Result<Vec<Move>> {
        self.moves_after(&mut MoveCursor::default())
    }

    /// The moves since the cursor was here last, of all CPUs, the oldest first.
    pub fn moves_after(&self, cursor: &mut MoveCursor) -> Result<Vec<Move>> {
        let heads = self.move_heads()?;
        cursor.seen.resize(heads.len(), 0);
        let oldest = |head: u64| (head + 1).saturating_sub(MOVES_MAX as u64).max(1);
        let slots: BTreeSet<u32> = cursor
            .seen
            .iter()
            .zip(&heads)
            .flat_map(|(seen, head)| oldest(*head).max(seen + 1)..=*head)
            .map(|seq| slot(seq, MOVES_MAX))
            .collect();
        let mut copies: Vec<Vec<Move>> = vec![Vec::new(); heads.len()];
        for slot in slots {
            for (copies, bytes) in copies.iter_mut().zip(self.moves.each(slot)?) {
                // One that is being written has no number, and maybe no meaning.
                if bytes[..8] != [0; 8] {
                    copies.push(decode(maps::MOVES, &bytes)?);
                }
            }
        }
        let mut found = Vec::new();
        // What was written over while it was read is not to be trusted.
        let heads_now = self.move_heads()?;
        for (((seen, head), head_now), mut copies) in
            cursor.seen.iter_mut().zip(heads).zip(heads_now).zip(copies)
        {
            let first = *seen + 1;
            let trusted = oldest(head_now).max(first);
            cursor.missed += trusted - first;
            *seen = trusted - 1;
            copies.sort_unstable_by_key(|moved| moved.seq);
            for moved in copies {
                // One that is not finished, and what is behind it, is for the next time.
                if moved.seq == *seen + 1 && moved.seq <= head {
                    *seen = moved.seq;
                    found.push(moved);
                }
            }
        }
        found.sort_by_key(|moved| moved.at_ns);
        Ok(found)
    }

    /// The number of each CPU's latest move.
    fn move_heads(&self) -> Result<Vec<u64>> {
        let counters = self.counters.each(0)?;
        let head = |bytes: &[u8; _]| Ok(decode::<Counters>(maps::COUNTERS, bytes)?.moves);
        counters.iter().map(head).collect()
    }
}

/// Where in a ring something has its place.
fn slot(seq: u64, entries: usize) -> u32 {
    u32::try_from(seq % entries as u64).expect("rings are small")
}
