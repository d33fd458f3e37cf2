//! What this machine is and may do: kernel release, capabilities, memory.
//! The parsers are pure; the functions without an argument read `/proc`.

use std::fmt;
use std::fs;
use std::io;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The oldest kernel that steer runs on.
pub const KERNEL_MIN: KernelVersion = KernelVersion {
    major: 5,
    minor: 15,
};

/// Kernel version, as far as features depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// 6 of 6.18.
    pub major: u32,
    /// 18 of 6.18.
    pub minor: u32,
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The kernel's release string, as `uname -r` prints it.
pub fn kernel_release() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/osrelease")?
        .trim()
        .to_owned())
}

/// Inode of this thread's network namespace.
pub fn netns_inode() -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(fs::metadata("/proc/thread-self/ns/net")?.ino())
}

/// Nanoseconds of a time, as the maps have them.
pub fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Now, on the clock of the packet path and of all times in the maps.
pub fn now_ns() -> u64 {
    // It is there on every Linux.
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC);
    now.map_or(0, |now| nanos(now.into()))
}

/// A number that nobody can guess.
pub fn random_number() -> io::Result<u64> {
    use std::io::Read as _;
    let mut bytes = [0; 8];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Whether a network namespace is in use, or has a name.
pub fn has_netns(inode: u64) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let is_it = |path: std::path::PathBuf| fs::metadata(path).is_ok_and(|data| data.ino() == inode);
    let entries = |dir: &str| fs::read_dir(dir).into_iter().flatten().flatten();
    entries("/run/netns").any(|entry| is_it(entry.path()))
        || entries("/proc").any(|entry| is_it(entry.path().join("ns/net")))
}

/// The version in a release string such as `6.1.0-28-amd64`.
pub fn parse_kernel_release(release: &str) -> Option<KernelVersion> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next()?.parse().ok()?;
    Some(KernelVersion { major, minor })
}

/// A capability that steer needs (`linux/capability.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Attach programs, speak netlink.
    NetAdmin,
    /// Raw sockets, for probes.
    NetRaw,
    /// Everything that has no capability of its own: mounts, namespaces; includes `Bpf` and `Perfmon`.
    SysAdmin,
    /// Have programs verified that compare pointers, as most do.
    Perfmon,
    /// Load programs and make maps.
    Bpf,
}

impl Capability {
    const fn bit(self) -> u32 {
        match self {
            Self::NetAdmin => 12,
            Self::NetRaw => 13,
            Self::SysAdmin => 21,
            Self::Perfmon => 38,
            Self::Bpf => 39,
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::NetRaw => "CAP_NET_RAW",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
        })
    }
}

/// A set of effective capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities(u64);

impl Capabilities {
    /// Those of this process.
    pub fn effective() -> io::Result<Self> {
        Self::parse(&fs::read_to_string("/proc/self/status")?)
            .ok_or_else(|| io::Error::other("/proc/self/status has no CapEff line"))
    }

    /// Those in the text of a `/proc/PID/status`.
    pub fn parse(status: &str) -> Option<Self> {
        let text = status
            .lines()
            .find_map(|line| line.strip_prefix("CapEff:"))?;
        u64::from_str_radix(text.trim(), 16).ok().map(Self)
    }

    /// Whether it holds this one, or one that includes it.
    pub fn has(self, capability: Capability) -> bool {
        let bit = |capability: Capability| self.0 & (1 << capability.bit()) != 0;
        // The kernel lets CAP_SYS_ADMIN stand for these (`bpf_capable`, `perfmon_capable`).
        let is_part = matches!(capability, Capability::Bpf | Capability::Perfmon);
        bit(capability) || (is_part && bit(Capability::SysAdmin))
    }

    /// Those of `needed` that are missing.
    pub fn missing(self, needed: &[Capability]) -> Vec<Capability> {
        needed
            .iter()
            .copied()
            .filter(|capability| !self.has(*capability))
            .collect()
    }
}

/// Bytes of memory of this machine.
pub fn memory_bytes() -> io::Result<u64> {
    parse_memory(&fs::read_to_string("/proc/meminfo")?)
        .ok_or_else(|| io::Error::other("/proc/meminfo has no MemTotal line"))
}

/// Bytes of memory in the text of a `/proc/meminfo`.
pub fn parse_memory(meminfo: &str) -> Option<u64> {
    let text = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = text.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        let version = |major, minor| Some(KernelVersion { major, minor });
        assert_eq!(parse_kernel_release("6.18.5"), version(6, 18));
        assert_eq!(parse_kernel_release("5.15.0-91-generic"), version(5, 15));
        assert_eq!(parse_kernel_release("6.6-rc1"), version(6, 6));
        assert_eq!(parse_kernel_release("linux"), None);
        assert!(parse_kernel_release("5.10.0") < Some(KERNEL_MIN));
        assert!(parse_kernel_release("5.15.0") >= Some(KERNEL_MIN));
    }

    #[test]
    fn capabilities() {
        let parse = |text: &str| Capabilities::parse(text).expect("a CapEff line");
        let root = parse("Name:\tsteerctl\nCapEff:\t000001ffffffffff\n");
        assert!(
            root.missing(&[Capability::Bpf, Capability::NetAdmin])
                .is_empty()
        );
        let user = parse("CapEff:\t0000000000000000\n");
        assert_eq!(user.missing(&[Capability::Bpf]), [Capability::Bpf]);
        let old = parse("CapEff:\t0000000000200000\n");
        assert!(old.has(Capability::Bpf) && !old.has(Capability::NetAdmin));
    }

    #[test]
    fn memory() {
        assert_eq!(
            parse_memory("MemTotal:        8048304 kB\nMemFree: 1 kB\n"),
            Some(8_048_304 * 1024)
        );
        assert_eq!(parse_memory("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn this_machine() {
        let release = kernel_release().expect("a release");
        assert!(parse_kernel_release(&release).is_some());
        assert!(memory_bytes().expect("memory") > 0);
        Capabilities::effective().expect("capabilities");
        assert!(has_netns(netns_inode().expect("a namespace")));
        assert!(!has_netns(1));
    }
}
