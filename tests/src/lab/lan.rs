//! Other kinds of devices on gateway A's side of the LAN.
//!
//! The lab is built with a plain cable. [`Lab::change_lan`] puts something else
//! in its place; the addresses stay the same, so all traffic does too.

use std::net::IpAddr;

use anyhow::{Context as _, Result};

use super::relay::Relay;
use super::state::Missing;
use super::topology::{Family, Side};
use super::{Host, Lab};

/// What the LAN of gateway A is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lan {
    /// A bridge, of which the cable is a port.
    Bridge,
    /// A device of its own MAC address on the cable.
    Macvlan,
    /// VLAN 5 of the cable; programs sit on the VLAN device.
    Vlan,
    /// VLAN 5 of the cable; programs sit on the cable.
    Trunk,
    /// A bond, of which the cable is a port.
    Bond,
    /// A device without MAC addresses.
    Tun,
    /// Two cables, with a network on each.
    Two,
}

/// A changed LAN, there until the lab ends or this is dropped.
#[derive(Debug)]
pub struct ChangedLan {
    /// The devices of gateway A whose packets are to be steered.
    pub devices: Vec<&'static str>,
    /// The client's addresses, at least one of each family.
    pub clients: Vec<IpAddr>,
    relay: Option<Relay>,
}

impl Lan {
    /// An error if the kernel has no such device.
    fn check(self, host: &Host) -> Result<(), Missing> {
        let (kind, args): (_, &[&str]) = match self {
            Self::Bridge => ("bridge", &["type", "bridge"]),
            Self::Macvlan => ("macvlan", &["link", "lan0", "type", "macvlan"]),
            Self::Vlan | Self::Trunk => {
                let args = &["link", "lan0", "type", "vlan", "id", "4000"];
                ("VLAN", args)
            }
            Self::Bond => ("bond", &["type", "bond"]),
            Self::Tun | Self::Two => return Ok(()),
        };
        host.ip(&[&["link", "add", "name", "probe"], args].concat())
            .and_then(|()| host.ip(&["link", "del", "probe"]))
            .map_err(|error| Missing(format!("this kernel makes no {kind} device: {error:#}")))
    }
}

impl Lab {
    /// Changes the LAN of gateway A.
    pub fn change_lan(&self, lan: Lan) -> Result<ChangedLan> {
        let (gateway, client) = (self.gateway(Side::A), self.client());
        lan.check(gateway)?;
        let mut changed = ChangedLan {
            devices: vec!["lan0"],
            clients: [Family::V4, Family::V6].map(|f| Side::A.host(f)).into(),
            relay: None,
        };
        match lan {
            Lan::Bridge => {
                gateway.ip(&["link", "add", "br0", "type", "bridge"])?;
                gateway.ip(&["link", "set", "lan0", "master", "br0"])?;
                move_gateway(gateway, "br0")?;
                changed.devices = vec!["br0"];
            }
            Lan::Macvlan => {
                // The cable hears questions for the address, too, and must not answer with its own MAC.
                gateway.sysctls(&[("ipv4/conf/lan0/arp_ignore", "1")])?;
                let line = "link add mac0 link lan0 type macvlan mode private";
                gateway.ip_batch(&[line.into()])?;
                move_gateway(gateway, "mac0")?;
                changed.devices = vec!["mac0"];
            }
            Lan::Vlan | Lan::Trunk => {
                for host in [gateway, client] {
                    host.ip_batch(&["link add link lan0 name lan0.5 type vlan id 5".into()])?;
                }
                move_gateway(gateway, "lan0.5")?;
                move_client(client, "lan0.5")?;
                if lan == Lan::Vlan {
                    changed.devices = vec!["lan0.5"];
                }
            }
            Lan::Bond => {
                gateway.ip_batch(&[
                    "link add bond0 type bond mode active-backup miimon 10".into(),
                    "link set lan0 down".into(),
                    "link set lan0 master bond0".into(),
                ])?;
                move_gateway(gateway, "bond0")?;
                changed.devices = vec!["bond0"];
            }
            Lan::Tun => {
                changed.relay = Some(Relay::start([gateway, client], "tun0")?);
                move_gateway(gateway, "tun0")?;
                move_client(client, "tun0")?;
                changed.devices = vec!["tun0"];
            }
            Lan::Two => {
                changed.clients.extend(self.second_cable()?);
                changed.devices.push("lan1");
            }
        }
        Ok(changed)
    }

    /// A second cable from the client to gateway A; gives the client's addresses there.
    fn second_cable(&self) -> Result<[IpAddr; 2]> {
        let (gateway, client) = (self.gateway(Side::A), self.client());
        client.ip_batch(&[format!(
            "link add lan1 type veth peer name lan1 netns {}",
            gateway.netns()
        )])?;
        gateway.ip_batch(&[
            "link set lan1 up".into(),
            "addr add 10.1.1.1/24 dev lan1".into(),
            "addr add fd00:1:0:0:1::1/80 dev lan1 nodad".into(),
        ])?;
        client.ip_batch(&[
            "link set lan1 up".into(),
            "addr add 10.1.1.2/24 dev lan1".into(),
            "addr add fd00:1:0:0:1::2/80 dev lan1 nodad".into(),
            // By the cable whose address it is from.
            "rule add from 10.1.1.2 lookup 101".into(),
            "route add default via 10.1.1.1 table 101".into(),
            "route add default via fd00:1:0:0:1::1 table 101".into(),
        ])?;
        let rule = ["rule", "add", "from", "fd00:1:0:0:1::2", "lookup", "101"];
        client.ip(&[&["-6"], &rule[..]].concat())?;
        Ok(["10.1.1.2".parse()?, "fd00:1:0:0:1::2".parse()?])
    }
}

/// Gives the gateway's addresses to another device.
fn move_gateway(gateway: &Host, device: &str) -> Result<()> {
    let [v4, v6] = [Family::V4, Family::V6].map(|family| Side::A.gateway(family));
    gateway
        .ip_batch(&[
            "addr flush dev lan0".into(),
            "link set lan0 up".into(),
            format!("link set {device} up"),
            format!("addr add {v4}/24 dev {device}"),
            format!("addr add {v6}/64 dev {device} nodad"),
        ])
        .with_context(|| format!("{device} as the LAN"))
}

/// Gives the client's addresses and routes to another device.
fn move_client(client: &Host, device: &str) -> Result<()> {
    let own = [Family::V4, Family::V6].map(|family| Side::A.host(family));
    let [via4, via6] = [Family::V4, Family::V6].map(|family| Side::A.gateway(family));
    client
        .ip_batch(&[
            "addr flush dev lan0".into(),
            format!("link set {device} up"),
            format!("addr add {}/24 dev {device}", own[0]),
            format!("addr add {}/64 dev {device} nodad", own[1]),
            format!("route replace default via {via4} dev {device}"),
            format!("route replace default via {via6} dev {device}"),
        ])
        .with_context(|| format!("{device} as the client's LAN"))
}
