//! The routes of steer's tables: what the kernel has afterwards, by `ip route` too.

use steer_user::net::{Device, Family, Netlink, NoRoute, RouteOutcome, TunnelRoute};

use crate::{Netns, block_on, device};

const TABLE: u32 = 572_300;

/// All routes of a table, as `ip route` tells them.
fn by_ip(netns: &Netns, family: &str, table: u32) -> Vec<String> {
    let routes = netns.json(&format!("{family} -details route show table {table}"));
    let mut all: Vec<String> = routes
        .iter()
        .map(|route| {
            let text = |key: &str| route[key].as_str().unwrap_or("-");
            format!(
                "{} dev {} metric {} scope {} type {} by {}{}",
                text("dst"),
                text("dev"),
                route["metric"].as_u64().unwrap_or(0),
                text("scope"),
                text("type"),
                text("protocol"),
                if route.get("gateway").is_some() {
                    " via"
                } else {
                    ""
                },
            )
        })
        .collect();
    all.sort();
    all
}

fn ours_v4(device: &str) -> String {
    format!("default dev {device} metric 0 scope 253 type 1 by 87")
}

fn ours_v6(device: &str) -> String {
    format!("default dev {device} metric 1024 scope 0 type 1 by 87")
}

/// A namespace with the devices `wg0` and `wg1`, which only have that name.
fn with_tunnels(test: &str) -> Option<Netns> {
    let netns = Netns::new(test)?;
    netns.ip("link add wg0 type veth peer name far0");
    netns.ip("link add wg1 type veth peer name far1");
    for name in ["wg0", "wg1", "far0", "far1"] {
        netns.ip(&format!("link set {name} up"));
    }
    Some(netns)
}

async fn ensure(netlink: &Netlink, table: u32, device: &Device) -> [RouteOutcome; 2] {
    let ensure = async |family| {
        netlink
            .ensure_tunnel_route(family, table, device)
            .await
            .expect("ensure")
    };
    [ensure(Family::V4).await, ensure(Family::V6).await]
}

#[test]
fn one_route_per_table() {
    let Some(netns) = with_tunnels("routes") else {
        return;
    };
    // Somebody else's: in our table, but not in the way; and ours by number only.
    netns.ip("route add default dev wg1 metric 50 table 572300");
    netns.ip("route add 10.2.0.0/16 dev wg1 table 572300");
    netns.ip("route add 10.2.0.0/16 dev wg1 table 5723 protocol 87");
    netns.ip("-6 route add default dev wg1 metric 50 table 572300");
    let foreign_v4 = by_ip(&netns, "-4", TABLE);
    let foreign_v6 = by_ip(&netns, "-6", TABLE);
    assert_eq!((foreign_v4.len(), foreign_v6.len()), (2, 1));
    // What a crash, or another configuration, left.
    netns.ip("route add default dev wg1 table 572300 protocol 87");
    netns.ip("route add 10.3.0.0/16 dev wg1 table 572300 protocol 87");
    netns.ip("-6 route add default dev wg1 table 572300 metric 7 protocol 87");
    netns.ip("-6 route add default dev wg1 table 572301 protocol 87");
    netns.enter();
    let table = |family: &str| by_ip(&netns, family, TABLE);
    let with = |others: &[String], ours: String| {
        let mut all = others.to_vec();
        all.push(ours);
        all.sort();
        all
    };
    block_on(async {
        let netlink = Netlink::connect().expect("netlink");
        let wg0 = device(&netlink, "wg0").await;
        let wg1 = device(&netlink, "wg1").await;
        assert_eq!(ensure(&netlink, TABLE, &wg0).await, [RouteOutcome::Set; 2]);
        assert_eq!(table("-4"), with(&foreign_v4, ours_v4("wg0")));
        assert_eq!(table("-6"), with(&foreign_v6, ours_v6("wg0")));
        assert_eq!(
            ensure(&netlink, TABLE, &wg0).await,
            [RouteOutcome::Unchanged; 2]
        );
        // The tunnel's id now is another device's.
        assert_eq!(ensure(&netlink, TABLE, &wg1).await, [RouteOutcome::Set; 2]);
        assert_eq!(table("-4"), with(&foreign_v4, ours_v4("wg1")));
        assert_eq!(table("-6"), with(&foreign_v6, ours_v6("wg1")));

        let tables = 572_300..=572_315;
        let route = |family, table| TunnelRoute {
            family,
            table,
            ifindex: Some(wg1.ifindex),
        };
        let expected = [
            route(Family::V4, TABLE),
            route(Family::V6, TABLE),
            route(Family::V6, TABLE + 1),
        ];
        assert_eq!(
            netlink.tunnel_routes(&tables).await.expect("list"),
            expected
        );
        let removed = netlink.remove_tunnel_routes(&tables).await;
        assert_eq!(removed.expect("remove"), expected);
        assert_eq!(netlink.tunnel_routes(&tables).await.expect("list"), []);
        assert_eq!(table("-4"), foreign_v4);
        assert_eq!(table("-6"), foreign_v6);
        assert_eq!(by_ip(&netns, "-4", 5_723).len(), 1, "another steer's");
        let removed = netlink.remove_tunnel_routes(&tables).await;
        assert_eq!(removed.expect("remove"), []);
    });
}

#[test]
fn somebody_elses_default_route_stays() {
    let Some(netns) = with_tunnels("foreign-route") else {
        return;
    };
    netns.ip("route add default dev wg1 table 572300");
    netns.ip("-6 route add unreachable default table 572300");
    let before = ["-4", "-6"].map(|family| by_ip(&netns, family, TABLE));
    netns.enter();
    block_on(async {
        let netlink = Netlink::connect().expect("netlink");
        let wg0 = device(&netlink, "wg0").await;
        for (family, version) in [(Family::V4, ""), (Family::V6, "-6 ")] {
            let error = netlink
                .ensure_tunnel_route(family, TABLE, &wg0)
                .await
                .expect_err("in the way");
            assert_eq!(
                error.to_string(),
                format!(
                    "{family} routing table 572300: it has a default route that is not steer's"
                )
            );
            let hint = format!("ip {version}route show table 572300");
            assert_eq!(error.hint(), Some(hint));
        }
        let after = ["-4", "-6"].map(|family| by_ip(&netns, family, TABLE));
        assert_eq!(after, before);
    });
}

#[test]
fn devices_that_can_have_no_route() {
    let Some(netns) = with_tunnels("skipped-routes") else {
        return;
    };
    netns.enter();
    let count = |family: &str| by_ip(&netns, family, TABLE).len();
    block_on(async {
        let netlink = Netlink::connect().expect("netlink");
        let wg0 = device(&netlink, "wg0").await;
        let ensure = async || ensure(&netlink, TABLE, &wg0).await;
        let skipped = RouteOutcome::Skipped;
        assert_eq!(ensure().await, [RouteOutcome::Set; 2]);

        assert!(netns.exec("sysctl", &["-w", "net.ipv6.conf.wg0.disable_ipv6=1"]));
        let [v4, v6] = ensure().await;
        assert_eq!(v4, RouteOutcome::Unchanged);
        assert_eq!(v6, skipped(NoRoute::Ipv6Disabled));
        assert!(netns.exec("sysctl", &["-w", "net.ipv6.conf.wg0.disable_ipv6=0"]));
        assert_eq!(ensure().await[1], RouteOutcome::Set);

        netns.ip("link set wg0 mtu 1200");
        assert_eq!(ensure().await[1], skipped(NoRoute::NoIpv6));
        netns.ip("link set wg0 mtu 1420");
        assert_eq!(ensure().await[1], RouteOutcome::Set);

        netns.ip("link set wg0 down");
        assert_eq!(ensure().await, [skipped(NoRoute::DeviceDown); 2]);
        netns.ip("link set wg0 up");
        assert_eq!(ensure().await, [RouteOutcome::Set; 2]);

        // A route to another device is worse than none.
        netns.ip("link set wg0 down");
        let wg1 = device(&netlink, "wg1").await;
        for family in Family::ALL {
            let set = netlink.ensure_tunnel_route(family, TABLE, &wg1).await;
            assert_eq!(set.expect("set"), RouteOutcome::Set);
        }
        assert_eq!((count("-4"), count("-6")), (1, 1));
        assert_eq!(ensure().await, [skipped(NoRoute::DeviceDown); 2]);
        assert_eq!((count("-4"), count("-6")), (0, 0));

        netns.ip("link set wg0 up");
        assert_eq!(ensure().await, [RouteOutcome::Set; 2]);
        netns.ip("link del wg0");
        assert_eq!((count("-4"), count("-6")), (0, 0), "gone with the device");
        assert_eq!(ensure().await, [skipped(NoRoute::DeviceGone); 2]);

        netns.ip("link add wg0 type veth peer name far0");
        netns.ip("link set wg0 up");
        let anew = device(&netlink, "wg0").await;
        assert_ne!(anew.ifindex, wg0.ifindex);
        assert_eq!(
            crate::routes::ensure(&netlink, TABLE, &anew).await,
            [RouteOutcome::Set; 2]
        );
        assert_eq!(by_ip(&netns, "-4", TABLE), [ours_v4("wg0")]);
        assert_eq!(by_ip(&netns, "-6", TABLE), [ours_v6("wg0")]);
    });
}
