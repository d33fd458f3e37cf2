//! Moves of flows: the log, and the program that userspace runs.

use anyhow::{Context as _, Result};
use aya::{TestRunOptions, maps::PerCpuArray, programs::TestRun as _};
use nix::sched::sched_getcpu;
use steer_common::{
    abi::{MOVES_MAX, Move, MoveRecord, maps, programs},
    moves,
};

use super::{
    compare::{Pair, same},
    kernel::{Kernel, checked},
};

type Raw = [u8; size_of::<Move>()];

impl Kernel {
    /// The latest moves that this CPU keeps, the oldest first.
    pub fn moves(&self) -> Result<Vec<Move>> {
        let last = self.counters()?.moves;
        let oldest = (last + 1).saturating_sub(MOVES_MAX as u64).max(1);
        (oldest..=last).map(|seq| self.logged(seq)).collect()
    }

    fn logged(&self, seq: u64) -> Result<Move> {
        let map = PerCpuArray::<_, Raw>::try_from(self.map(maps::MOVES)?)?;
        let copies = map.get(&slot(seq)?, 0)?;
        let cpu = sched_getcpu()?;
        let bytes = copies.get(cpu).with_context(|| format!("CPU {cpu}"))?;
        checked(bytes)
    }

    /// Runs the program on some bytes, and says what it returned.
    pub fn run_move(&self, packet: &[u8]) -> Result<u32> {
        let options = TestRunOptions {
            data_in: Some(packet),
            ..TestRunOptions::default()
        };
        let result = self.program(programs::MOVE)?.test_run(options)?;
        Ok(result.return_value)
    }
}

/// What the program takes.
pub fn packet_of(records: &[MoveRecord]) -> Vec<u8> {
    [&[0; 14], bytemuck::cast_slice(records)].concat()
}

/// Where a move has its place.
pub(super) fn slot(seq: u64) -> Result<u32> {
    Ok(u32::try_from(seq % MOVES_MAX as u64)?)
}

impl Pair {
    /// Has flows moved in both; how many were.
    pub fn rebalance(&mut self, records: &[MoveRecord]) -> Result<u32> {
        let in_kernel = self.kernel.run_move(&packet_of(records))?;
        self.catch_up()?;
        let moved = records
            .iter()
            .filter(|record| moves::rebalance(&self.host, record));
        let on_host = u32::try_from(moved.count())?;
        same("numbers of flows moved", &in_kernel, &on_host)?;
        Ok(on_host)
    }

    /// Compares the logs.
    pub fn compare_moves(&self) -> Result<()> {
        let (kernel, host) = (self.kernel.moves()?, self.host.moves());
        same("numbers of moves", &kernel.len(), &host.len())?;
        for (kernel, host) in kernel.iter().zip(&host) {
            let timeless = |moved: &Move| Move { at_ns: 0, ..*moved };
            same("moves", &timeless(kernel), &timeless(host))?;
            self.same_time("moved", kernel.at_ns, host.at_ns)?;
        }
        Ok(())
    }
}
