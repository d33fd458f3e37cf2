//! What an operator does to a group that follows routes: reloads, restarts, filters, several groups.

use std::fs;

use anyhow::Result;
use nix::sys::signal::Signal;
use steer_tests::lab::{Family, Steer, wait};
use steer_tests::scenario;
use steer_tests::traffic::LiveFlows;

use crate::routes::{
    Ip, PATIENCE, WINDOW, busy, by_device, configured, followed, following, ip, network, until_sets,
};

/// A configuration of one group.
fn one_group(prefixes: &str) -> String {
    let tunnels = [0, 1, 2].map(|k| format!("[[group.tunnel]]\nname = \"wg{k}\"\n"));
    let tunnels = tunnels.concat();
    format!("[[group]]\nname = \"site\"\niface = [\"lan0\"]\n{prefixes}\n{tunnels}")
}

/// Gives a configuration, and waits until it holds.
fn reload(steer: &Steer, file: &std::path::Path, text: &str) -> Result<()> {
    const DONE: &str = "configuration read again";
    let count = |log: String| log.matches(DONE).count();
    let before = count(steer.log());
    fs::write(file, text)?;
    steer.signal(Signal::SIGHUP)?;
    wait::until(DONE, PATIENCE, || {
        let log = steer.log();
        assert!(!log.contains("configuration refused"), "{log}");
        Ok((count(log) > before).then_some(()))
    })
}

#[test]
fn from_prefixes_to_routes_and_back() -> Result<()> {
    scenario::run("from_prefixes_to_routes_and_back", || {
        let given = one_group(r#"prefixes = ["10.2.0.0/16", "fd00:2::/64"]"#);
        let routed = one_group("follow-routes = true");
        let (f, file) = configured(3, &given)?;
        let live = LiveFlows::start(&f.lab, busy(Family::V4))?;
        let flows = live.conversations();
        let before = f.observer.window(&flows, WINDOW)?;
        // All tunnels, and one prefix for some of them with a hole in it.
        let mut ip = Ip::start(&f.lab)?;
        ip.say(&format!(
            "route replace 10.2.0.0/16 {}",
            by_device(&[(0, 1), (1, 1), (2, 1)])
        ))?;
        ip.say(&format!(
            "route add 10.2.64.0/24 {}",
            by_device(&[(0, 1), (1, 2)])
        ))?;
        ip.say("route add blackhole 10.2.64.7/32")?;
        ip.end()?;
        reload(&f.near, file.path(), &routed)?;
        until_sets(
            &f.near,
            &["1: wg0=1 wg1=1 wg2=1", "1: wg0=1", "1: wg0=1 wg1=2"],
        )?;
        assert_eq!(followed(&f.near)?.holes, 1);
        let at_routes = f.observer.window(&flows, WINDOW)?;
        assert_eq!(at_routes.moved_since(&before, &flows), []);

        // The same again, for routes of another kind.
        let filtered = one_group(r#"follow-routes = { protocols = ["bird"] }"#);
        reload(&f.near, file.path(), &filtered)?;
        until_sets(&f.near, &[])?;
        reload(&f.near, file.path(), &routed)?;
        until_sets(
            &f.near,
            &["1: wg0=1 wg1=1 wg2=1", "1: wg0=1", "1: wg0=1 wg1=2"],
        )?;

        reload(&f.near, file.path(), &given)?;
        let group = &f.near.status()?.groups[0];
        assert_eq!(group.routes, None);
        assert_eq!(
            group.prefixes,
            ["10.2.0.0/16", "fd00:2::/64"],
            "holes and derived groups went"
        );
        let after = f.observer.window(&flows, WINDOW)?;
        assert_eq!(after.moved_since(&before, &flows), []);
        f.assert_nothing_lost(live)
    })
}

/// From routes to prefixes by the command line, which names one group of several.
#[test]
fn given_prefixes_instead() -> Result<()> {
    scenario::run("given_prefixes_instead", || {
        let f = following(2, &[])?;
        let mut ip = Ip::start(&f.lab)?;
        ip.say("route add 10.2.64.0/24 dev wg1\nroute add blackhole 10.2.64.7/32")?;
        ip.end()?;
        until_sets(&f.near, &["2: wg0=1", "1: wg1=1"])?;
        f.near.steerctl(&[
            "attach",
            "--iface",
            "lan0",
            "--tunnel",
            "wg0",
            "--tunnel",
            "wg1",
            "--prefix",
            "10.2.0.0/16",
        ])?;
        let status = f.near.status()?;
        let group = &status.groups[0];
        assert_eq!(
            (&group.routes, &group.prefixes[..]),
            (&None, &["10.2.0.0/16".to_owned()][..])
        );
        // A group that routes made would be found by its prefix.
        let explained =
            f.near
                .steerctl(&["explain", "udp", "10.1.0.2:1", "10.2.64.7:1", "--json"])?;
        assert!(!explained.contains("not_steered"), "{explained}");
        Ok(())
    })
}

#[test]
fn killed_and_started_again() -> Result<()> {
    scenario::run("killed_and_started_again", || {
        let mut f = following(3, &[])?;
        let net = network(Family::V4);
        ip(
            &f.lab,
            &format!("route replace {net} {}", by_device(&[(0, 1), (1, 2)])),
        )?;
        ip(&f.lab, "route add 10.2.64.0/24 dev wg2")?;
        until_sets(&f.near, &["1: wg0=1", "1: wg0=1 wg1=2", "1: wg2=1"])?;
        let live = LiveFlows::start(&f.lab, busy(Family::V4))?;
        let flows = live.conversations();
        let before = f.observer.window(&flows, WINDOW)?;
        let groups = |steer: &Steer| followed(steer);
        let made = groups(&f.near)?;
        f.near.kill()?;
        assert_eq!(groups(&f.near)?, made, "without the daemon");
        // Nobody hears of this one.
        ip(&f.lab, "route del 10.2.64.0/24")?;
        f.near.run(&[1, 1, 1])?;
        until_sets(&f.near, &["1: wg0=1", "1: wg0=1 wg1=2"])?;
        let after = f.observer.window(&flows, WINDOW)?;
        assert_eq!(after.moved_since(&before, &flows), []);
        let now = groups(&f.near)?;
        let kept = made
            .sets
            .iter()
            .filter(|set| now.sets.contains(set))
            .count();
        assert_eq!(kept, 2, "the same groups: {made:?}, {now:?}");
        f.assert_nothing_lost(live)
    })
}

#[test]
fn tables_protocols_and_metrics() -> Result<()> {
    scenario::run("tables_protocols_and_metrics", || {
        let text = one_group(
            r#"follow-routes = { tables = [77, "main"], protocols = ["bird", 99], metric-max = 50 }"#,
        );
        let (f, _file) = configured(3, &text)?;
        until_sets(&f.near, &[])?;
        let mut ip = Ip::start(&f.lab)?;
        for line in [
            // By somebody else; too large a metric; another table.
            "route add 10.40.0.0/16 dev wg0 proto static",
            "route add 10.41.0.0/16 dev wg0 proto bird metric 51",
            "route add 10.42.0.0/16 dev wg0 proto bird table 78",
            // These, and of the last the table that is named first counts.
            "route add 10.43.0.0/16 dev wg1 proto bird metric 50",
            "route add 10.44.0.0/16 dev wg1 proto 99",
            "route add 10.45.0.0/16 dev wg1 proto bird",
            "route add 10.45.0.0/16 dev wg2 proto bird metric 20 table 77",
        ] {
            ip.say(line)?;
        }
        ip.end()?;
        until_sets(&f.near, &["2: wg1=1", "1: wg2=1"])?;
        let mut prefixes = f.near.status()?.groups[0].prefixes.clone();
        prefixes.sort();
        assert_eq!(prefixes, ["10.43.0.0/16", "10.44.0.0/16", "10.45.0.0/16"]);
        Ok(())
    })
}

#[test]
fn two_groups() -> Result<()> {
    scenario::run("two_groups", || {
        let group = |name: &str, lan: &str, tunnels: [usize; 2]| {
            let tunnels = tunnels.map(|k| format!("[[group.tunnel]]\nname = \"wg{k}\"\n"));
            format!(
                "[[group]]\nname = \"{name}\"\n{lan}\nfollow-routes = true\n{}",
                tunnels.concat()
            )
        };
        let text = group("one", "iface = [\"lan0\"]", [0, 1]) + &group("two", "", [2, 3]);
        let (f, _file) = configured(4, &text)?;
        let net = network(Family::V4);
        ip(
            &f.lab,
            &format!("route replace {net} {}", by_device(&[(0, 1), (1, 1)])),
        )?;
        ip(
            &f.lab,
            &format!("route add 10.2.0.2/32 {}", by_device(&[(2, 2), (3, 1)])),
        )?;
        ip(
            &f.lab,
            &format!("route add 10.2.7.0/24 {}", by_device(&[(0, 1), (3, 1)])),
        )?;
        let sets = || -> Result<Vec<Vec<String>>> {
            let groups = f.near.status()?.groups;
            let sets = |group: &steer_tests::lab::GroupStatus| {
                let mut sets = group
                    .routes
                    .as_ref()
                    .map_or_else(Vec::new, steer_tests::lab::RoutesStatus::sets);
                sets.sort();
                sets
            };
            Ok(groups.iter().map(sets).collect())
        };
        let wanted = [vec!["1: wg0=1", "1: wg0=1 wg1=1"], vec!["1: wg2=2 wg3=1"]];
        wait::until("two groups", PATIENCE, || {
            Ok((sets()? == wanted).then_some(()))
        })?;
        wait::until("what is left to the kernel is told", PATIENCE, || {
            let says = "10.2.7.0/24: the route leads also by wg3";
            Ok(f.near.log().contains(says).then_some(()))
        })?;

        let live = LiveFlows::start(&f.lab, busy(Family::V4))?;
        let flows = live.conversations();
        let seen = f.observer.window(&flows, WINDOW)?;
        let (second, others) = seen.split(&flows, 2);
        assert!(!second.is_empty() && others.len() == seen.split(&others, 3).0.len());
        // From one group to the other: the flows are placed anew, there alone.
        ip(&f.lab, "route del 10.2.0.2/32")?;
        wait::until("the other group's tunnels", PATIENCE, || {
            let seen = f.observer.window(&flows, WINDOW)?;
            let is_on = |tunnel| !seen.split(&flows, tunnel).0.is_empty();
            Ok((!is_on(2) && !is_on(3)).then_some(()))
        })?;
        assert_eq!(live.stop()?.broken(), 0);
        Ok(())
    })
}

/// `attach` takes the routes as they are, once.
#[test]
fn attach_takes_them_once() -> Result<()> {
    scenario::run("attach_takes_them_once", || {
        let f = following(2, &[])?;
        let mut near = f.near;
        near.stop()?;
        let args = [
            "attach",
            "--iface",
            "lan0",
            "--tunnel",
            "wg0",
            "--tunnel",
            "wg1",
            "--follow-routes",
        ];
        let said = near.steerctl(&[&args[..], &["--dry-run"]].concat())?;
        assert!(
            said.contains("routes through its tunnels now: 10.2.0.0/16, fd00:2::/64"),
            "{said}"
        );
        near.steerctl(&args)?;
        until_sets(&near, &["2: wg0=1"])?;
        ip(&f.lab, "route replace 10.2.0.0/16 dev wg1")?;
        assert_eq!(followed(&near)?.sets(), ["2: wg0=1"]);
        near.steerctl(&args)?;
        until_sets(&near, &["1: wg0=1", "1: wg1=1"])?;
        Ok(())
    })
}
