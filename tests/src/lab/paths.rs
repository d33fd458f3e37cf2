//! What was seen on the wire: the tunnels of each flow.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use super::packet::Conversation;

/// The tunnels of one flow with the packets seen there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paths {
    /// Packets from client to server, by tunnel.
    pub forward: HashMap<usize, u64>,
    /// Packets from server to client, by tunnel.
    pub reverse: HashMap<usize, u64>,
}

impl Paths {
    /// Counts a packet seen on a tunnel of gateway A.
    pub fn count(&mut self, tunnel: usize, outgoing: bool) {
        let direction = if outgoing {
            &mut self.forward
        } else {
            &mut self.reverse
        };
        *direction.entry(tunnel).or_default() += 1;
    }

    fn add(&mut self, other: &Self) {
        for (own, other) in [
            (&mut self.forward, &other.forward),
            (&mut self.reverse, &other.reverse),
        ] {
            for (tunnel, packets) in other {
                *own.entry(*tunnel).or_default() += packets;
            }
        }
    }

    /// Tunnels that carried packets from client to server.
    pub fn forward_tunnels(&self) -> BTreeSet<usize> {
        self.forward.keys().copied().collect()
    }

    /// Tunnels that carried packets from server to client.
    pub fn reverse_tunnels(&self) -> BTreeSet<usize> {
        self.reverse.keys().copied().collect()
    }

    /// The one tunnel that carried all packets from client to server.
    pub fn only_tunnel(&self) -> Option<usize> {
        let mut tunnels = self.forward.keys();
        tunnels.next().copied().filter(|_| tunnels.next().is_none())
    }

    /// Whether both directions used the same one tunnel.
    pub fn symmetric(&self) -> bool {
        self.only_tunnel().is_some() && self.forward_tunnels() == self.reverse_tunnels()
    }
}

/// All flows that were seen in some time.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub(super) flows: HashMap<Conversation, Paths>,
}

impl Seen {
    /// Flows that each used one tunnel, there and back.
    #[cfg(test)]
    pub(crate) fn of(flows: &[(Conversation, usize)]) -> Self {
        let paths = |tunnel| Paths {
            forward: [(tunnel, 1)].into(),
            reverse: [(tunnel, 1)].into(),
        };
        let flows = flows.iter().map(|(flow, tunnel)| (*flow, paths(*tunnel)));
        Self {
            flows: flows.collect(),
        }
    }

    /// The tunnels of a flow; `None` if no packet of it was seen.
    pub fn paths(&self, flow: &Conversation) -> Option<&Paths> {
        self.flows.get(flow)
    }

    /// The same with the client's address in place of what a NAT on gateway A made of it.
    #[must_use]
    pub fn as_from(&self, client: IpAddr) -> Self {
        let mut flows: HashMap<Conversation, Paths> = HashMap::new();
        for (flow, paths) in &self.flows {
            let mut flow = *flow;
            flow.client.set_ip(client);
            flows.entry(flow).or_default().add(paths);
        }
        Self { flows }
    }

    /// Adds what was seen later.
    pub(crate) fn add(&mut self, later: &Self) {
        for (flow, paths) in &later.flows {
            self.flows.entry(*flow).or_default().add(paths);
        }
    }

    /// Whether each of `flows` was seen in both directions.
    pub fn shows(&self, flows: &[Conversation]) -> bool {
        let both_ways = |paths: &Paths| !paths.forward.is_empty() && !paths.reverse.is_empty();
        flows
            .iter()
            .all(|flow| self.paths(flow).is_some_and(both_ways))
    }

    /// All flows, with their tunnels.
    pub fn flows(&self) -> impl Iterator<Item = (&Conversation, &Paths)> {
        self.flows.iter()
    }

    /// Number of flows whose packets from client to server all used `tunnel`.
    pub fn count_on(&self, tunnel: usize) -> usize {
        self.flows
            .values()
            .filter(|paths| paths.only_tunnel() == Some(tunnel))
            .count()
    }

    /// Those of `flows` that sent from client to server by `tunnel`, and the others.
    pub fn split(
        &self,
        flows: &[Conversation],
        tunnel: usize,
    ) -> (Vec<Conversation>, Vec<Conversation>) {
        flows.iter().partition(|flow| {
            self.paths(flow)
                .is_some_and(|paths| paths.forward.contains_key(&tunnel))
        })
    }

    /// Those of `flows` that used other tunnels from client to server than in
    /// `before`; a flow that is missing in one of the two counts as moved.
    pub fn moved_since(&self, before: &Self, flows: &[Conversation]) -> Vec<Conversation> {
        let tunnels = |seen: &Self, flow| seen.paths(flow).map(Paths::forward_tunnels);
        flows
            .iter()
            .filter(|flow| {
                let now = tunnels(self, flow);
                now.is_none() || now != tunnels(before, flow)
            })
            .copied()
            .collect()
    }

    /// Those of `flows` whose replies did not come by the one tunnel that carried the flow.
    pub fn asymmetric(&self, flows: &[Conversation]) -> Vec<Conversation> {
        flows
            .iter()
            .filter(|flow| !self.paths(flow).is_some_and(Paths::symmetric))
            .copied()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::Protocol;
    use super::*;

    fn flow(port: u16) -> Conversation {
        Conversation {
            protocol: Protocol::Udp,
            client: ([10, 1, 0, 2], port).into(),
            server: ([10, 2, 0, 2], 7_001).into(),
        }
    }

    fn seen(flows: &[(u16, usize, usize)]) -> Seen {
        let paths = |forward, reverse| Paths {
            forward: [(forward, 1)].into(),
            reverse: [(reverse, 1)].into(),
        };
        let flows = flows
            .iter()
            .map(|(port, forward, reverse)| (flow(*port), paths(*forward, *reverse)))
            .collect();
        Seen { flows }
    }

    #[test]
    fn moved_and_missing_flows() {
        let before = seen(&[(1, 0, 0), (2, 1, 1), (3, 1, 1)]);
        let after = seen(&[(1, 0, 0), (2, 0, 1)]);
        let flows = [flow(1), flow(2), flow(3)];
        assert_eq!(after.moved_since(&before, &flows), [flow(2), flow(3)]);
        assert_eq!(before.moved_since(&before, &flows), []);
        assert_eq!(after.asymmetric(&flows), [flow(2), flow(3)]);
        assert_eq!(before.split(&flows, 1).0, [flow(2), flow(3)]);
        assert_eq!(before.count_on(1), 2);
    }

    #[test]
    fn a_flow_is_shown_once_both_directions_are() {
        let flows = [flow(1), flow(2)];
        let mut all = seen(&[(1, 0, 0)]);
        assert!(all.shows(&flows[..1]) && !all.shows(&flows));
        let forward = Paths {
            forward: [(1, 1)].into(),
            ..Paths::default()
        };
        all.flows.insert(flow(2), forward);
        assert!(!all.shows(&flows), "one direction only");
        all.add(&seen(&[(1, 0, 0), (2, 0, 1)]));
        assert!(all.shows(&flows));
        assert_eq!(
            all.moved_since(&seen(&[(1, 0, 0), (2, 1, 1)]), &flows),
            [flow(2)]
        );
    }
}
