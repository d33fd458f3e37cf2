//! Loading the object and its programs.

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::MapError,
    pin::PinError,
    programs::{ProgramError, SchedClassifier},
};
use nix::errno::Errno;
use steer_common::abi::maps;

use super::{error::DatapathError, object::OBJECT, pins::PinDir};

type Result<T> = std::result::Result<T, DatapathError>;

/// How often a program is loaded until no signal interrupts the verifier, as libbpf does it.
const LOADS_MAX: u32 = 5;

/// Loads the object, without any program; maps that are pinned are used, the others are made and pinned.
pub(super) fn object(pins: &PinDir, max_flows: u32) -> Result<Ebpf> {
    let mut loader = EbpfLoader::new();
    loader.map_max_entries(maps::FLOWS, max_flows);
    for name in maps::ALL {
        loader.map_pin_path(name, pins.map(name));
    }
    loader.load(OBJECT).map_err(|error| match error {
        // aya's own words do not say why.
        EbpfError::MapError(MapError::PinError {
            name: Some(name),
            error: PinError::SyscallError(error),
        }) => DatapathError::Io {
            path: pins.map(&name),
            source: error.io_error,
        },
        error => error.into(),
    })
}

/// A program of the object.
pub(super) fn program<'o>(
    object: &'o mut Ebpf,
    name: &'static str,
) -> Result<&'o mut SchedClassifier> {
    let failed = |source| DatapathError::Program {
        program: name,
        source,
    };
    let missing = || failed(ProgramError::IOError(std::io::ErrorKind::NotFound.into()));
    let program = object.program_mut(name).ok_or_else(missing)?;
    program.try_into().map_err(failed)
}

/// Loads a program, if it is not loaded yet.
pub(super) fn load_once(object: &mut Ebpf, name: &'static str) -> Result<()> {
    let program = program(object, name)?;
    if program.fd().is_ok() {
        return Ok(());
    }
    let mut loaded = program.load();
    for _ in 1..LOADS_MAX {
        if !loaded.as_ref().is_err_and(was_interrupted) {
            break;
        }
        loaded = program.load();
    }
    loaded.map_err(|source| DatapathError::Program {
        program: name,
        source,
    })
}

/// A signal came while the verifier worked (`kernel/bpf/verifier.c`, `do_check`).
fn was_interrupted(error: &ProgramError) -> bool {
    let ProgramError::LoadError { io_error, .. } = error else {
        return false;
    };
    io_error.raw_os_error() == Some(Errno::EAGAIN as i32)
}
