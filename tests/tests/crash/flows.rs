//! Where the flows are, by what came out of the tunnels.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Result, ensure};
use steer_common::abi::TunnelId;
use steer_tests::lab::wait;
use steer_tests::steerctl::{Gateway, Reader};

/// How long until every flow is seen again.
const SOON: Duration = Duration::from_secs(10);

/// The flows of the flood, by sending port.
#[derive(Debug)]
pub(crate) struct Flows {
    readers: Vec<Reader>,
    ports: BTreeSet<u16>,
    places: BTreeMap<u16, TunnelId>,
    /// The numbers of all that arrived.
    arrived: BTreeSet<u64>,
    /// The latest number at the end of each change.
    steps: Vec<u64>,
    /// Flows that changed their tunnel, all of which had to.
    pub(crate) moved: usize,
}

impl Flows {
    /// Reads so many tunnels.
    pub(crate) fn watch(gateway: &Gateway, tunnels: usize, ports: Vec<u16>) -> Result<Self> {
        let open = |k| Reader::open(gateway.host(), &format!("wg{k}"));
        Ok(Self {
            readers: (0..tunnels).map(open).collect::<Result<_>>()?,
            ports: ports.into_iter().collect(),
            places: BTreeMap::new(),
            arrived: BTreeSet::new(),
            steps: Vec::new(),
            moved: 0,
        })
    }

    /// Takes what came, and adds to the tunnels that each flow was seen on, the latest datagram last.
    fn take(&mut self, seen: &mut BTreeMap<u16, BTreeMap<u64, TunnelId>>) -> Result<()> {
        for (id, reader) in self.readers.iter().enumerate() {
            let of_tunnel = reader.take();
            ensure!(
                of_tunnel.doubles == 0,
                "wg{id}: {} datagrams came twice",
                of_tunnel.doubles
            );
            for datagram in of_tunnel.datagrams {
                let of_flow = seen.entry(datagram.port).or_default();
                let before = of_flow.insert(datagram.number, TunnelId::try_from(id)?);
                ensure!(
                    before.is_none(),
                    "datagram {} came by two tunnels",
                    datagram.number
                );
                self.arrived.insert(datagram.number);
            }
        }
        Ok(())
    }

    /// Waits until every flow is seen after all that has happened, and compares its way with where it was. A flow
    /// may leave a tunnel only if `may_leave` says so, and only once for each time that it may.
    pub(crate) fn judge(&mut self, may_leave: impl Fn(TunnelId) -> bool) -> Result<()> {
        let mut seen = BTreeMap::new();
        self.take(&mut seen)?;
        let latest = |seen: &BTreeMap<u16, BTreeMap<u64, TunnelId>>| {
            let last = seen
                .values()
                .filter_map(|of_flow| of_flow.keys().last())
                .max();
            last.copied().unwrap_or(0)
        };
        let so_far = latest(&seen);
        let ports = self.ports.clone();
        wait::until("every flow", SOON, || {
            self.take(&mut seen)?;
            let is_new = |port| {
                let of_flow = seen.get(port).and_then(|of_flow| of_flow.keys().last());
                of_flow.is_some_and(|last| *last > so_far)
            };
            Ok(ports.iter().all(is_new).then_some(()))
        })?;
        self.steps.push(latest(&seen));
        for (port, of_flow) in seen {
            for (number, id) in of_flow {
                let before = self.places.insert(port, id);
                if let Some(before) = before.filter(|before| *before != id) {
                    ensure!(
                        may_leave(before),
                        "flow {port} went from wg{before} to wg{id} at datagram {number}, and need not have"
                    );
                    self.moved += 1;
                }
            }
        }
        Ok(())
    }

    /// Waits until all that was sent has come.
    pub(crate) fn all_arrive(&mut self, gateway: &Gateway, sent: u64) -> Result<()> {
        let arrived = wait::until(&format!("{sent} datagrams"), SOON, || {
            self.take(&mut BTreeMap::new())?;
            Ok((self.arrived.len() as u64 >= sent).then_some(()))
        });
        println!(
            "{sent} datagrams sent, {} arrived; {} flows moved, each of which had to",
            self.arrived.len(),
            self.moved
        );
        if arrived.is_err() {
            let missing = (0..sent).filter(|number| !self.arrived.contains(number));
            let during = |number| self.steps.partition_point(|latest| *latest < number);
            // The first look was before the first change.
            let missing: Vec<_> = missing
                .map(|number| (number, during(number).wrapping_sub(1)))
                .collect();
            println!("missing, and during which change: {missing:?}");
            println!("{}", gateway.host().output("ip", &["-s", "link"])?);
            println!("{}", gateway.done(&["status"])?);
        }
        arrived
    }
}
