//! The configuration file, tiers, followed routes.

use super::*;
use crate::plan::{Entry, EntryKind};

fn differing(count: usize, reader: Option<i32>) -> ConfigFacts {
    let entry = |number| Entry {
        group: Some("default".into()),
        object: Some(format!("tunnel wg{number}")),
        kind: EntryKind::New,
    };
    ConfigFacts::Usable {
        path: "/etc/steer/steer.toml".into(),
        differences: (0..count).map(entry).collect(),
        reader,
    }
}

#[test]
fn the_file() {
    let wrong = fails("config", AS_THEY_ARE, |facts| {
        facts.config = ConfigFacts::Unusable {
            path: "x.toml".into(),
            cause: "x.toml: 2 problems".into(),
            hint: None,
        };
    });
    assert_eq!(
        wrong,
        "fail config: config: x.toml: 2 problems\n    fix: steerctl check x.toml"
    );
    let read_by_a_daemon = warns("config", AS_THEY_ARE, |facts| {
        facts.config = differing(1, Some(7));
    });
    assert_eq!(
        read_by_a_daemon,
        "warn config: config: /etc/steer/steer.toml differs from what is steered: group default: tunnel wg0: new\n    \
         fix: kill -HUP 7"
    );
    let many = warns("config", AS_THEY_ARE, |facts| {
        facts.config = differing(5, None);
    });
    assert!(
        many.ends_with(
            "tunnel wg2: new; 2 more\n    fix: steerctl attach --config /etc/steer/steer.toml"
        ),
        "{many}"
    );
    let same: OnFacts = |facts| facts.config = differing(0, None);
    assert_eq!(
        found("config", AS_THEY_ARE, same)[0].message,
        "/etc/steer/steer.toml is what is steered"
    );
    let before: OnFacts = |facts| {
        nothing_is_pinned(facts);
        facts.config = differing(3, None);
    };
    assert_eq!(
        found("config", AS_THEY_ARE, before)[0].message,
        "/etc/steer/steer.toml is valid"
    );
    let no_daemon = warns("daemon", AS_THEY_ARE, |facts| {
        facts.pins = Pins::Steering { daemon: None };
        facts.config = differing(0, None);
    });
    assert!(
        no_daemon.ends_with("fix: steerctl run --keep --config /etc/steer/steer.toml"),
        "{no_daemon}"
    );
}

#[test]
fn backups() {
    // Without tiers there is nothing to say.
    assert_eq!(found("tiers", AS_THEY_ARE, AS_IS), []);
    let tiered: OnFacts = |facts| facts.steered.tunnels[1].tier = 2;
    assert_eq!(found("tiers", AS_THEY_ARE, tiered)[0].level, Level::Ok);
    let in_use: OnFacts = |facts| {
        facts.steered.tunnels[1].tier = 2;
        facts.steered.tunnels[0].health = Health::Down;
    };
    assert!(warns("tiers", AS_THEY_ARE, in_use).starts_with(
        "warn tiers: group default: no tunnel of tier 0 takes new flows: those of tier 2 do\n"
    ));
    let none: OnFacts = |facts| {
        facts.steered.tunnels[1].tier = 2;
        facts.steered.tunnels[1].weight = 0;
    };
    assert!(
        warns("tiers", AS_THEY_ARE, none)
            .starts_with("warn tiers: group default: no other tier than 0 could take new flows")
    );
    // Another check tells of that.
    let nothing: OnFacts = |facts| {
        facts.steered.tunnels[1].tier = 2;
        for tunnel in &mut facts.steered.tunnels {
            tunnel.health = Health::Down;
        }
    };
    assert_eq!(found("tiers", AS_THEY_ARE, nothing)[0].level, Level::Ok);
}

/// A group that follows routes, with one that was derived from it.
fn follow(facts: &mut Facts<'_>) {
    let home = &mut facts.steered.groups[0];
    home.follows_routes = true;
    let derived = SteeredGroup {
        name: "default over wg1".into(),
        prefixes: home.prefixes.split_off(1),
        tunnels: vec![1],
        ..home.clone()
    };
    facts.steered.groups.push(derived);
}

#[test]
fn routes_that_are_followed() {
    assert_eq!(found("followed_routes", AS_THEY_ARE, AS_IS), []);
    let fine = found("followed_routes", AS_THEY_ARE, follow);
    assert_eq!(
        (fine[0].level, fine[0].message.as_str()),
        (Level::Ok, "2 prefixes are those of routes")
    );
    let unfollowed = warns("followed_routes", AS_THEY_ARE, |facts| {
        follow(facts);
        facts.pins = Pins::Steering { daemon: None };
    });
    assert!(
        unfollowed.contains("no steerctl run follows the routes: its 2 prefixes stay as they are"),
        "{unfollowed}"
    );
    let none = warns("followed_routes", AS_THEY_ARE, |facts| {
        follow(facts);
        for group in &mut facts.steered.groups {
            group.prefixes.clear();
        }
    });
    assert!(none.contains("nothing is steered"), "{none}");
    // A derived group is judged by its own tunnels, and named by them.
    let allowed = fails(
        "allowed_ips",
        |devices| peer(&mut devices[3]).allowed_ips.truncate(1),
        follow,
    );
    assert!(allowed.starts_with("fail allowed_ips: wg1: "), "{allowed}");
    let usable = fails("group_usable", AS_THEY_ARE, |facts| {
        follow(facts);
        facts.steered.tunnels[1].health = Health::Down;
    });
    assert!(
        usable.starts_with("fail group_usable: group default over wg1: none of its tunnels"),
        "{usable}"
    );
    // What is of the home group is told once.
    let mtus: OnDevices = |devices| devices[3].mtu_bytes = 1_300;
    assert_eq!(found("mtu_group", mtus, follow).len(), 1);
}
