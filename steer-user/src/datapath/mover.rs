//! Moving flows to other tunnels. The program does it, so that entry, counters and log agree with what
//! packets do at the same time; userspace never writes an entry.

use aya::{
    Ebpf, TestRunOptions,
    programs::{SchedClassifier, TestRun as _},
};
use steer_common::abi::{MOVE_RECORDS_MAX, MoveRecord, programs};

use super::{
    error::DatapathError,
    load,
    maps::{check_abi, check_shapes},
    pins::PinDir,
};

type Result<T> = std::result::Result<T, DatapathError>;

/// What stands before the records: a test run wants a MAC header, and one that announces no protocol.
const HEADER_BYTES: usize = 14;

/// The program that moves flows, loaded.
pub struct Mover {
    object: Ebpf,
}

impl Mover {
    /// Loads the program on the maps that are pinned. The caller holds the write lock: where they are
    /// being removed, new ones would be made.
    pub fn load(pins: &PinDir) -> Result<Self> {
        if !pins.holds_maps() {
            return Err(DatapathError::NotRunning {
                dir: pins.path().to_owned(),
            });
        }
        check_abi(pins)?;
        check_shapes(pins)?;
        // The flow table is there, so this is nobody's size.
        let mut object = load::object(pins, 1)?;
        load::load_once(&mut object, programs::MOVE)?;
        Ok(Self { object })
    }

    /// Moves flows, as far as each is still where it was, was placed by this gateway, and its new tunnel
    /// takes flows of its group. How many those were.
    pub fn move_flows(&mut self, records: &[MoveRecord]) -> Result<u32> {
        let program = load::program(&mut self.object, programs::MOVE)?;
        let mut moved = 0;
        for batch in records.chunks(MOVE_RECORDS_MAX) {
            moved += run(program, batch)?;
        }
        Ok(moved)
    }
}

fn run(program: &SchedClassifier, batch: &[MoveRecord]) -> Result<u32> {
    let mut packet = vec![0; HEADER_BYTES];
    packet.extend_from_slice(bytemuck::cast_slice(batch));
    let options = TestRunOptions {
        data_in: Some(&packet),
        ..TestRunOptions::default()
    };
    let result = program
        .test_run(options)
        .map_err(|source| DatapathError::Run {
            program: programs::MOVE,
            source,
        })?;
    Ok(result.return_value)
}
