//! Echoes through a device, and what is none.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use steer_user::net::Echo;

use crate::{Netns, block_on};

const TOKEN: u64 = 0x0123_4567_89ab_cdef;

/// Two namespaces with a cable; the calling thread is in the first.
fn cable(test: &str) -> Option<(Netns, Netns)> {
    let near = Netns::new(&format!("{test}-a"))?;
    let far = Netns::new(&format!("{test}-b"))?;
    near.ip(&format!(
        "link add c0 type veth peer name c0 netns {}",
        far.0
    ));
    for (netns, n) in [(&near, 1), (&far, 2)] {
        netns.ip("link set lo up");
        netns.ip(&format!("addr add 10.9.0.{n}/30 dev c0"));
        netns.ip(&format!("addr add fd00::{n}/64 dev c0 nodad"));
        netns.ip("link set c0 up");
    }
    near.enter();
    Some((near, far))
}

fn ends(family: usize) -> (IpAddr, IpAddr) {
    let [source, target] = [["10.9.0.1", "10.9.0.2"], ["fd00::1", "fd00::2"]][family];
    let address = |text: &str| text.parse().expect("an address");
    (address(source), address(target))
}

/// Waits until the neighbour is found, which takes IPv6 a second on a new device.
async fn until_answered(echo: &Echo) {
    for _ in 0..20 {
        echo.send(0).expect("send");
        if soon(echo).await.is_some() {
            while soon(echo).await.is_some() {}
            return;
        }
    }
    panic!("no answer");
}

/// The next answer, if one comes soon.
async fn soon(echo: &Echo) -> Option<u64> {
    let answer = tokio::time::timeout(Duration::from_millis(300), echo.answer());
    answer.await.ok().and_then(Result::ok)
}

#[test]
fn answers_come_back() {
    let Some((near, _far)) = cable("echo") else {
        return;
    };
    block_on(async {
        for family in [0, 1] {
            let (source, target) = ends(family);
            let echo = Echo::open("c0", source, target, None, TOKEN).expect("open");
            until_answered(&echo).await;
            for number in [1, 65_537, u64::MAX] {
                echo.send(number).expect("send");
                assert_eq!(soon(&echo).await, Some(number), "{target}");
            }
            echo.send(7).expect("send");
            let waiting = async {
                loop {
                    match echo.waiting_answer() {
                        Some(number) => break number,
                        None => tokio::task::yield_now().await,
                    }
                }
            };
            let waiting = tokio::time::timeout(Duration::from_secs(2), waiting).await;
            assert_eq!(waiting.ok(), Some(7), "{target}");
            // One that another socket asked, with the same addresses.
            let other = Echo::open("c0", source, target, None, TOKEN + 1).expect("open");
            other.send(8).expect("send");
            assert_eq!(soon(&other).await, Some(8));
            assert_eq!(soon(&echo).await, None);
            // The same identifier, and another token.
            let other = Echo::open("c0", source, target, None, TOKEN ^ 1 << 60).expect("open");
            other.send(9).expect("send");
            assert_eq!(soon(&other).await, Some(9));
            assert_eq!(soon(&echo).await, None);
        }
        near.ip("link set c0 down");
        let (source, target) = ends(0);
        let gone = Echo::open("c0", source, target, None, TOKEN).and_then(|echo| echo.send(1));
        assert!(gone.is_err());
        let no_device = Echo::open("c9", source, target, None, TOKEN).expect_err("none");
        assert_eq!(no_device.raw_os_error(), Some(libc::ENODEV));
    });
}

/// Whatever the routes say, a packet leaves by the device, and only by it.
#[test]
fn no_other_device() {
    let Some((near, _far)) = cable("echo-device") else {
        return;
    };
    near.ip("link add other type veth peer name nobody");
    near.ip("link set other up");
    near.ip("route add 10.9.0.2/32 dev other");
    near.ip("route add fd00::2/128 dev other");
    block_on(async {
        for family in [0, 1] {
            let (source, target) = ends(family);
            let echo = Echo::open("c0", source, target, None, TOKEN).expect("open");
            until_answered(&echo).await;
            let astray = Echo::open("other", source, target, None, TOKEN).expect("open");
            astray.send(2).expect("send");
            assert_eq!(soon(&astray).await, None, "{target}");
        }
    });
}

/// What looks like an answer reaches the socket only if it is one.
#[test]
fn forgeries() {
    let Some((_near, far)) = cable("echo-forged") else {
        return;
    };
    block_on(async {
        let (source, target) = ends(0);
        let echo = Echo::open("c0", source, target, None, TOKEN).expect("open");
        let forge = |kind: u8, id: u16, token: u64| -> io::Result<()> {
            let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 1];
            message[4..6].copy_from_slice(&id.to_be_bytes());
            message.extend(token.to_be_bytes());
            message.extend(1_u64.to_be_bytes());
            let sum: u32 = message
                .chunks(2)
                .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
                .sum();
            let folded = (sum & 0xffff) + (sum >> 16);
            let sum = !u16::try_from((folded & 0xffff) + (folded >> 16)).expect("16 bits");
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            std::thread::scope(|scope| {
                let sent = scope.spawn(|| {
                    far.enter();
                    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
                    socket.send_to(&message, &SocketAddr::new(source, 0).into())
                });
                sent.join().expect("no panic").map(drop)
            })
        };
        let id = 0xcdef;
        for (kind, id, token) in [(8, id, TOKEN), (0, id + 1, TOKEN), (0, id, TOKEN + 1)] {
            forge(kind, id, token).expect("send");
            assert_eq!(soon(&echo).await, None, "type {kind}, id {id:#x}");
        }
        // The proof that the others failed for what they were.
        forge(0, id, TOKEN).expect("send");
        assert_eq!(soon(&echo).await, Some(1));
    });
}
