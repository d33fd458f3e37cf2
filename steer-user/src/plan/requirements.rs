//! What the machine must have before anything is touched. Pure.

use crate::sys::{self, Capabilities, Capability, KERNEL_MIN, KernelVersion};

/// Why steer cannot work here.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "the message is the documentation")]
pub enum RequirementError {
    #[error("kernel {release} is too old: steer needs {KERNEL_MIN} or newer")]
    OldKernel { release: String },
    #[error("not allowed: {} missing", join(missing))]
    Capabilities { missing: Vec<Capability> },
}

impl RequirementError {
    /// The likely cure.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::OldKernel { .. } => "boot a newer kernel",
            Self::Capabilities { .. } => "run it as root: sudo steerctl …",
        }
    }
}

fn join(missing: &[Capability]) -> String {
    missing
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" and ")
}

/// Checks the kernel's release.
pub fn check_kernel(release: &str) -> Result<(), RequirementError> {
    // A release that cannot be read is given the benefit of the doubt: the verifier has the last word.
    let is_old = |version: KernelVersion| version < KERNEL_MIN;
    if sys::parse_kernel_release(release).is_some_and(is_old) {
        return Err(RequirementError::OldKernel {
            release: release.to_owned(),
        });
    }
    Ok(())
}

/// Checks the capabilities of a process that reads and changes what is pinned.
pub fn check_capabilities(held: Capabilities) -> Result<(), RequirementError> {
    all_held(held, &[Capability::Bpf, Capability::NetAdmin])
}

/// Checks the capabilities of a process that loads the programs, and probes tunnels if it says so.
pub fn check_start(held: Capabilities, probes: bool) -> Result<(), RequirementError> {
    let mut needed = vec![Capability::Bpf, Capability::NetAdmin, Capability::Perfmon];
    if probes {
        needed.push(Capability::NetRaw);
    }
    all_held(held, &needed)
}

fn all_held(held: Capabilities, needed: &[Capability]) -> Result<(), RequirementError> {
    let missing = held.missing(needed);
    if missing.is_empty() {
        Ok(())
    } else {
        Err(RequirementError::Capabilities { missing })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_before_5_15_are_refused_by_name() {
        let error = check_kernel("5.10.0-30-amd64").unwrap_err();
        assert_eq!(
            error.to_string(),
            "kernel 5.10.0-30-amd64 is too old: steer needs 5.15 or newer"
        );
        assert_eq!(check_kernel("5.15.0"), Ok(()));
        assert_eq!(check_kernel("6.18.44-custom"), Ok(()));
    }

    #[test]
    fn missing_capabilities_are_named() {
        let none = Capabilities::parse("CapEff:\t0000000000000000\n").unwrap();
        let error = check_capabilities(none).unwrap_err();
        assert_eq!(
            error.to_string(),
            "not allowed: CAP_BPF and CAP_NET_ADMIN missing"
        );
    }

    #[test]
    fn sys_admin_stands_in_for_bpf() {
        // CAP_NET_ADMIN is 12, CAP_SYS_ADMIN is 21.
        let held = Capabilities::parse("CapEff:\t0000000000201000\n").unwrap();
        assert_eq!(check_capabilities(held), Ok(()));
        assert_eq!(check_start(held, false), Ok(()));
    }

    #[test]
    fn a_start_needs_more() {
        // CAP_NET_ADMIN is 12, CAP_BPF 39.
        let held = Capabilities::parse("CapEff:\t0000008000001000\n").unwrap();
        assert_eq!(check_capabilities(held), Ok(()));
        let missing = |probes| check_start(held, probes).unwrap_err().to_string();
        assert_eq!(missing(false), "not allowed: CAP_PERFMON missing");
        assert_eq!(
            missing(true),
            "not allowed: CAP_PERFMON and CAP_NET_RAW missing"
        );
    }
}
