//! Looking at what the kernel has and takes, without leaving anything.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use aya::{EbpfLoader, programs::SchedClassifier};
use steer_common::abi::{HookKind, HookMode, maps};

use super::{
    error::DatapathError,
    object::OBJECT,
    programs::{self, direction},
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
        programs::is_steer_name(&self.name)
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
    for name in programs::needed(mode) {
        programs::load_once(&mut ebpf, name)?;
        let program = programs::find(&mut ebpf, name)?;
        let failed = |source| DatapathError::Program {
            program: name,
            source,
        };
        let fd = program.fd().map_err(failed)?;
        let size_bytes = jitted_bytes(fd.as_fd())
            .map_err(|error| failed(aya::programs::ProgramError::IOError(error)))?;
        is_jitted &= size_bytes > 0;
    }
    Ok(is_jitted)
}

/// The programs at a hook's place, in the order in which they see packets; `None` where the kernel
/// has no TCX, or the device is gone.
pub fn tcx_programs(device: &str, kind: HookKind) -> Option<Vec<TcxProgram>> {
    let (_, found) = SchedClassifier::query_tcx(device, direction(kind)).ok()?;
    let program = |info: &aya::programs::ProgramInfo| TcxProgram {
        id: info.id(),
        name: info.name_as_str().unwrap_or_default().to_owned(),
    };
    Some(found.iter().map(program).collect())
}

/// Size of a program's machine code; 0 for one that is interpreted.
fn jitted_bytes(program: BorrowedFd<'_>) -> io::Result<u32> {
    /// `BPF_OBJ_GET_INFO_BY_FD` of `linux/bpf.h`.
    const GET_INFO: libc::c_int = 15;
    /// The beginning of `struct bpf_prog_info`; the kernel fills in as much as there is.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        kind: u32,
        id: u32,
        tag: [u8; 8],
        jited_prog_len: u32,
        xlated_prog_len: u32,
    }
    /// The members of `union bpf_attr`.
    #[repr(C)]
    struct Attributes {
        fd: u32,
        length: u32,
        info: u64,
    }
    let mut info = Info::default();
    let attributes = Attributes {
        fd: u32::try_from(program.as_raw_fd()).map_err(io::Error::other)?,
        length: u32::try_from(size_of::<Info>()).map_err(io::Error::other)?,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    // SAFETY: the kernel writes at most `length` bytes to `info`, which has as many, during the call.
    let status = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            GET_INFO,
            std::ptr::from_ref(&attributes),
            size_of::<Attributes>(),
        )
    };
    if status < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(info.jited_prog_len)
}
