//! Loading the programs and attaching them: all TC code is here.

use std::path::PathBuf;

use aya::{
    Ebpf, EbpfLoader,
    programs::{
        LinkOrder, ProgramError, SchedClassifier, TcAttachType,
        links::{FdLink, LinkError, PinnedLink},
        tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle},
    },
};
use nix::errno::Errno;
use steer_common::abi::{AttachKind, Hook, HookKey, HookKind, maps, programs};

use super::{error::DatapathError, object::OBJECT, pins::PinDir};

type Result<T> = std::result::Result<T, DatapathError>;

/// Priority of our filters on clsact, out of the way of hand-made ones.
pub const FILTER_PRIORITY: u16 = 0x5723;
/// Handle of our filters within that priority.
pub const FILTER_HANDLE: u32 = 0x5723;

/// Which way of attaching is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum AttachMode {
    /// TCX where the kernel has it, else clsact.
    #[default]
    Auto,
    /// TCX or an error.
    Tcx,
    /// clsact.
    Clsact,
}

/// A device to attach to.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its number.
    pub ifindex: u32,
    /// Whether it has a clsact qdisc now.
    pub has_clsact: bool,
}

/// The loaded programs.
pub struct Programs {
    ebpf: Ebpf,
}

impl Programs {
    /// Loads the object; maps that are pinned are used, the others are made and pinned.
    pub fn load(pins: &PinDir, max_flows: u32) -> Result<Self> {
        let mut loader = EbpfLoader::new();
        loader.map_max_entries(maps::FLOWS, max_flows);
        for name in maps::ALL {
            loader.map_pin_path(name, pins.map(name));
        }
        let ebpf = loader.load(OBJECT)?;
        let mut loaded = Self { ebpf };
        for kind in [HookKind::Ingress, HookKind::Learn] {
            let program = name_of(kind);
            loaded
                .program(kind)?
                .load()
                .map_err(|source| DatapathError::Program { program, source })?;
        }
        Ok(loaded)
    }

    /// The object, for the logger of debug builds.
    pub fn ebpf(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    fn program(&mut self, kind: HookKind) -> Result<&mut SchedClassifier> {
        let name = name_of(kind);
        let missing = || DatapathError::Program {
            program: name,
            source: ProgramError::IOError(std::io::ErrorKind::NotFound.into()),
        };
        let program = self.ebpf.program_mut(name).ok_or_else(missing)?;
        program.try_into().map_err(|source| DatapathError::Program {
            program: name,
            source,
        })
    }

    /// Attaches a program, in place of ours that is there.
    ///
    /// `before` is what the hook map knows. The returned hook is what it should know.
    pub fn attach(
        &mut self,
        pins: &PinDir,
        kind: HookKind,
        target: Target<'_>,
        mode: AttachMode,
        before: Option<&Hook>,
    ) -> Result<AttachKind> {
        let pin = pins.link(kind, target.ifindex);
        let device = || target.name.to_owned();
        let program = self.program(kind)?;

        if let Ok(link) = PinnedLink::from_pin(&pin) {
            let link = SchedClassifierLink::try_from(FdLink::from(link)).map_err(|source| {
                DatapathError::Link {
                    device: device(),
                    source,
                }
            })?;
            match program.attach_to_link(link) {
                Ok(id) => {
                    let link = program.take_link(id);
                    // The pin holds the link, the descriptor is not needed.
                    drop(link);
                    return Ok(AttachKind::Tcx);
                }
                // Defunct: its device was deleted.
                Err(ProgramError::SyscallError(error))
                    if error.io_error.raw_os_error() == Some(Errno::ENOLINK as i32) =>
                {
                    std::fs::remove_file(&pin).map_err(|source| DatapathError::Io {
                        path: pin.clone(),
                        source,
                    })?;
                }
                Err(source) => {
                    return Err(DatapathError::Attach {
                        device: device(),
                        source,
                    });
                }
            }
        }
        if let Some(before) = before
            && before.attach != AttachKind::Tcx
            && let Ok(link) = clsact_link(target.name)
            && let Ok(id) = program.attach_to_link(link)
        {
            leave_attached(program.take_link(id));
            return Ok(before.attach);
        }
        if mode != AttachMode::Clsact {
            let options = TcAttachOptions::TcxOrder(LinkOrder::default());
            match program.attach_with_options(target.name, TcAttachType::Ingress, options) {
                Ok(id) => {
                    let link = program
                        .take_link(id)
                        .map_err(|source| DatapathError::Attach {
                            device: device(),
                            source,
                        })?;
                    let link: FdLink = link.try_into().map_err(|source| DatapathError::Link {
                        device: device(),
                        source,
                    })?;
                    link.pin(&pin).map_err(|error| DatapathError::Link {
                        device: device(),
                        source: LinkError::SyscallError(match error {
                            aya::pin::PinError::SyscallError(error) => error,
                            other => aya::sys::SyscallError {
                                call: "BPF_OBJ_PIN",
                                io_error: std::io::Error::other(other.to_string()),
                            },
                        }),
                    })?;
                    return Ok(AttachKind::Tcx);
                }
                Err(error) if mode == AttachMode::Auto && is_unsupported(&error) => {
                    log::debug!("device {}: no TCX ({error}), using clsact", target.name);
                }
                Err(source) => {
                    return Err(DatapathError::Attach {
                        device: device(),
                        source,
                    });
                }
            }
        }
        attach_to_clsact(program, target)
    }

    /// The kernel's id of a program.
    pub fn id(&mut self, kind: HookKind) -> Result<u32> {
        let program = name_of(kind);
        let info = self.program(kind)?.info();
        Ok(info
            .map_err(|source| DatapathError::Program { program, source })?
            .id())
    }
}

fn attach_to_clsact(program: &mut SchedClassifier, target: Target<'_>) -> Result<AttachKind> {
    let device = || target.name.to_owned();
    if !target.has_clsact {
        tc::qdisc_add_clsact(target.name).map_err(|source| DatapathError::Qdisc {
            device: device(),
            source,
        })?;
    }
    let options = TcAttachOptions::Netlink(NlOptions {
        priority: FILTER_PRIORITY,
        handle: TcHandle::from(FILTER_HANDLE),
        classid: None,
    });
    let id = program
        .attach_with_options(target.name, TcAttachType::Ingress, options)
        .map_err(|source| match &source {
            ProgramError::TcError(TcError::NetlinkError(error))
                if error.raw_os_error() == Some(Errno::EEXIST as i32) =>
            {
                DatapathError::OtherInstance {
                    device: device(),
                    program_id: 0,
                }
            }
            _ => DatapathError::Attach {
                device: device(),
                source,
            },
        })?;
    leave_attached(program.take_link(id));
    Ok(if target.has_clsact {
        AttachKind::Clsact
    } else {
        AttachKind::ClsactOwned
    })
}

/// Detaches one hook. A device that is gone took its hook along.
pub fn detach(pins: &PinDir, key: HookKey, device: &str, attach: AttachKind) -> Result<()> {
    match attach {
        AttachKind::Tcx => {
            let pin = pins.link(key.kind, key.ifindex);
            match std::fs::remove_file(&pin) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(DatapathError::Io {
                        path: pin,
                        source: error,
                    })
                }
                _ => Ok(()),
            }
        }
        AttachKind::Clsact | AttachKind::ClsactOwned => {
            use aya::programs::Link as _;
            let Ok(link) = clsact_link(device) else {
                return Ok(());
            };
            match link.detach() {
                Ok(()) => Ok(()),
                Err(ProgramError::NetlinkError(error))
                    if error.raw_os_error().is_some_and(is_absent) =>
                {
                    Ok(())
                }
                Err(source) => Err(DatapathError::Attach {
                    device: device.to_owned(),
                    source,
                }),
            }
        }
    }
}

/// Refuses a device on which another steer works: a program of our name that is not among `ours`.
pub fn refuse_other_instance(device: &str, kind: HookKind, ours: &[u32]) -> Result<()> {
    let Ok((_, attached)) = SchedClassifier::query_tcx(device, TcAttachType::Ingress) else {
        // Without TCX there is nothing to ask; a filter of ours is found when attaching.
        return Ok(());
    };
    let is_other = |info: &&aya::programs::ProgramInfo| {
        name_of(kind).starts_with(info.name_as_str().unwrap_or("?")) && !ours.contains(&info.id())
    };
    match attached.iter().find(is_other) {
        Some(info) => Err(DatapathError::OtherInstance {
            device: device.to_owned(),
            program_id: info.id(),
        }),
        None => Ok(()),
    }
}

/// The id of the program behind a pinned link, or `None` where there is no working link.
pub fn linked_program(pins: &PinDir, key: HookKey) -> Option<u32> {
    let link = PinnedLink::from_pin(pins.link(key.kind, key.ifindex)).ok()?;
    Some(FdLink::from(link).info().ok()?.program_id())
}

/// The ids of the programs behind all pinned links, known to the maps or not.
pub fn pinned_programs(pins: &PinDir) -> Vec<u32> {
    let program = |path: &PathBuf| {
        let link = PinnedLink::from_pin(path).ok()?;
        Some(FdLink::from(link).info().ok()?.program_id())
    };
    pins.links().iter().filter_map(program).collect()
}

/// The name of a hook's program.
const fn name_of(kind: HookKind) -> &'static str {
    match kind {
        HookKind::Ingress => programs::INGRESS,
        HookKind::Learn => programs::LEARN,
    }
}

fn clsact_link(device: &str) -> std::io::Result<SchedClassifierLink> {
    SchedClassifierLink::attached(
        device,
        TcAttachType::Ingress,
        FILTER_PRIORITY,
        TcHandle::from(FILTER_HANDLE),
        None,
    )
}

/// A filter lives in the kernel on its own; dropping the link would remove it.
fn leave_attached(link: std::result::Result<SchedClassifierLink, ProgramError>) {
    std::mem::forget(link);
}

/// What kernels without TCX answer (before 6.6: `EINVAL` for the unknown attach type).
fn is_unsupported(error: &ProgramError) -> bool {
    let ProgramError::SyscallError(error) = error else {
        return false;
    };
    let errno = error.io_error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EINVAL | Errno::EOPNOTSUPP))
}

fn is_absent(errno: i32) -> bool {
    matches!(
        Errno::from_raw(errno),
        Errno::ENOENT | Errno::ENODEV | Errno::EINVAL
    )
}
