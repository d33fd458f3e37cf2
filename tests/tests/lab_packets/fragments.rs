//! Datagrams larger than a packet.

use anyhow::Result;
use steer_tests::lab::{Capture, Family, Paths, Side, paths};
use steer_tests::scenario::{Scene, Way};
use steer_tests::traffic::datagrams;

/// Datagrams in one packet and in many, of the same flow.
const SIZES: [usize; 4] = [64, 8_000, 65, 8_001];
/// Enough that both tunnels get some.
const FLOWS: usize = 12;

/// Every fragment, and every whole packet, of a flow is on the flow's one tunnel, in both directions;
/// and everything arrives as it was sent.
pub(crate) fn stay_together(way: Way) -> Result<()> {
    let scene = Scene::up(way, 2, |_| Ok(()))?;
    let tunnels = Capture::tunnels(&scene.lab, Side::A)?;
    for family in [Family::V4, Family::V6] {
        // IPv6 must be told the path's MTU: of a first datagram only the last fragment fits.
        datagrams(&scene.lab, family, 1, &SIZES)?;
        tunnels.take()?;
        let flows = datagrams(&scene.lab, family, FLOWS, &SIZES)?;
        let seen = tunnels.take()?;
        let parts = seen
            .iter()
            .filter(|captured| captured.packet().is_some_and(|p| p.fragment.is_some()))
            .count();
        // 8,000 bytes are six fragments or more, twice, there and back.
        assert!(parts >= FLOWS * 24, "{family}: {parts} fragments only");
        let (by_flow, orphans) = paths(&seen);
        assert_eq!(orphans, 0, "{family}: fragments without a first one");
        let mut used = Vec::new();
        for flow in &flows {
            let paths = by_flow.get(flow).cloned().unwrap_or_default();
            assert!(paths.symmetric(), "{family}: {flow:?} used {paths:?}");
            used.extend(Paths::only_tunnel(&paths));
        }
        scene.assert_spread(used);
    }
    Ok(())
}
