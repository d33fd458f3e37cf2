//! Routes that routing daemons set: OSPF over the tunnels by BIRD and by FRR, IPv4 and IPv6.

use std::time::Instant;

use anyhow::Result;
use steer_tests::lab::{Bird, Conversation, Family, Frr, Lab, OspfLink, Side};
use steer_tests::scenario;
use steer_tests::traffic::{LiveFlows, LiveReport};

use crate::routes::{WINDOW, busy, following, until_none_on, until_sets};

/// One of each family.
struct Both([LiveFlows; 2]);

impl Both {
    fn start(lab: &Lab) -> Result<Self> {
        let start = |family| LiveFlows::start(lab, busy(family));
        Ok(Self([start(Family::V4)?, start(Family::V6)?]))
    }

    fn conversations(&self) -> Vec<Conversation> {
        self.0.iter().flat_map(LiveFlows::conversations).collect()
    }

    fn stop(self) -> Result<LiveReport> {
        let mut flows = Vec::new();
        for live in self.0 {
            flows.extend(live.stop()?.flows);
        }
        Ok(LiveReport { flows })
    }
}

#[test]
fn bird() -> Result<()> {
    scenario::run("bird", || {
        let f = following(3, &[])?;
        f.lab.prepare_routing()?;
        let mut links = [OspfLink::default(); 3];
        let start = Instant::now();
        let mut near = Bird::start(&f.lab, Side::A, &links)?;
        let _far = Bird::start(&f.lab, Side::B, &links)?;
        until_sets(&f.near, &["2: wg0=1 wg1=1 wg2=1"])?;
        println!("OSPF's first routes after {:?}", start.elapsed());
        let live = Both::start(&f.lab)?;
        let flows = live.conversations();
        let first = f.observer.window(&flows, WINDOW)?;

        // A link's cost goes up: its flows leave, and no other.
        let (own, others) = first.split(&flows, 1);
        links[1].cost = Some(20);
        near.configure(&links)?;
        until_sets(&f.near, &["2: wg0=1 wg2=1"])?;
        let second = until_none_on(&f, 1, &flows)?;
        assert_eq!(second.moved_since(&first, &others), [], "flows of others");
        println!(
            "cost: {} flows moved, {} had to",
            second.moved_since(&first, &flows).len(),
            own.len()
        );

        // It comes back, with weights: nobody has to move.
        links[1].cost = Some(10);
        links[0].weight = 3;
        near.configure(&links)?;
        until_sets(&f.near, &["2: wg0=3 wg1=1 wg2=1"])?;
        f.until_new_flows_use(1, Family::V6)?;
        let third = f.observer.window(&flows, WINDOW)?;
        assert_eq!(third.moved_since(&second, &flows), [], "by new weights");

        // Its process is replaced by a new one: its routes stay meanwhile.
        near.replace()?;
        until_adjacent(&near, 6)?;
        until_sets(&f.near, &["2: wg0=3 wg1=1 wg2=1"])?;
        let fourth = f.observer.window(&flows, WINDOW)?;
        assert_eq!(fourth.moved_since(&third, &flows), [], "by a new BIRD");

        // An interface is withdrawn, and then the process dies, which nobody's routes feel.
        let (own, others) = fourth.split(&flows, 2);
        links[2].cost = None;
        near.configure(&links)?;
        until_sets(&f.near, &["2: wg0=3 wg1=1"])?;
        let fifth = until_none_on(&f, 2, &flows)?;
        assert_eq!(fifth.moved_since(&fourth, &others), [], "flows of others");
        println!(
            "interface: {} flows moved, {} had to",
            fifth.moved_since(&fourth, &flows).len(),
            own.len()
        );
        near.kill();
        let last = f.observer.window(&flows, WINDOW)?;
        assert_eq!(last.moved_since(&fifth, &flows), [], "without BIRD");
        let report = live.stop()?;
        println!(
            "{} messages, {} lost, longest gap {:?}",
            report.sent(),
            report.lost(),
            report.longest_gap()
        );
        assert_eq!((report.broken(), report.lost()), (0, 0));

        Ok(())
    })
}

/// Waits until so many neighbours of both families exchanged all they know.
fn until_adjacent(bird: &Bird, count: usize) -> Result<()> {
    steer_tests::lab::wait::until("OSPF's neighbours", crate::routes::PATIENCE, || {
        let neighbours =
            ["ospf_ipv4", "ospf_ipv6"].map(|name| bird.birdc(&["show", "ospf", "neighbors", name]));
        let mut full = 0;
        for text in neighbours {
            full += text?.matches("Full/").count();
        }
        Ok((full == count).then_some(()))
    })
}

#[test]
fn frr() -> Result<()> {
    scenario::run("frr", || {
        let f = following(3, &[])?;
        f.lab.prepare_routing()?;
        let near = Frr::start(&f.lab, Side::A)?;
        let _far = Bird::start(&f.lab, Side::B, &[OspfLink::default(); 3])?;
        until_sets(&f.near, &["2: wg0=1 wg1=1 wg2=1"])?;
        let routes = f.lab.gateway(Side::A).output("ip", &["route"])?;
        println!("{routes}");
        assert!(routes.contains("nhid"), "by next-hop objects");
        let live = Both::start(&f.lab)?;
        let flows = live.conversations();
        let first = f.observer.window(&flows, WINDOW)?;
        let (own, others) = first.split(&flows, 1);
        near.cost(1, 100)?;
        until_sets(&f.near, &["2: wg0=1 wg2=1"])?;
        let second = until_none_on(&f, 1, &flows)?;
        assert_eq!(second.moved_since(&first, &others), [], "flows of others");
        println!(
            "cost: {} flows moved, {} had to",
            second.moved_since(&first, &flows).len(),
            own.len()
        );
        near.cost(1, 10)?;
        until_sets(&f.near, &["2: wg0=1 wg1=1 wg2=1"])?;
        let third = f.observer.window(&flows, WINDOW)?;
        assert_eq!(third.moved_since(&second, &flows), [], "by the return");
        let report = live.stop()?;
        assert_eq!((report.broken(), report.lost()), (0, 0));
        Ok(())
    })
}
