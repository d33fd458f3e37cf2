//! Packets of a few flows, chosen by an input.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::input::Input;
use crate::packets::{
    build,
    recipe::{Extension, Fragment, Hook, Options, Protocol, Recipe, Usual},
};

/// A packet that has nothing to do with others, unless by chance.
pub(super) fn fresh(input: &mut Input<'_>, hook: Hook) -> Recipe {
    let ip = input.pick(&[4, 6]);
    let protocol = input.pick(&[
        Protocol::Tcp,
        Protocol::Udp,
        if ip == 4 {
            Protocol::Icmp
        } else {
            Protocol::Icmpv6
        },
        Protocol::Gre,
        Protocol::Esp,
        Protocol::Sctp,
        Protocol::IpIp,
    ]);
    let is_out = hook.is_out();
    // The gateway, and a tunnel's address on this side; an endpoint on the other.
    let near = input.pick(&[[1, 0, 2], [1, 0, 3], [1, 0, 1], [2, 8, 0], [2, 8, 1]]);
    let far = input.pick(&[
        [2, 0, 2],
        [2, 0, 3],
        [3, 0, 2],
        [4, 0, 2],
        [5, 0, 2],
        [6, 0, 2],
        [7, 0, 2],
        [8, 0, 2],
        [9, 0, 2],
        [2, 9, 0],
        [2, 8, 0],
    ]);
    let [near, far] = [near, far].map(|addr| address(ip, addr));
    let (src, dst) = if is_out { (near, far) } else { (far, near) };
    let mut recipe = Recipe {
        hook: Some(hook),
        device: Some(input.pick(&[0, 1, 0, 1, 2, 3, 4, 5])),
        ip,
        src: Some(src),
        dst: Some(dst),
        protocol,
        src_port: 1_000 + u16::from(input.below(4)),
        dst_port: 1_000 + u16::from(input.below(4)),
        icmp_id: input.below(4).into(),
        id: u32::from(input.below(4)) << 15,
        flags: flags(input),
        ttl: input.pick(&[64, 64, 64, 2, 1, 0]),
        payload: input.pick(&[8, 8, 8, 1_200, 1_400, 1_480]),
        identification: input.below(2).into(),
        ..Recipe::default()
    };
    match input.below(8) {
        1 => {
            recipe.fragment = Some(Fragment {
                offset: input.pick(&[0, 8]),
                more: true,
                df: false,
            });
        }
        2 => recipe.options = Options::Bytes(vec![148, 4, 0, 0]),
        3 => recipe.extensions = vec![Extension::Usual(Usual::HopByHop)],
        4 => recipe.tcp_options = vec![2, 4, 0x05, 0xb4],
        5 => recipe.padding = 7,
        _ => {}
    }
    recipe
}

/// TCP flags.
pub(super) fn flags(input: &mut Input<'_>) -> String {
    input.pick(&["A", "S", "SA", "FA", "R", "SF"]).into()
}

/// An ICMP error about an earlier packet.
pub(super) fn error_about(input: &mut Input<'_>, hook: Hook, earlier: &Recipe) -> Recipe {
    let (src, dst) = build::addresses(earlier);
    let (near, far) = if earlier.hook().is_out() == hook.is_out() {
        (dst, src)
    } else {
        (src, dst)
    };
    let inner = Recipe {
        hook: None,
        src: Some(near),
        dst: Some(far),
        packet_bytes: input.pick(&[None, None, Some(28), Some(20), Some(48), Some(44)]),
        ..earlier.clone()
    };
    Recipe {
        hook: Some(hook),
        device: Some(input.below(2)),
        ip: earlier.ip,
        src: Some(far),
        dst: Some(near),
        protocol: if earlier.ip == 4 {
            Protocol::Icmp
        } else {
            Protocol::Icmpv6
        },
        about: Some(Box::new(inner)),
        ..Recipe::default()
    }
}

/// A packet of the same flow, the other way if the hook is on the other side.
pub(super) fn reply(hook: Hook, earlier: &Recipe) -> Recipe {
    let (src, dst) = build::addresses(earlier);
    if earlier.hook().is_out() == hook.is_out() {
        return Recipe {
            hook: Some(hook),
            src: Some(src),
            dst: Some(dst),
            ..earlier.clone()
        };
    }
    Recipe {
        hook: Some(hook),
        src: Some(dst),
        dst: Some(src),
        src_port: earlier.dst_port,
        dst_port: earlier.src_port,
        ..earlier.clone()
    }
}

/// An address of this test world by its net, third part and host.
fn address(ip: u8, [net, third, host]: [u8; 3]) -> IpAddr {
    if ip == 4 {
        Ipv4Addr::new(10, net, third, host).into()
    } else {
        Ipv6Addr::new(0xfd00, net.into(), 0, 0, 0, 0, third.into(), host.into()).into()
    }
}
