//! Tunnels whose underlay loses, delays and reorders (tc-netem(8)).

use std::time::Duration;

use anyhow::Result;
use steer_tests::both_families;
use steer_tests::lab::{Conversation, Family, Lab, Side, underlay_name, wait};
use steer_tests::scenario::Fixture;
use steer_tests::scenario::watch::{PATIENCE, until_answering};
use steer_tests::traffic::{End, LiveFlows, LiveSpec, transfer};

/// Twenty messages of every live flow, even when they are slow.
const WINDOW: Duration = Duration::from_secs(2);
/// Less than what probes take there and back, when three in four packets wait for 40 ms each way.
const DELAYED_MS: f64 = 30.0;
/// How long the network is bad: some fifty probes of each tunnel.
const BAD: Duration = Duration::from_secs(10);

/// Does something to what a gateway sends below tunnel `k`.
fn impair(lab: &Lab, side: Side, k: usize, how: &str) -> Result<()> {
    let device = underlay_name(k);
    let mut args = vec![
        "qdisc", "replace", "dev", &device, "root", "netem", "limit", "10000",
    ];
    args.extend(how.split_whitespace());
    lab.gateway(side).output("tc", &args).map(drop)
}

/// Few enough for an emulated processor.
fn forty(family: Family) -> LiveSpec {
    LiveSpec {
        tcp: 20,
        udp: 20,
        ..LiveSpec::two_hundred(family)
    }
}

// One message in twenty-five is lost, and one probe: the tunnel stays in use, and flows stay on it.
both_families!(loss_moves_no_flow, |family| {
    let f = Fixture::new(&[1, 1])?;
    until_answering(&f.near, &["wg0", "wg1"])?;
    let live = LiveFlows::start(&f.lab, forty(family))?;
    let flows = live.conversations();
    let before = f.observer.window(&flows, WINDOW)?;
    let (own, others) = before.split(&flows, 1);
    assert!(own.len() > 5, "only {} of 40 flows are on wg1", own.len());
    impair(&f.lab, Side::A, 1, "loss random 4%")?;
    wait::pause(BAD)?;
    let after = f.observer.window(&flows, WINDOW)?;
    println!("wg1: {:?}", f.near.status()?.tunnel("wg1")?);
    assert_eq!(after.moved_since(&before, &flows), [], "by loss");
    let report = live.stop()?;
    assert_eq!(report.broken(), 0);
    let lost = |of: &[Conversation]| -> u64 {
        let flows = report
            .flows
            .iter()
            .filter(|flow| of.contains(&flow.conversation));
        flows.map(|flow| flow.sent - flow.echoed).sum()
    };
    println!(
        "{family}: {} messages, {} of wg1's lost",
        report.sent(),
        lost(&own)
    );
    assert_eq!(lost(&others), 0, "messages of the other tunnel");
    assert!(lost(&own) > 0, "netem lost nothing");
    Ok(())
});

// What arrives late or in another order is as much the flow's as any other packet.
both_families!(delay_and_reordering_move_no_flow, |family| {
    let f = Fixture::new(&[1, 1])?;
    for side in [Side::A, Side::B] {
        impair(&f.lab, side, 1, "delay 40ms 5ms reorder 25% 50%")?;
    }
    until_answering(&f.near, &["wg0", "wg1"])?;
    wait::until("netem delays probes", PATIENCE, || {
        let rtt_ms = f.near.status()?.tunnel("wg1")?.rtt_ms;
        Ok(rtt_ms.filter(|rtt_ms| *rtt_ms > DELAYED_MS))
    })?;
    let live = LiveFlows::start(&f.lab, forty(family))?;
    let flows = live.conversations();
    let before = f.observer.window(&flows, WINDOW)?;
    // Connections with data, until both tunnels had one.
    let (client, server) = (f.lab.client(), f.lab.server());
    for _ in 0..6 {
        let from = End::any_port(client, Side::A.host(family));
        let to = End::any_port(server, Side::B.host(family));
        let done = transfer(from, to, 100_000, wait::here(Duration::from_secs(10)))?;
        assert!(done.is_complete(), "{done:?}");
    }
    let after = f.observer.window(&flows, WINDOW)?;
    assert_eq!(after.moved_since(&before, &flows), []);
    assert_eq!(after.asymmetric(&flows), []);
    assert!(after.count_on(1) > 5, "wg1 has {} flows", after.count_on(1));
    f.assert_nothing_lost(live)
});
