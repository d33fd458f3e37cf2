//! What can go wrong with programs and maps.

use std::{io, path::PathBuf};

use aya::{
    EbpfError,
    maps::MapError,
    programs::{ProgramError, links::LinkError},
};

/// Why something about the datapath was not done.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message is the documentation")]
pub enum DatapathError {
    #[error("{}: no bpf filesystem, and making one failed: {source}", dir.display())]
    NoBpffs { dir: PathBuf, source: io::Error },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: nothing of steer is pinned here", dir.display())]
    NotRunning { dir: PathBuf },
    #[error("{}: pinned by steer with map layout {found}, this is layout {wanted}", dir.display())]
    OtherAbi {
        dir: PathBuf,
        found: u32,
        wanted: u32,
    },
    #[error("{}: {what} is {found}, this steer needs {wanted}", path.display())]
    OtherMap {
        path: PathBuf,
        what: &'static str,
        found: String,
        wanted: String,
    },
    #[error("{}: the flow table has {found} entries, not {wanted}", dir.display())]
    OtherSize {
        dir: PathBuf,
        found: u32,
        wanted: u32,
    },
    #[error("{}: there is something else in it, which a bpf filesystem would hide", dir.display())]
    NotEmpty { dir: PathBuf },
    #[error("{}: steers in another network namespace", dir.display())]
    OtherNetns { dir: PathBuf },
    #[error("{}: the daemon does not step back", dir.display())]
    DaemonStays { dir: PathBuf, pid: Option<i32> },
    #[error("{}: {holder} holds the write lock", dir.display())]
    Locked { dir: PathBuf, holder: String },
    #[error("{}: pins of steer are missing, {map} for one: were they removed by hand?", dir.display())]
    PinsMissing { dir: PathBuf, map: &'static str },
    #[error("{}: another steerctl is moving flows", dir.display())]
    Moving { dir: PathBuf, pid: Option<i32> },
    #[error("device {device}: another steer instance is attached (program {program_id})")]
    OtherInstance { device: String, program_id: u32 },
    #[error("loaded programs cannot be listed: {0}")]
    Programs(ProgramError),
    #[error("device {device}: it has an {kind} qdisc where clsact would go")]
    OtherQdisc { device: String, kind: String },
    #[error("device {device}: attaching failed: {source}")]
    Attach {
        device: String,
        source: ProgramError,
    },
    #[error("device {device}: adding the clsact qdisc failed: {source}")]
    Qdisc {
        device: String,
        source: aya::programs::tc::TcError,
    },
    #[error("device {device}: {source}")]
    Link { device: String, source: LinkError },
    #[error("loading the eBPF object failed: {0}")]
    Object(#[from] EbpfError),
    #[error("loading program {program} failed: {source}")]
    Program {
        program: &'static str,
        source: ProgramError,
    },
    #[error("running program {program} failed: {source}")]
    Run {
        program: &'static str,
        source: ProgramError,
    },
    #[error("map {map}: {source}")]
    Map { map: &'static str, source: MapError },
    #[error("map {map}: an element makes no sense to this steer")]
    BadElement { map: &'static str },
    #[error("map {map}: {source}")]
    Batch {
        map: &'static str,
        source: io::Error,
    },
}

impl DatapathError {
    /// The likely cure.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoBpffs { .. } => {
                Some("mount one: mount -t bpf bpf /sys/fs/bpf, or name another --pin-dir".into())
            }
            Self::PinsMissing { dir, .. } => Some(format!(
                "start over (flows are placed anew): steerctl --pin-dir {} detach, then run",
                dir.display()
            )),
            Self::NotRunning { .. } => {
                Some("start it with steerctl run, or name its --pin-dir".into())
            }
            Self::OtherAbi { dir, .. } => Some(format!(
                "use the steerctl that made it, or start over (flows are placed anew): \
                 steerctl --pin-dir {} detach",
                dir.display()
            )),
            Self::OtherMap { .. } => {
                Some("not a map of this steer: remove it, or name another --pin-dir".into())
            }
            Self::OtherSize { dir, found, .. } => Some(format!(
                "leave out --max-flows or give {found}; to change it, first: \
                 steerctl --pin-dir {} detach",
                dir.display()
            )),
            Self::NotEmpty { .. } => Some("name an empty --pin-dir, or one on a bpffs".into()),
            Self::OtherNetns { .. } => {
                Some("name that one by --netns, or another --pin-dir for this one".into())
            }
            Self::DaemonStays { pid: Some(pid), .. } => Some(format!(
                "packets are steered all the same; if it hangs: kill -9 {pid}, then again"
            )),
            Self::Moving { pid: Some(pid), .. } => Some(format!(
                "wait until it is done, or stop it: kill -INT {pid}"
            )),
            Self::OtherInstance { .. } => {
                Some("use its --pin-dir, or detach it with its own steerctl".into())
            }
            Self::Programs(_) => Some("it needs CAP_SYS_ADMIN: try as root".into()),
            Self::OtherQdisc { device, .. } => Some(format!(
                "if nothing needs it: tc qdisc del dev {device} ingress"
            )),
            Self::Object(_) | Self::Program { .. } => {
                Some("steerctl -v shows more; please report the verifier's words".into())
            }
            _ => None,
        }
    }
}
