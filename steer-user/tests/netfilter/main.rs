//! `Netfilter::read` against the rules of a real kernel, in network
//! namespaces of their own. Needs root and `nft`; the cases of iptables need
//! `iptables-nft` and `iptables-legacy`.

mod iptables;
mod nftables;

use std::process::{Command, Stdio};

use steer_user::net::{
    DevicePattern, DeviceSet, FindingKind, Netfilter, PacketFamily, enter_netns,
};
use steer_user::sys::{Capabilities, Capability};

/// A network namespace that goes when the test ends. The test's thread is in
/// it, and with that the programs that it starts.
struct Netns(String);

impl Netns {
    /// A new one; `None`, with the reason printed, when this machine does not
    /// let us or lacks one of these programs.
    fn enter(test: &str, programs: &[&str]) -> Option<Self> {
        let missing = Capabilities::effective()
            .expect("/proc/self/status")
            .missing(&[Capability::NetAdmin, Capability::SysAdmin]);
        if !missing.is_empty() {
            println!("SKIP {test}: missing {}", missing[0]);
            return None;
        }
        if let Some(program) = programs
            .iter()
            .find(|program| !run(program, &["--version"]))
        {
            println!("SKIP {test}: no {program}");
            return None;
        }
        let name = format!("steer-netfilter-{}-{test}", std::process::id());
        if !run("ip", &["netns", "add", &name]) {
            println!("SKIP {test}: ip netns add does not work");
            return None;
        }
        enter_netns(&name).expect("enter");
        Some(Self(name))
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        run("ip", &["netns", "del", &self.0]);
    }
}

fn run(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

type Expected<'a> = (FindingKind, PacketFamily, &'a str);

/// What is found now, in the order of the tables and chains.
#[track_caller]
fn expect(expected: &[Expected]) {
    let netfilter = Netfilter::read().expect("rules");
    let found: Vec<Expected> = netfilter
        .findings
        .iter()
        .map(|finding| (finding.kind.clone(), finding.family, &*finding.place))
        .collect();
    assert_eq!(found, expected);
}

/// A set of devices in the notation of nft: names, or beginnings with `*`.
fn devices(patterns: &[&str]) -> DeviceSet {
    DeviceSet::Only(
        patterns
            .iter()
            .map(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => DevicePattern::Prefix(prefix.into()),
                None => DevicePattern::Name((*pattern).into()),
            })
            .collect(),
    )
}

fn source_nat(may_leave_by: DeviceSet) -> FindingKind {
    FindingKind::SourceNat { may_leave_by }
}

#[test]
fn no_permission() {
    let Some(_netns) = Netns::enter("no-permission", &[]) else {
        return;
    };
    let error = std::thread::spawn(|| {
        // SAFETY: takes numbers only; the bare system call changes this thread alone.
        let status = unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) };
        assert_eq!(status, 0);
        Netfilter::read().expect_err("no permission")
    })
    .join()
    .expect("no panic");
    assert_eq!(
        error.to_string(),
        "state of nf_tables: Operation not permitted (os error 1)"
    );
}
