//! What the gateway itself sends.
//!
//! From its address on the LAN, it is steered like anything else where the tunnels' egress
//! is; marks are set on what comes from the LAN only, so it takes the kernel's route there. From a
//! tunnel's own address it has to leave by that tunnel, because the far end takes it from no other:
//! the kernel alone gets that right for `wg0` only. To a host on the LAN it goes there in any case.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;
use steer_tests::lab::{Capture, Family, Observer, Paths, Side, tunnel_address};
use steer_tests::scenario::{Scene, Way};
use steer_tests::traffic::{self, End};

/// Enough that two tunnels both get some.
const FLOWS: u16 = 12;
const BYTES: usize = 50_000;
const PATIENCE: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(10);

/// The gateway's addresses, with the tunnels that each of them may use.
fn sources(way: Way, family: Family) -> Vec<(IpAddr, Vec<usize>)> {
    let of_lan = match way {
        Way::Kernel | Way::Mark => vec![0],
        _ => vec![0, 1],
    };
    let own = |k| (tunnel_address(Side::A, k, family), vec![k]);
    std::iter::once((Side::A.gateway(family), of_lan))
        .chain((0..way.used(2)).map(own))
        .collect()
}

/// Every echo request is answered, and request and reply are on the same one of the tunnels.
pub(crate) fn ping(way: Way) -> Result<()> {
    let scene = Scene::up(way, 2, |_| Ok(()))?;
    let gateway = scene.lab.gateway(Side::A);
    let tunnels = Capture::tunnels(&scene.lab, Side::A)?;
    for family in [Family::V4, Family::V6] {
        for (source, wanted) in sources(way, family) {
            let ids: Vec<_> = (0..FLOWS).map(|n| 4_000 + n).collect();
            let far = Side::B.host(family);
            let answered = traffic::ping(gateway, source, far, &ids, PATIENCE)?;
            assert_eq!(answered, ids, "from {source}");
            let mut paths: BTreeMap<u16, Paths> = BTreeMap::new();
            for captured in tunnels.take()? {
                let id = captured.packet().and_then(|packet| packet.echo());
                // Probes are echoes, too.
                if let Some(id) = id.filter(|id| ids.contains(id)) {
                    paths
                        .entry(id)
                        .or_default()
                        .count(captured.device, captured.outgoing);
                }
            }
            for (id, paths) in &paths {
                assert!(paths.symmetric(), "from {source}: {id} used {paths:?}");
            }
            let used: Vec<_> = paths.values().filter_map(Paths::only_tunnel).collect();
            assert_eq!(used.len(), ids.len(), "from {source}");
            assert_eq!(distinct(used), wanted, "tunnels in use from {source}");

            let near = Side::A.host(family);
            let answered = traffic::ping(gateway, source, near, &ids[..2], PATIENCE)?;
            assert_eq!(answered, ids[..2], "to the LAN from {source}");
        }
    }
    Ok(())
}

/// Connections opened by the gateway complete.
pub(crate) fn transfers(way: Way) -> Result<()> {
    let scene = Scene::up(way, 2, |_| Ok(()))?;
    let observer = Observer::start(&scene.lab)?;
    for family in [Family::V4, Family::V6] {
        for (source, wanted) in sources(way, family) {
            let mut used = Vec::new();
            for n in 0..FLOWS {
                let from = End::any_port(scene.lab.gateway(Side::A), source);
                let to = End::any_port(scene.lab.server(), Side::B.host(family));
                let done = traffic::transfer(from, to, BYTES, LIMIT)?;
                assert!(done.is_complete(), "{n}: {done:?}");
                let seen = observer.take()?;
                let paths = seen.paths(&done.conversation(Side::A)).cloned();
                let paths = paths.unwrap_or_default();
                assert!(paths.symmetric(), "{n} from {source}: {paths:?}");
                used.extend(paths.only_tunnel());
            }
            assert_eq!(distinct(used), wanted, "tunnels in use from {source}");
        }
    }
    Ok(())
}

fn distinct(mut tunnels: Vec<usize>) -> Vec<usize> {
    tunnels.sort_unstable();
    tunnels.dedup();
    tunnels
}
