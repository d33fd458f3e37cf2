//! The older iptables tables (iptables-legacy), by socket options.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::legacy_entries::{Info, Layout, chains};
use super::ruleset::Table;
use super::{ATTEMPTS, NetError, PacketFamily, malformed};

/// What differs between iptables and ip6tables.
struct Version {
    command: &'static str,
    packets: PacketFamily,
    /// The tables that this network namespace has. Asking for a table that is
    /// not among them would make it.
    names: &'static str,
    family: AddressFamily,
    level: libc::c_int,
    layout: Layout,
}

const VERSIONS: [Version; 2] = [
    Version {
        command: "iptables",
        packets: PacketFamily::Ipv4,
        names: "/proc/thread-self/net/ip_tables_names",
        family: AddressFamily::Inet,
        level: libc::IPPROTO_IP,
        layout: Layout::IPV4,
    },
    Version {
        command: "ip6tables",
        packets: PacketFamily::Ipv6,
        names: "/proc/thread-self/net/ip6_tables_names",
        family: AddressFamily::Inet6,
        level: libc::IPPROTO_IPV6,
        layout: Layout::IPV6,
    },
];

/// All tables of this network namespace.
pub(super) fn read() -> Result<Vec<Table>, NetError> {
    let mut tables = Vec::new();
    for version in &VERSIONS {
        let names = match fs::read_to_string(version.names) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            result => result.map_err(|cause| NetError::Request {
                what: version.names.into(),
                cause,
            })?,
        };
        for name in names.lines() {
            let table = version.table(name).map_err(|cause| NetError::Request {
                what: format!("{} table {name}", version.command),
                cause,
            })?;
            tables.extend(table);
        }
    }
    Ok(tables)
}

impl Version {
    /// The table of this name; `None` if it is gone by now.
    fn table(&self, name: &str) -> io::Result<Option<Table>> {
        // A datagram socket will do; a raw one would need another capability.
        let socket = socket(
            self.family,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        for _ in 0..ATTEMPTS {
            match self.read_table(&socket, name) {
                // It has another size than a moment ago.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                result => return result.map(Some),
            }
        }
        Err(io::Error::other("it changes faster than it can be read"))
    }

    fn read_table(&self, socket: &OwnedFd, name: &str) -> io::Result<Table> {
        /// `IPT_SO_GET_INFO` and `IP6T_SO_GET_INFO`.
        const GET_INFO: libc::c_int = 64;
        /// `IPT_SO_GET_ENTRIES` and `IP6T_SO_GET_ENTRIES`.
        const GET_ENTRIES: libc::c_int = 65;
        let mut info = request(name, Info::BYTES)?;
        self.ask(socket, GET_INFO, &mut info)?;
        let info = Info::parse(&info).ok_or_else(malformed)?;
        let mut entries = request(name, ENTRIES_OFFSET + info.entries_bytes)?;
        let size = u32::try_from(info.entries_bytes).map_err(|_| malformed())?;
        entries[NAME_BYTES..NAME_BYTES + 4].copy_from_slice(&size.to_ne_bytes());
        self.ask(socket, GET_ENTRIES, &mut entries)?;
        let chains = chains(&self.layout, &info, &entries[ENTRIES_OFFSET..]);
        Ok(Table {
            family: self.packets,
            place: format!("{} {name} ", self.command),
            chains: chains.ok_or_else(malformed)?,
        })
    }

    /// Asks for a socket option that is as long as `buffer`.
    fn ask(&self, socket: &OwnedFd, option: libc::c_int, buffer: &mut [u8]) -> io::Result<()> {
        let mut length = libc::socklen_t::try_from(buffer.len()).map_err(|_| malformed())?;
        // SAFETY: `buffer` is `length` bytes that may be written, and `length`
        // lives as long as the call.
        let status = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                self.level,
                option,
                buffer.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        if status == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

/// `XT_TABLE_MAXNAMELEN`: requests begin with the table's name.
const NAME_BYTES: usize = 32;
/// Where entries begin in `struct ipt_get_entries`: they are aligned like the
/// 64-bit counters in them.
const ENTRIES_OFFSET: usize = (NAME_BYTES + size_of::<u32>()).next_multiple_of(align_of::<u64>());

/// A request for the table of this name, with room for the answer.
fn request(name: &str, bytes: usize) -> io::Result<Vec<u8>> {
    let mut request = vec![0; bytes];
    request
        .get_mut(..name.len())
        .filter(|field| field.len() < NAME_BYTES)
        .ok_or_else(malformed)?
        .copy_from_slice(name.as_bytes());
    Ok(request)
}
