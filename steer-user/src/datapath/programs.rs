//! Attaching programs and detaching them: all TC code is here.

use std::path::PathBuf;

use aya::{
    Ebpf,
    programs::{
        LinkOrder, ProgramError, ProgramInfo, SchedClassifier, TcAttachType,
        links::{FdLink, LinkError, PinnedLink},
        loaded_programs,
        tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle},
    },
};
use nix::errno::Errno;
use steer_common::abi::{AttachKind, Hook, HookKey, HookKind, HookMode, HookOrder, programs};

use super::{error::DatapathError, link, load, pins::PinDir};

type Result<T> = std::result::Result<T, DatapathError>;

/// Priority of our filters on clsact, behind hand-made ones.
const FILTER_PRIORITY_LAST: u16 = 0x5723;
/// Priority of our filters on clsact that are to be before all others.
const FILTER_PRIORITY_FIRST: u16 = 1;
/// Handle of our filters within that priority, plus the number of the [`HookKind`].
const FILTER_HANDLE: u32 = 0x5723_0000;

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

/// A device to attach to, and what.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Where on the device.
    pub kind: HookKind,
    /// Its name.
    pub name: &'a str,
    /// Its number.
    pub ifindex: u32,
    /// Whether its packets have no MAC header.
    pub layer3: bool,
    /// Whether it has a clsact qdisc now.
    pub has_clsact: bool,
    /// Where among the programs of the device.
    pub order: HookOrder,
}

/// The programs that a mode needs in any case. Those for LAN devices without a MAC header, which are
/// rare, are loaded when they are.
pub(super) fn needed(mode: HookMode) -> &'static [&'static str] {
    match mode {
        HookMode::Unset => &[],
        HookMode::Ingress => &[programs::INGRESS, programs::RETURN, programs::EGRESS],
        HookMode::Egress => &[programs::LEARN, programs::EGRESS],
        HookMode::Mark => &[programs::MARK, programs::LEARN, programs::OWN],
    }
}

/// The name of the program for a place.
fn name_of(mode: HookMode, kind: HookKind, layer3: bool) -> &'static str {
    match (kind, layer3) {
        (HookKind::Ingress, false) => programs::INGRESS,
        (HookKind::Ingress, true) => programs::INGRESS_L3,
        (HookKind::Mark, false) => programs::MARK,
        (HookKind::Mark, true) => programs::MARK_L3,
        (HookKind::Learn, _) if mode == HookMode::Ingress => programs::RETURN,
        (HookKind::Learn, _) => programs::LEARN,
        (HookKind::Egress, _) => programs::EGRESS,
        (HookKind::Own, _) => programs::OWN,
    }
}

/// Which way packets pass a hook.
pub(super) fn direction(kind: HookKind) -> TcAttachType {
    match kind {
        HookKind::Ingress | HookKind::Mark | HookKind::Learn => TcAttachType::Ingress,
        HookKind::Egress | HookKind::Own => TcAttachType::Egress,
    }
}

/// The place of steer's that a filter on a clsact qdisc has, if it is at one.
pub fn place_of_filter(ingress: bool, priority: u16, handle: u32) -> Option<(HookKind, HookOrder)> {
    let mut places = HookKind::ALL
        .into_iter()
        .flat_map(|kind| HookOrder::ALL.map(|order| (kind, order)));
    places.find(|(kind, order)| {
        ingress == (direction(*kind) == TcAttachType::Ingress)
            && priority == self::priority(*order)
            && handle == FILTER_HANDLE + *kind as u32
    })
}

/// Whether a filter on a clsact qdisc is at the place of a hook of steer's.
pub fn is_filter(kind: HookKind, ingress: bool, priority: u16, handle: u32) -> bool {
    place_of_filter(ingress, priority, handle).is_some_and(|(found, _)| found == kind)
}

/// The loaded programs.
pub struct Programs {
    ebpf: Ebpf,
    mode: HookMode,
}

impl Programs {
    /// Loads the object and what a mode needs of it; maps that are pinned are used, the others are
    /// made and pinned.
    pub fn load(pins: &PinDir, max_flows: u32, mode: HookMode) -> Result<Self> {
        let mut ebpf = load::object(pins, max_flows)?;
        for name in needed(mode) {
            load::load_once(&mut ebpf, name)?;
        }
        Ok(Self { ebpf, mode })
    }

    /// The mode that they are for.
    pub fn mode(&self) -> HookMode {
        self.mode
    }

    /// The object, for the logger of debug builds.
    pub fn ebpf(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// Attaches a program, in place of ours that is there.
    ///
    /// `before` is what the hook map knows. The returned hook is what it should know.
    pub fn attach(
        &mut self,
        pins: &PinDir,
        target: Target<'_>,
        mode: AttachMode,
        before: Option<&Hook>,
    ) -> Result<AttachKind> {
        let pin = pins.link(target.kind, target.ifindex);
        let next = pins.next_link(target.kind, target.ifindex);
        // Of a start that was killed.
        detach_pinned(&next)?;
        let name = name_of(self.mode, target.kind, target.layer3);
        load::load_once(&mut self.ebpf, name)?;
        let program = load::program(&mut self.ebpf, name)?;
        let before = before.filter(|before| before.order == target.order);
        if before.is_some() && replace_linked(program, target, &pin)? {
            return Ok(AttachKind::Tcx);
        }
        if let Some(before) = before
            && before.attach != AttachKind::Tcx
            && let Ok(link) = clsact_link(target.kind, target.name, target.order)
            && let Ok(id) = program.attach_to_link(link)
        {
            leave_attached(program.take_link(id));
            return Ok(before.attach);
        }
        if mode != AttachMode::Clsact {
            match attach_tcx(program, target, &pin, &next) {
                Err(DatapathError::Attach { source, .. })
                    if mode == AttachMode::Auto && is_unsupported(&source) =>
                {
                    log::debug!("device {}: no TCX ({source}), using clsact", target.name);
                }
                done => return done.map(|()| AttachKind::Tcx),
            }
        }
        attach_to_clsact(program, target)
    }

    /// The kernel's ids of the loaded programs.
    pub fn ids(&mut self) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        for name in programs::ALL {
            if load::program(&mut self.ebpf, name)?.fd().is_ok() {
                ids.push(self.id(name)?);
            }
        }
        Ok(ids)
    }

    /// The kernel's id of the program for a place.
    pub fn id_at(&mut self, kind: HookKind, layer3: bool) -> Result<u32> {
        self.id(name_of(self.mode, kind, layer3))
    }

    fn id(&mut self, program: &'static str) -> Result<u32> {
        let info = load::program(&mut self.ebpf, program)?.info();
        Ok(info
            .map_err(|source| DatapathError::Program { program, source })?
            .id())
    }
}

/// Puts a program in the place of the one behind a pinned link; false if there is no working link.
fn replace_linked(
    program: &mut SchedClassifier,
    target: Target<'_>,
    pin: &std::path::Path,
) -> Result<bool> {
    let Ok(link) = PinnedLink::from_pin(pin) else {
        return Ok(false);
    };
    let device = || target.name.to_owned();
    let link = SchedClassifierLink::try_from(FdLink::from(link)).map_err(|source| {
        DatapathError::Link {
            device: device(),
            source,
        }
    })?;
    match program.attach_to_link(link) {
        Ok(id) => {
            // The pin holds the link, the descriptor is not needed.
            drop(program.take_link(id));
            Ok(true)
        }
        // Defunct: its device was deleted.
        Err(ProgramError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(Errno::ENOLINK as i32) =>
        {
            remove_pin(pin)?;
            Ok(false)
        }
        Err(source) => Err(DatapathError::Attach {
            device: device(),
            source,
        }),
    }
}

/// Attaches by a new link and pins it. One that is at another place among the programs goes only when its
/// successor is there: whenever this process is killed, one of them is pinned.
fn attach_tcx(
    program: &mut SchedClassifier,
    target: Target<'_>,
    pin: &std::path::Path,
    next: &std::path::Path,
) -> Result<()> {
    let former = link::open(pin).map_err(io_error(pin))?;
    let device = || target.name.to_owned();
    let order = match target.order {
        HookOrder::First => LinkOrder::first(),
        HookOrder::Last => LinkOrder::last(),
    };
    let attach_error = |source| DatapathError::Attach {
        device: device(),
        source,
    };
    let id = program
        .attach_with_options(
            target.name,
            direction(target.kind),
            TcAttachOptions::TcxOrder(order),
        )
        .map_err(attach_error)?;
    let link = program.take_link(id).map_err(attach_error)?;
    let link: FdLink = link.try_into().map_err(|source| DatapathError::Link {
        device: device(),
        source,
    })?;
    link.pin(next).map_err(|error| DatapathError::Link {
        device: device(),
        source: LinkError::SyscallError(match error {
            aya::pin::PinError::SyscallError(error) => error,
            other => aya::sys::SyscallError {
                call: "BPF_OBJ_PIN",
                io_error: std::io::Error::other(other.to_string()),
            },
        }),
    })?;
    if let Err(error) = std::fs::rename(next, pin) {
        detach_pinned(next)?;
        return Err(io_error(pin)(error));
    }
    if let Some(Err(error)) = former.as_ref().map(link::detach) {
        log::debug!("{}: {error}; the kernel does it later", pin.display());
    }
    Ok(())
}

fn io_error(path: &std::path::Path) -> impl Fn(std::io::Error) -> DatapathError {
    |source| DatapathError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Detaches what is behind a pin, if there is one, and removes the pin.
fn detach_pinned(pin: &std::path::Path) -> Result<()> {
    if let Ok(Some(link)) = link::open(pin)
        && let Err(error) = link::detach(&link)
    {
        log::debug!("{}: {error}; removing the pin does it, too", pin.display());
    }
    remove_pin(pin)
}

/// Removes a pin, if it is there.
fn remove_pin(pin: &std::path::Path) -> Result<()> {
    match std::fs::remove_file(pin) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(io_error(pin)(source)),
        _ => Ok(()),
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
        priority: priority(target.order),
        handle: filter_handle(target.kind),
        classid: None,
    });
    let id = program
        .attach_with_options(target.name, direction(target.kind), options)
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
pub fn detach(pins: &PinDir, key: HookKey, device: &str, hook: &Hook) -> Result<()> {
    if hook.attach == AttachKind::Tcx {
        return detach_pinned(&pins.link(key.kind, key.ifindex));
    }
    detach_filter(device, key.kind, hook.order)
}

/// Removes a filter of ours, if it is there.
pub fn detach_filter(device: &str, kind: HookKind, order: HookOrder) -> Result<()> {
    use aya::programs::Link as _;
    let Ok(link) = clsact_link(kind, device, order) else {
        return Ok(());
    };
    match link.detach() {
        Err(ProgramError::NetlinkError(error)) if error.raw_os_error().is_some_and(is_absent) => {
            Ok(())
        }
        done => done.map_err(|source| DatapathError::Attach {
            device: device.to_owned(),
            source,
        }),
    }
}

/// Refuses a device on which another steer works: a program of our name that is not among `ours`.
pub fn refuse_other_instance(device: &str, kind: HookKind, ours: &[u32]) -> Result<()> {
    let Ok((_, attached)) = SchedClassifier::query_tcx(device, direction(kind)) else {
        // Without TCX, or CAP_SYS_ADMIN, there is nothing to ask.
        return Ok(());
    };
    let is_other = |info: &&ProgramInfo| {
        info.name_as_str().is_some_and(is_steer_name) && !ours.contains(&info.id())
    };
    match attached.iter().find(is_other) {
        Some(info) => Err(DatapathError::OtherInstance {
            device: device.to_owned(),
            program_id: info.id(),
        }),
        None => Ok(()),
    }
}

/// Whether a program's name, which the kernel cuts after 15 bytes, is that of one of steer's.
pub(super) fn is_steer_name(name: &str) -> bool {
    // Others may have none.
    !name.is_empty() && programs::ALL.iter().any(|full| full.starts_with(name))
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

/// The ids of steer's programs that work with a map that is pinned here: those in filters, too.
///
/// Listing programs needs `CAP_SYS_ADMIN` (`bpf_obj_get_next_id`, `kernel/bpf/syscall.c`).
pub fn programs_of_maps(pins: &PinDir) -> Result<Vec<u32>> {
    let maps = pins.map_ids();
    let mut found = Vec::new();
    for program in loaded_programs() {
        let program = match program {
            // Unloaded meanwhile.
            Err(error) if is_not_found(&error) => continue,
            program => program.map_err(DatapathError::Programs)?,
        };
        let used = program.map_ids().map_err(DatapathError::Programs)?;
        let is_user = used
            .unwrap_or_default()
            .iter()
            .any(|map| maps.contains(map));
        if is_user && program.name_as_str().is_some_and(is_steer_name) {
            found.push(program.id());
        }
    }
    Ok(found)
}

fn is_not_found(error: &ProgramError) -> bool {
    matches!(error, ProgramError::SyscallError(error) if error.io_error.kind() == std::io::ErrorKind::NotFound)
}

fn clsact_link(
    kind: HookKind,
    device: &str,
    order: HookOrder,
) -> std::io::Result<SchedClassifierLink> {
    SchedClassifierLink::attached(
        device,
        direction(kind),
        priority(order),
        filter_handle(kind),
        None,
    )
}

fn priority(order: HookOrder) -> u16 {
    match order {
        HookOrder::First => FILTER_PRIORITY_FIRST,
        HookOrder::Last => FILTER_PRIORITY_LAST,
    }
}

fn filter_handle(kind: HookKind) -> TcHandle {
    TcHandle::from(FILTER_HANDLE + kind as u32)
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
