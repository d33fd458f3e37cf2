//! The program tier, on a wire: every row of the packet table through the
//! kernel's receive path, and what comes out of the tunnels.

use std::time::Duration;

use steer_common::abi::{PassReason, programs};
use steer_tests::{
    packets::{
        build::{self, HOST_MAC},
        programs::{Seen, arrive},
        recipe::{Hook, Recipe},
        row::PacketTable,
        world::{DEVICES, LAN_MAC},
    },
    program::{
        compare::{Pair, hex},
        netns,
        wire::{LANS, Wire},
    },
};

/// Time for a packet on its way, and for one that should not come.
const PATIENCE: Duration = Duration::from_secs(2);
const IMPATIENCE: Duration = Duration::from_millis(2);

const MAC_BYTES: usize = 14;

/// Why a test cannot run here is printed, and counts as skipped.
macro_rules! needs_root {
    ($name:literal) => {
        if let Some(reason) = netns::missing() {
            println!("SKIP {}: {reason}", $name);
            return;
        }
    };
}

fn start() -> (Pair, Wire) {
    let mut pair = Pair::new(1_024).expect("the world");
    let wire = Wire::open().expect("the devices");
    pair.kernel
        .attach(programs::INGRESS, "lan0")
        .expect("attached");
    (pair, wire)
}

#[test]
fn every_row_from_a_tunnel_to_the_lan() {
    needs_root!("every_row_from_a_tunnel_to_the_lan");
    let mut pair = Pair::new(1_024).expect("the world");
    let mut wire = Wire::open().expect("the devices");
    for device in ["t0", "t1"] {
        pair.kernel
            .attach(programs::RETURN, device)
            .expect("attached");
    }
    let mut failures = Vec::new();
    let mut forwarded = 0;
    for case in PacketTable::read().expect("the packet table").cases() {
        let recipe = case.row.recipe.on(case.hook);
        let arrival = build::arrival(&recipe);
        if case.hook != Hook::Return || arrival.gso_size > 0 || arrival.bytes.is_empty() {
            continue;
        }
        let host = arrive(&pair.host, &arrival);
        // A device takes nothing that is neither IPv4 nor IPv6.
        let sent = wire.send_back(arrival.device.into(), &arrival.bytes);
        let Seen::Forwarded(device) = host.seen else {
            // The kernel may forward it.
            wire.delivered(IMPATIENCE).expect("the LAN");
            continue;
        };
        sent.expect("sent");
        forwarded += 1;
        let packet = &host.bytes[MAC_BYTES..];
        let kind: [u8; 2] = if recipe.ip == 6 {
            [0x86, 0xdd]
        } else {
            [0x08, 0x00]
        };
        let frame = [&HOST_MAC[..], &LAN_MAC, &kind, packet].concat();
        let place = LANS.iter().position(|name| *name == device);
        let received = wire.delivered(PATIENCE).expect("the LAN");
        if received != [(place.expect("a LAN device"), frame)] {
            let received: Vec<_> = received
                .iter()
                .map(|(place, frame)| (place, hex(frame)))
                .collect();
            failures.push(format!("{}: received {received:?}", case.name()));
        }
    }
    println!("{forwarded} rows came out on the LAN");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let returned = pair.kernel.counters().expect("counters").returned;
    assert_eq!(returned, forwarded, "forwarded by the program");
}

#[test]
fn every_row_from_the_lan() {
    needs_root!("every_row_from_the_lan");
    let (pair, mut wire) = start();
    let mut failures = Vec::new();
    let mut forwarded = 0;
    for case in PacketTable::read().expect("the packet table").cases() {
        let arrival = build::arrival(&case.row.recipe.on(case.hook));
        // A device takes no frame without a whole header.
        if case.hook != Hook::Lan || arrival.gso_size > 0 || arrival.bytes.len() < 14 {
            continue;
        }
        let host = arrive(&pair.host, &arrival);
        wire.send(&arrival.bytes).expect("sent");
        let (expected, patience) = match host.seen {
            Seen::Sent(exit) => {
                forwarded += 1;
                let packet = hex(&host.bytes[14..]);
                (vec![(usize::from(exit.tunnel), packet)], PATIENCE)
            }
            _ => (Vec::new(), IMPATIENCE),
        };
        let received: Vec<_> = wire
            .received(patience)
            .expect("the tunnels")
            .into_iter()
            .map(|(tunnel, packet)| (tunnel, hex(&packet)))
            .collect();
        if received != expected {
            failures.push(format!(
                "{}: received {received:?}, expected {expected:?}",
                case.row.fate.name
            ));
        }
    }
    println!("{forwarded} rows came out of a tunnel");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn merged(payload: u16) -> Vec<u8> {
    build::packet(&Recipe {
        payload,
        ..Recipe::default()
    })
}

/// Three segments of exactly the MTU pass as one packet; a byte more in each and the kernel has to
/// answer.
#[test]
fn merged_segments_are_measured_one_by_one() {
    needs_root!("merged_segments_are_measured_one_by_one");
    let (pair, mut wire) = start();
    wire.send_merged(&merged(3 * 1_380), 1_380).expect("sent");
    let received = wire.received(PATIENCE).expect("the tunnels");
    let lengths: Vec<usize> = received.iter().map(|(_, packet)| packet.len()).collect();
    assert_eq!(lengths, [1_420, 1_420, 1_420]);
    for (_, packet) in &received {
        assert_eq!(packet[8], 63, "TTL");
        assert_eq!(build::checksum(&packet[..20]), 0);
    }
    let sent: u64 = (0..DEVICES.len())
        .map(|id| u8::try_from(id).expect("few"))
        .map(|id| {
            pair.kernel
                .tunnel_counters(id)
                .expect("counters")
                .tx_packets
        })
        .sum();
    assert_eq!(sent, 3, "segments are counted");

    wire.send_merged(&merged(3 * 1_381), 1_381).expect("sent");
    assert!(wire.received(IMPATIENCE).expect("the tunnels").is_empty());
    let passed = pair.kernel.pass_counters().expect("counters");
    assert_eq!(passed[PassReason::TooBig as usize], 1);
}
