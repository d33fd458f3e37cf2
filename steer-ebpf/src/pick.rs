//! Picking a tunnel as a function of its own: a global one, so that the verifier proves its loop once
//! instead of once for every way that leads to it.

use aya_ebpf::bindings::__sk_buff;
use steer_common::{
    abi::{GroupId, TunnelId},
    decide::{Exit, Place, pick},
    parse::Parsed,
};

use crate::maps::Maps;

/// What stands for no tunnel.
const NONE: u64 = u64::MAX;
/// [`Place::Lan`] as a number.
const LAN: u32 = u32::MAX;
/// [`Place::Mark`] as a number.
const MARK: u32 = u32::MAX - 1;

/// Picks through the global function.
#[inline(always)]
pub(crate) fn call(
    skb: *mut __sk_buff,
    parsed: &Parsed,
    group: GroupId,
    place: Place,
) -> Option<Exit> {
    let here = match place {
        Place::Lan => LAN,
        Place::Mark => MARK,
        Place::Egress { ifindex, .. } => ifindex,
    };
    let picked = pick_tunnel(skb, parsed, group.into(), here);
    (picked != NONE).then_some(Exit {
        tunnel: picked as TunnelId,
        fits: picked & 0x100 != 0,
        ifindex: (picked >> 32) as u32,
    })
}

#[unsafe(no_mangle)]
extern "C" fn pick_tunnel(
    skb: *mut __sk_buff,
    parsed: *const Parsed,
    group: u32,
    here: u32,
) -> u64 {
    // SAFETY: the caller's `parsed` is its own, or null as far as the verifier knows.
    let (Some(parsed), Some(maps)) = (unsafe { parsed.as_ref() }, Maps::of(skb)) else {
        return NONE;
    };
    let group = group as GroupId;
    let place = match here {
        LAN => Place::Lan,
        MARK => Place::Mark,
        // Nothing is compared with a home any more.
        ifindex => Place::Egress {
            ifindex,
            home: group,
        },
    };
    match pick(&maps, parsed, group, place) {
        Some(exit) => {
            u64::from(exit.tunnel) | u64::from(exit.fits) << 8 | u64::from(exit.ifindex) << 32
        }
        None => NONE,
    }
}
