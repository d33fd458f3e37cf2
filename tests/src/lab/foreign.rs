//! A program of somebody else: it counts the packets that it sees, and lets them go on.
//!
//! Made of bare instructions and loaded by bare system calls, so that nothing of steer's, and
//! nothing of the library that steer uses, is in it.

use std::ffi::CString;
use std::io::{Error, Result as IoResult};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::libc;
use nix::net::if_::if_nametoindex;

use super::Host;
use super::attach::check_tcx;

const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;

/// Where on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// What it receives (`BPF_TCX_INGRESS`).
    Ingress = 46,
    /// What it sends (`BPF_TCX_EGRESS`).
    Egress = 47,
}

/// Among the programs that are there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Before all of them (`BPF_F_BEFORE`).
    First = 8,
    /// After all of them (`BPF_F_AFTER`).
    Last = 16,
}

/// The attached program; it goes with this value, if it is not in a filter.
#[derive(Debug)]
pub struct Foreign {
    counter: OwnedFd,
    _link: Option<OwnedFd>,
}

impl Foreign {
    /// Attaches a counting program to a device, by TCX.
    pub fn attach(host: &Host, device: &str, point: Point, place: Place) -> Result<Self> {
        let counter = create_map().context("a map of ours")?;
        let program = load_counting(&counter).context("a program of ours")?;
        let link = attach(host, device, &program, point, place)?;
        Ok(Self {
            counter,
            _link: Some(link),
        })
    }

    /// Puts a counting program into a filter of a device's `clsact` qdisc, as `tc` does. The
    /// filter stays for as long as the device does. `bpffs` is where the program can be pinned.
    pub fn filter(host: &Host, device: &str, priority: u16, bpffs: &Path) -> Result<Self> {
        let counter = create_map().context("a map of ours")?;
        let program = load_counting(&counter).context("a program of ours")?;
        let pin = bpffs.join("foreign");
        self::pin(&program, &pin).with_context(|| format!("{}", pin.display()))?;
        let tc = host.tc_batch(&[
            format!("qdisc add dev {device} clsact"),
            format!(
                "filter add dev {device} ingress prio {priority} bpf direct-action pinned {}",
                pin.display()
            ),
        ]);
        std::fs::remove_file(&pin)?;
        tc?;
        Ok(Self {
            counter,
            _link: None,
        })
    }

    /// Packets that it saw so far.
    pub fn count(&self) -> Result<u64> {
        #[repr(C)]
        struct Lookup {
            map: u32,
            _pad: u32,
            key: u64,
            value: u64,
            flags: u64,
        }
        let (key, mut value) = (0_u32, 0_u64);
        let lookup = Lookup {
            map: number(&self.counter),
            _pad: 0,
            key: (&raw const key).addr() as u64,
            value: (&raw mut value).expose_provenance() as u64,
            flags: 0,
        };
        bpf(BPF_MAP_LOOKUP_ELEM, &lookup).context("counter")?;
        // SAFETY: `value` is ours; the kernel wrote it behind the compiler's back.
        Ok(unsafe { (&raw const value).read_volatile() })
    }
}

/// An array of one u64.
fn create_map() -> IoResult<OwnedFd> {
    const KEY_BYTES: u32 = 4;
    const VALUE_BYTES: u32 = 8;
    descriptor(
        BPF_MAP_CREATE,
        &[BPF_MAP_TYPE_ARRAY, KEY_BYTES, VALUE_BYTES, 1],
    )
}

/// An instruction: operation, registers (source, destination), offset, constant.
pub(super) const fn op(code: u8, registers: u8, offset: i16, constant: i32) -> u64 {
    u64::from_le_bytes([
        code,
        registers,
        offset.to_le_bytes()[0],
        offset.to_le_bytes()[1],
        constant.to_le_bytes()[0],
        constant.to_le_bytes()[1],
        constant.to_le_bytes()[2],
        constant.to_le_bytes()[3],
    ])
}

/// `counter[0] += 1; return TCX_NEXT`
fn load_counting(counter: &OwnedFd) -> IoResult<OwnedFd> {
    load(&[
        // r2 = r10 - 4; *(u32 *)r2 = 0
        op(0xbf, 0xa2, 0, 0),
        op(0x07, 0x02, 0, -4),
        op(0x62, 0x02, 0, 0),
        // r1 = counter; r0 = bpf_map_lookup_elem(r1, r2)
        op(0x18, 0x11, 0, counter.as_raw_fd()),
        op(0, 0, 0, 0),
        op(0x85, 0, 0, 1),
        // if r0 != 0 { r1 = 1; lock *(u64 *)r0 += r1 }
        op(0x15, 0, 2, 0),
        op(0xb7, 0x01, 0, 1),
        op(0xdb, 0x10, 0, 0),
        // return -1
        op(0xb7, 0, 0, -1),
        op(0x95, 0, 0, 0),
    ])
}

/// Loads a program for TC.
pub(super) fn load(code: &[u64]) -> IoResult<OwnedFd> {
    #[repr(C)]
    struct Load {
        program_type: u32,
        instructions: u32,
        code: u64,
        licence: u64,
        log_level: u32,
        log_bytes: u32,
        log: u64,
    }
    let load = Load {
        program_type: BPF_PROG_TYPE_SCHED_CLS,
        instructions: u32::try_from(code.len()).expect("a few"),
        code: code.as_ptr().expose_provenance() as u64,
        licence: c"MIT".as_ptr().expose_provenance() as u64,
        log_level: 0,
        log_bytes: 0,
        log: 0,
    };
    descriptor(BPF_PROG_LOAD, &load)
}

/// Attaches a program to a device of `host`, by TCX.
pub(super) fn attach(
    host: &Host,
    device: &str,
    program: &OwnedFd,
    point: Point,
    place: Place,
) -> Result<OwnedFd> {
    check_tcx()?;
    // The device's number is looked up in the namespace of the caller.
    host.within(|| {
        let ifindex = if_nametoindex(device)?;
        link(program, ifindex, point, place)
            .with_context(|| format!("a program of ours on {device}"))
    })
}

fn link(program: &OwnedFd, ifindex: u32, point: Point, place: Place) -> IoResult<OwnedFd> {
    // The last three: no other program to be before or after, and any revision.
    let attributes = [
        number(program),
        ifindex,
        point as u32,
        place as u32,
        0,
        0,
        0,
        0,
    ];
    descriptor(BPF_LINK_CREATE, &attributes)
}

fn pin(program: &OwnedFd, path: &Path) -> Result<()> {
    #[repr(C)]
    struct Pin {
        path: u64,
        program: u32,
        flags: u32,
    }
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attributes = Pin {
        path: path.as_ptr().expose_provenance() as u64,
        program: number(program),
        flags: 0,
    };
    Ok(bpf(BPF_OBJ_PIN, &attributes).map(drop)?)
}

fn number(fd: &OwnedFd) -> u32 {
    u32::try_from(fd.as_raw_fd()).expect("descriptors are not negative")
}

fn descriptor<T>(command: libc::c_long, attributes: &T) -> IoResult<OwnedFd> {
    let fd = i32::try_from(bpf(command, attributes)?).map_err(Error::other)?;
    // SAFETY: the kernel just made this descriptor for us; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bpf<T>(command: libc::c_long, attributes: &T) -> IoResult<libc::c_long> {
    let bytes = size_of::<T>();
    // SAFETY: the attributes are laid out as the command wants them, and what they point to
    // outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, bytes) };
    if result < 0 {
        return Err(Error::last_os_error());
    }
    Ok(result)
}
