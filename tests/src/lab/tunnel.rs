//! What can be done to a tunnel, and what its device counted.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use super::topology::{self, Side};
use super::{Lab, process, tunnel_name, underlay_name, wireguard};

/// Nobody's MAC address: frames to it are dropped silently by the far end.
const NOBODY: &str = "02:00:00:00:00:99";

/// Where a tunnel's process is among the lab's, which were started in this order.
fn child_of(side: Side, k: usize) -> usize {
    2 * k + usize::from(side == Side::B)
}

/// What the kernel counted on a device (`/proc/net/dev`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceCounters {
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
}

impl Lab {
    /// Loses every packet of tunnel `k` between the gateways, silently: no
    /// device changes its state, only the counters stand still.
    pub fn cut_tunnel(&self, k: usize) -> Result<()> {
        self.cut_sender(Side::A, k)?;
        self.cut_sender(Side::B, k)
    }

    /// Undoes [`Lab::cut_tunnel`].
    pub fn restore_tunnel(&self, k: usize) -> Result<()> {
        self.restore_sender(Side::A, k)?;
        self.restore_sender(Side::B, k)
    }

    /// Loses what one gateway sends through tunnel `k`, as silently.
    pub fn cut_sender(&self, side: Side, k: usize) -> Result<()> {
        let far = topology::underlay_address(side.other(), k);
        self.neighbour(
            side,
            k,
            &format!("replace {far} lladdr {NOBODY} nud permanent"),
        )
    }

    /// Undoes [`Lab::cut_sender`].
    pub fn restore_sender(&self, side: Side, k: usize) -> Result<()> {
        let far = topology::underlay_address(side.other(), k);
        self.neighbour(side, k, &format!("del {far}"))
    }

    fn neighbour(&self, side: Side, k: usize, change: &str) -> Result<()> {
        let line = format!("neigh {change} dev {}", underlay_name(k));
        self.gateway(side).ip_batch(&[line])
    }

    /// Pulls the cable below tunnel `k` out of one gateway, or plugs it in again: the other loses its carrier.
    pub fn plug_cable(&self, side: Side, k: usize, is_in: bool) -> Result<()> {
        let state = if is_in { "up" } else { "down" };
        let args = ["link", "set", &underlay_name(k), state];
        self.gateway(side).ip(&args)
    }

    /// Sets tunnel device `k` of one gateway down.
    pub fn tunnel_down(&self, side: Side, k: usize) -> Result<()> {
        self.gateway(side)
            .ip(&["link", "set", &tunnel_name(k), "down"])
    }

    /// Sets tunnel device `k` of one gateway up, with the routes that went with it.
    pub fn tunnel_up(&self, side: Side, k: usize) -> Result<()> {
        let gateway = self.gateway(side);
        gateway.ip(&["link", "set", &tunnel_name(k), "up"])?;
        self.number_tunnel(side, k)
    }

    /// Gives tunnel device `k` of one gateway the addresses and routes that it lacks.
    fn number_tunnel(&self, side: Side, k: usize) -> Result<()> {
        // The kernel drops IPv6 addresses and all routes of a device that goes down.
        let mut lines: Vec<_> = topology::tunnel(side, k)
            .into_iter()
            .chain(if k == 0 {
                topology::routes(side)
            } else {
                Vec::new()
            })
            .map(|line| {
                line.replace("addr add", "addr replace")
                    .replace("route add", "route replace")
            })
            .collect();
        self.gateway(side).ip_batch(&std::mem::take(&mut lines))
    }

    /// Takes the IPv4 address, which tells the far end's, from tunnel device `k` of one gateway.
    pub fn forget_tunnel_address(&self, side: Side, k: usize) -> Result<()> {
        let device = tunnel_name(k);
        self.gateway(side)
            .ip(&["-4", "addr", "flush", "dev", &device])
    }

    /// Deletes tunnel device `k` of one gateway.
    pub fn tunnel_delete(&self, side: Side, k: usize) -> Result<()> {
        self.gateway(side).ip(&["link", "del", &tunnel_name(k)])
    }

    /// Makes tunnel device `k` of one gateway again after [`Lab::tunnel_delete`], with the keys that it had, as
    /// `wg-quick up` would. Its sessions are gone.
    pub fn tunnel_remake(&mut self, side: Side, k: usize) -> Result<()> {
        let host = self.gateway(side).clone();
        let mut child = wireguard::create(&host, k, self.implementation)?;
        let ready = wireguard::ready(&host, k, child.as_mut());
        // The one before ended with its device.
        if let (Some(child), Some(before)) = (child, self.children.get_mut(child_of(side, k))) {
            process::end(&mut std::mem::replace(before, child));
        }
        ready?;
        wireguard::configure_again(&host, k)?;
        self.number_tunnel(side, k)
    }

    /// Gives tunnel device `k` another MTU on both gateways.
    pub fn set_tunnel_mtu(&self, k: usize, mtu: u32) -> Result<()> {
        let (name, mtu) = (tunnel_name(k), mtu.to_string());
        for side in [Side::A, Side::B] {
            let gateway = self.gateway(side);
            gateway.ip(&["link", "set", &name, "mtu", &mtu])?;
        }
        Ok(())
    }

    /// Counters of a gateway's tunnels, in the tunnels' order; zero for a deleted one.
    pub fn tunnel_counters(&self, side: Side) -> Result<Vec<DeviceCounters>> {
        let text = self.gateway(side).within(|| {
            std::fs::read_to_string("/proc/thread-self/net/dev").context("/proc/net/dev")
        })?;
        let devices = parse_net_dev(&text);
        Ok((0..self.options().tunnels)
            .map(|k| {
                devices
                    .get(tunnel_name(k).as_str())
                    .copied()
                    .unwrap_or_default()
            })
            .collect())
    }
}

fn parse_net_dev(text: &str) -> BTreeMap<&str, DeviceCounters> {
    text.lines()
        .filter_map(|line| {
            let (name, numbers) = line.split_once(':')?;
            let n: Vec<u64> = numbers
                .split_whitespace()
                .map_while(|n| n.parse().ok())
                .collect();
            let counters = DeviceCounters {
                rx_bytes: *n.first()?,
                rx_packets: *n.get(1)?,
                tx_bytes: *n.get(8)?,
                tx_packets: *n.get(9)?,
            };
            Some((name.trim(), counters))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn net_dev_lines() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes\n\
                    wg0: 1 2 0 0 0 0 0 0 30 40 0 0 0 0 0 0\n";
        let counters = parse_net_dev(text)["wg0"];
        assert_eq!(
            counters,
            DeviceCounters {
                rx_bytes: 1,
                rx_packets: 2,
                tx_bytes: 30,
                tx_packets: 40
            }
        );
    }
}
