//! Looking at what the kernel has and takes, without leaving anything.

use aya::{
    EbpfLoader,
    programs::{ProgramInfo, SchedClassifier, loaded_programs},
};
use steer_common::abi::{HookKind, HookMode, maps};

use super::{
    error::DatapathError,
    load,
    object::OBJECT,
    programs::{direction, is_steer_name, needed},
};

/// A program of a device's TCX.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcxProgram {
    /// The kernel's number of it.
    pub id: u32,
    /// Its name, which may be empty, and is cut after 15 bytes.
    pub name: String,
}

impl TcxProgram {
    /// Whether it has a name of steer's programs.
    pub fn is_steer(&self) -> bool {
        is_steer_name(&self.name)
    }
}

/// Has the kernel check the programs of a mode, on maps of their own; whether it made machine code
/// of them. Nothing is pinned or attached.
pub fn try_programs(mode: HookMode) -> Result<bool, DatapathError> {
    let mut loader = EbpfLoader::new();
    // Memory is not what is tried.
    for name in [maps::FLOWS, maps::FRAGMENTS, maps::BUCKET_TABLES] {
        loader.map_max_entries(name, 1);
    }
    let mut ebpf = loader.load(OBJECT)?;
    let mut is_jitted = true;
    for name in needed(mode) {
        load::load_once(&mut ebpf, name)?;
        let info = load::program(&mut ebpf, name)?.info();
        let info = info.map_err(|source| DatapathError::Program {
            program: name,
            source,
        })?;
        is_jitted &= info.size_jitted() > 0;
    }
    Ok(is_jitted)
}

/// Whether these programs, as far as they are loaded, run as machine code; `None` when none is.
pub fn are_jitted(ids: &[u32]) -> Option<bool> {
    let loaded = loaded_programs().filter_map(Result::ok);
    let ours = loaded.filter(|program| ids.contains(&program.id()));
    ours.map(|program| program.size_jitted() > 0)
        .reduce(|all, one| all && one)
}

/// The name of a loaded program; it may be empty.
pub fn program_name(id: u32) -> Option<String> {
    let mut loaded = loaded_programs().filter_map(Result::ok);
    let found = loaded.find(|program| program.id() == id)?;
    Some(found.name_as_str()?.to_owned())
}

/// The programs at a hook's place, in the order in which they see packets; `None` where the kernel
/// has no TCX, or the device is gone.
pub fn tcx_programs(device: &str, kind: HookKind) -> Option<Vec<TcxProgram>> {
    let (_, found) = SchedClassifier::query_tcx(device, direction(kind)).ok()?;
    let program = |info: &ProgramInfo| TcxProgram {
        id: info.id(),
        name: info.name_as_str().unwrap_or_default().to_owned(),
    };
    Some(found.iter().map(program).collect())
}

/// Whether devices have TCX.
pub fn has_tcx(device: &str) -> bool {
    tcx_programs(device, HookKind::Ingress).is_some()
}
