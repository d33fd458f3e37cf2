//! The lab itself: what sockets know of their packets does not come through a cable.

use std::net::UdpSocket;
use std::time::Duration;

use anyhow::{Context as _, Result};
use steer_tests::bench::peers::{Peer, Remote};
use steer_tests::lab::{Conversation, Family, Lab, NoHash, Observer, Protocol, Seen, Side};
use steer_tests::scenario;
use steer_tests::traffic::{ECHO_PORT, Server};

const FLOWS: u16 = 64;

/// Multipath policy 1 goes by a packet's hash if it has one, which its socket drew: the same flow, of
/// another socket, takes another tunnel every other time.
#[test]
fn packets_have_no_hash_of_their_sockets() -> Result<()> {
    scenario::run("packets_have_no_hash_of_their_sockets", || {
        let lab = scenario::lab(2)?;
        let _server = Server::start(&lab)?;
        let [prefix, _] = Side::B.prefixes();
        let remote = Remote {
            ipv6: false,
            tunnels: vec!["wg0".into(), "wg1".into()],
            prefixes: vec![prefix],
            ..Remote::default()
        };
        Peer::Multipath1.set_up(lab.gateway(Side::A), &remote, 0)?;
        assert!(moved_by_new_sockets(&lab)? > 0, "nothing to clear");
        let _no_hash = NoHash::attach(&lab)?;
        assert_eq!(moved_by_new_sockets(&lab)?, 0);
        Ok(())
    })
}

/// How many flows change their tunnel when each gets another socket.
fn moved_by_new_sockets(lab: &Lab) -> Result<usize> {
    let observer = Observer::start(lab)?;
    let (flows, first) = send(lab, &observer)?;
    let (_, second) = send(lab, &observer)?;
    assert!(first.shows(&flows) && second.shows(&flows));
    Ok(second.moved_since(&first, &flows).len())
}

/// A message and its echo in each flow, and where they were seen.
fn send(lab: &Lab, observer: &Observer) -> Result<(Vec<Conversation>, Seen)> {
    let flow = |n| Conversation {
        protocol: Protocol::Udp,
        client: (Side::A.host(Family::V4), 20_000 + n).into(),
        server: (Side::B.host(Family::V4), ECHO_PORT).into(),
    };
    let flows: Vec<_> = (0..FLOWS).map(flow).collect();
    lab.client().within(|| {
        for flow in &flows {
            let socket = UdpSocket::bind(flow.client)?;
            socket.set_read_timeout(Some(Duration::from_secs(2)))?;
            socket.connect(flow.server)?;
            socket.send(b"echo")?;
            socket
                .recv(&mut [0; 8])
                .with_context(|| format!("{flow:?}"))?;
        }
        Ok(())
    })?;
    Ok((flows, observer.take()?))
}
