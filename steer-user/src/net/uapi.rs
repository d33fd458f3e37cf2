//! The text protocol of userspace WireGuard: `/var/run/wireguard/NAME.sock`
//! (see "Cross-platform Userspace Implementation" on wireguard.com).

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{Peer, WireGuard};

/// A healthy implementation answers at once; a stuck one must not stop steer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Far more than any real answer.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Asks the userspace WireGuard behind the device `name`.
///
/// `/var/run/wireguard` knows names, not namespaces: two namespaces with a
/// `wg0` each need a mount of their own there, or share one answer.
pub(super) async fn get(name: &str) -> io::Result<WireGuard> {
    let path = PathBuf::from(format!("/var/run/wireguard/{name}.sock"));
    let answer = timeout(PATIENCE, async {
        let mut stream = UnixStream::connect(&path).await?;
        stream.write_all(b"get=1\n\n").await?;
        // Implementations keep the connection open for more questions.
        stream.shutdown().await?;
        let mut answer = String::new();
        stream
            .take(ANSWER_BYTES_MAX)
            .read_to_string(&mut answer)
            .await?;
        io::Result::Ok(answer)
    })
    .await
    .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    parse(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no valid answer"))
}

/// The device that an answer describes; `None` when it is not a successful one.
/// Keys that steer has no use for are passed over, and never kept: the answer
/// holds the private key.
fn parse(answer: &str) -> Option<WireGuard> {
    let mut device = WireGuard::default();
    let mut errno = None;
    let (mut seconds, mut nanoseconds) = (0, 0);
    for line in answer.lines() {
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        match key {
            "public_key" => {
                device.peers.push(Peer {
                    public_key: key_of(value)?,
                    ..Peer::default()
                });
                (seconds, nanoseconds) = (0, 0);
            }
            "errno" => errno = Some(value),
            // 0 is "none", and left out by most implementations.
            "fwmark" => device.fwmark = value.parse().ok().filter(|mark| *mark != 0),
            _ => {}
        }
        let Some(peer) = device.peers.last_mut() else {
            continue;
        };
        match key {
            "endpoint" => peer.endpoint = value.parse().ok(),
            "persistent_keepalive_interval" => {
                peer.keepalive_secs = value.parse().ok().filter(|secs| *secs != 0);
            }
            "allowed_ip" => peer.allowed_ips.extend(value.parse::<IpNet>()),
            "rx_bytes" => peer.rx_bytes = value.parse().ok()?,
            "tx_bytes" => peer.tx_bytes = value.parse().ok()?,
            "last_handshake_time_sec" => seconds = value.parse().ok()?,
            "last_handshake_time_nsec" => nanoseconds = value.parse().ok()?,
            _ => continue,
        }
        let time = Duration::from_secs(seconds).checked_add(Duration::from_nanos(nanoseconds))?;
        peer.latest_handshake = (!time.is_zero()).then_some(time);
    }
    (errno == Some("0")).then_some(device)
}

/// A key in hexadecimal digits.
fn key_of(digits: &str) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    let is_whole = digits.len() == 64 && digits.is_ascii();
    for (index, byte) in key.iter_mut().enumerate().filter(|_| is_whole) {
        *byte = u8::from_str_radix(digits.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    is_whole.then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "private_key=00\nlisten_port=51820\nfwmark=51820\npublic_key=0101010101010101010101010101010101010101010101010101010101010101\n\
        persistent_keepalive_interval=25\n\
        endpoint=192.0.2.1:51820\nlast_handshake_time_sec=1700000000\n\
         last_handshake_time_nsec=5\nrx_bytes=92\ntx_bytes=148\nallowed_ip=10.2.0.0/16\nallowed_ip=fd00:2::/64\n\
         public_key=0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b\n\
         persistent_keepalive_interval=0\nendpoint=[2001:db8::1]:7\nlast_handshake_time_sec=0\n\
        last_handshake_time_nsec=0\nprotocol_version=1\nerrno=0\n\n";

    #[test]
    fn an_answer() {
        let device = parse(ANSWER).expect("an answer");
        assert_eq!(device.fwmark, Some(51_820));
        assert_eq!(device.peers.len(), 2);
        assert_eq!(
            device
                .allowed_ips()
                .map(|network| network.to_string())
                .collect::<Vec<_>>(),
            ["10.2.0.0/16", "fd00:2::/64"]
        );
        assert_eq!(
            device
                .endpoints()
                .map(|address| address.to_string())
                .collect::<Vec<_>>(),
            ["192.0.2.1", "2001:db8::1"]
        );
        assert_eq!(
            device.latest_handshake(),
            Some(Duration::new(1_700_000_000, 5))
        );
        assert_eq!(
            (device.peers[0].rx_bytes, device.peers[0].tx_bytes),
            (92, 148)
        );
        assert_eq!(device.peers[1].latest_handshake, None);
        assert_eq!(device.peers[0].public_key, [1; 32]);
        let keepalive = device.peers.iter().map(|peer| peer.keepalive_secs);
        assert_eq!(keepalive.collect::<Vec<_>>(), [Some(25), None]);
    }

    #[test]
    fn no_mark() {
        for answer in ["errno=0\n\n", "fwmark=0\nerrno=0\n\n"] {
            assert_eq!(parse(answer).expect("an answer").fwmark, None, "{answer}");
        }
    }

    #[test]
    fn no_answer() {
        assert_eq!(parse(""), None);
        assert_eq!(parse("errno=-13\n\n"), None);
        assert_eq!(parse(&ANSWER.replace("errno=0\n", "")), None, "cut off");
        assert_eq!(parse(&ANSWER.replace("0b0b", "0b")), None, "no key");
    }
}
