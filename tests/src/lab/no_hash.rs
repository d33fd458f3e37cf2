//! Packets without a hash.
//!
//! A socket gives its packets a hash of its own (`l4_hash`), which veth carries into the next
//! namespace, and by which the kernel's multipath policy 1 goes. From a cable it has none.

use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result};

use super::foreign::{Place, Point, attach, load, op};
use super::{Lab, Side, check_attach};

/// `BPF_FUNC_set_hash_invalid`
const SET_HASH_INVALID: i32 = 41;

/// Both hosts' packets come to the gateways without a hash until this is dropped.
#[derive(Debug)]
pub struct NoHash {
    _links: [OwnedFd; 2],
}

impl NoHash {
    /// Attaches a program to the hosts' LAN devices.
    pub fn attach(lab: &Lab) -> Result<Self> {
        check_attach(&["--attach", "tcx"])?;
        // `bpf_set_hash_invalid(skb); return TCX_NEXT`
        let code = [
            op(0x85, 0, 0, SET_HASH_INVALID),
            op(0xb7, 0, 0, -1),
            op(0x95, 0, 0, 0),
        ];
        let program = load(&code).context("a program that clears the hash")?;
        let attach = |side| attach(lab.host(side), "lan0", &program, Point::Egress, Place::Last);
        Ok(Self {
            _links: [attach(Side::A)?, attach(Side::B)?],
        })
    }
}
