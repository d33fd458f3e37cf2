//! Command lines that are wrong in themselves: exit status 2.

use steer_tests::steerctl::Gateway;

use crate::fixture::{Case, all_refused, test};

const NO_HINT: Option<&str> = None;

const CASES: [Case<'_>; 24] = [
    (
        "steer",
        2,
        "unrecognized subcommand 'steer'",
        Some("usage: steerctl [OPTIONS] <COMMAND>"),
    ),
    ("", 2, "no command given", Some("see steerctl --help")),
    (
        "run --bogus",
        2,
        "unexpected argument '--bogus' found",
        Some("usage: steerctl run [OPTIONS]"),
    ),
    (
        "weights wg0",
        2,
        "\"wg0\" is not NAME=WEIGHT",
        Some("for example: steerctl weights wg0=3 wg1=1"),
    ),
    (
        "weights wg0=x",
        2,
        "weight of wg0: \"x\" is not a number",
        NO_HINT,
    ),
    (
        "weights wg0=65536",
        2,
        "weight of wg0: 65536 is not in 0 to 65535",
        NO_HINT,
    ),
    (
        "weights wg0=-1",
        2,
        "weight of wg0: -1 is not in 0 to 65535",
        NO_HINT,
    ),
    (
        "run --iface lan0 --tunnel wg0=x",
        2,
        "weight of wg0: \"x\" is not a number",
        NO_HINT,
    ),
    (
        "run --iface lan0 --tunnel wg0=65536",
        2,
        "weight of wg0: 65536 is not in 0 to 65535",
        NO_HINT,
    ),
    (
        "run --iface lan0 --tunnel wg0=-1",
        2,
        "weight of wg0: -1 is not in 0 to 65535",
        NO_HINT,
    ),
    (
        "run --iface lan0 --tunnel wg0@255",
        2,
        "id of wg0: \"255\" is not a number in 0 to 254",
        NO_HINT,
    ),
    (
        "run --iface lan0 --tunnel =1",
        2,
        "tunnel \"=1\" is not NAME, NAME=WEIGHT or NAME=WEIGHT@ID",
        Some("for example --tunnel wg0=3 or --tunnel wg0=3@0"),
    ),
    (
        "run --iface a_name_too_long_x",
        2,
        "\"a_name_too_long_x\" is not a device name: 1 to 15 characters without space and slash",
        NO_HINT,
    ),
    (
        "run --iface lan0 --prefix 10.2.0.0",
        2,
        "prefix \"10.2.0.0\" is not an address and a length like 10.2.0.0/16 or fd00:2::/64",
        NO_HINT,
    ),
    (
        "run --iface lan0 --prefix 10.2.0.1/16",
        2,
        "prefix 10.2.0.1/16 has bits set behind its length",
        Some("the network is 10.2.0.0/16"),
    ),
    (
        "run --iface lan0 --seed 0y",
        2,
        "seed \"0y\" is not a number up to 2^64-1",
        Some("decimal, or hexadecimal with 0x"),
    ),
    (
        "run --iface lan0 --idle 0s",
        2,
        "idle time \"0s\" is not between 1 second and 30 days",
        Some("for example --idle 30m or --idle tcp=2h,udp=5m"),
    ),
    (
        "run --iface lan0 --max-flows 0",
        2,
        "--max-flows 0: not a number in 1 to 16777216",
        NO_HINT,
    ),
    (
        "run --iface lan0 --hook xdp",
        2,
        "--hook xdp: not available yet in this version",
        Some("available: auto, ingress, egress, mark"),
    ),
    (
        "run --iface lan0 --placement x",
        2,
        "--placement x: no such choice",
        Some("available: hash"),
    ),
    (
        "explain tcp 10.1.0.2 10.2.0.2:80",
        2,
        "10.1.0.2: tcp flows have ports",
        Some("for example: steerctl explain tcp 10.1.0.2:40000 10.2.0.2:80"),
    ),
    (
        "explain ipv6 10.1.0.2:1 10.2.0.2",
        2,
        "10.1.0.2: ipv6 flows have no ports",
        Some("leave out the port"),
    ),
    (
        "explain udp 10.1.0.2:1 [fd00:2::2]:2",
        2,
        "10.1.0.2 and fd00:2::2 are not of the same address family",
        Some("both ends of a flow are IPv4, or both are IPv6"),
    ),
    (
        "explain nope 10.1.0.2 10.2.0.2",
        2,
        "protocol \"nope\" is not known",
        Some("tcp, udp, udplite, sctp, dccp, icmp, icmpv6, gre, esp, ah, l2tp or a number to 255"),
    ),
];

test!(wrong_usage, |name| {
    let gateway = Gateway::up(name, 2)?;
    all_refused(&gateway, &CASES)
});
