//! Several groups in one file.

use anyhow::Result;
use steer_tests::lab::attach_auto;
use steer_tests::steerctl::{Gateway, Sender};

use crate::fixture::{Group, Site, arrive, ports, test, text};

/// Where flows to the far hosts of each group go.
const SITES: [&str; 3] = ["10.2.0.2:9", "10.3.0.2:9", "10.4.0.2:9"];

fn three() -> String {
    text(&[
        Group {
            name: "default",
            prefixes: &["10.2.0.0/16"],
            tunnels: &[("wg0", 1), ("wg1", 1)],
        },
        Group {
            name: "east",
            prefixes: &["10.3.0.0/16", "10.5.0.0/16"],
            tunnels: &[("wg2", 1), ("wg3", 3)],
        },
        Group {
            name: "west",
            prefixes: &["10.4.0.0/16"],
            tunnels: &[("wg4", 1)],
        },
    ])
}

fn names(gateway: &Gateway) -> Result<Vec<String>> {
    let status = gateway.json(&["status"])?;
    let groups = status["groups"].as_array().into_iter().flatten();
    Ok(groups
        .filter_map(|group| group["name"].as_str().map(ToOwned::to_owned))
        .collect())
}

test!(each_group_uses_its_own_tunnels, |name| {
    let site = Site::up(name, 5, &three())?;
    let gateway = &site.gateway;
    let before = gateway.traces()?;
    let readers = site.readers(5)?;
    let running = site.run(&[])?;
    assert_eq!(names(gateway)?, ["default", "east", "west"]);
    let mut sent = 0;
    for far in SITES {
        let mut sender = Sender::to(gateway.client(), 40, far)?;
        sender.round()?;
        sent += sender.sent();
    }
    arrive(&readers, sent)?;
    let seen = ports(&readers);
    let counts: Vec<_> = seen.iter().map(std::collections::HashSet::len).collect();
    assert_eq!(counts[0] + counts[1], 40, "{counts:?}");
    assert_eq!(counts[2] + counts[3], 40, "{counts:?}");
    assert_eq!(counts[4], 40, "{counts:?}");
    assert!(
        counts[0] > 5 && counts[1] > 5 && counts[3] > counts[2],
        "{counts:?}"
    );
    let lines = running.stop()?;
    let ready = format!(
        "ready default: 10.2.0.0/16 over wg0=1@0 wg1=1@1; east: 10.3.0.0/16 10.5.0.0/16 over wg2=1@2 wg3=3@3; \
         west: 10.4.0.0/16 over wg4=1@4 from lan0 (ingress, {})",
        attach_auto()
    );
    assert_eq!(lines, [ready]);
    assert_eq!(gateway.traces()?, before);
    Ok(())
});

// A file names all the groups that there are to be: what it does not name leaves.
test!(what_the_file_does_not_name_leaves, |name| {
    let site = Site::up(name, 5, &three())?;
    let gateway = &site.gateway;
    gateway.done(&["attach", "--config", site.file()])?;
    let more = [
        "attach",
        "--group",
        "other",
        "--iface",
        "lan0",
        "--tunnel",
        "wg4",
        "--prefix",
        "10.6.0.0/16",
    ];
    let outcome = gateway.steerctl(&more)?;
    assert_eq!(outcome.code, 1, "wg4 belongs to west: {outcome:?}");
    site.write(&text(&[Group {
        name: "east",
        prefixes: &["10.3.0.0/16"],
        tunnels: &[("wg2", 1), ("wg3", 3)],
    }]))?;
    gateway.done(&["attach", "--config", site.file()])?;
    assert_eq!(names(gateway)?, ["east"]);
    let status = gateway.json(&["status"])?;
    assert_eq!(
        status["groups"][0]["prefixes"],
        serde_json::json!(["10.3.0.0/16"])
    );
    gateway.done(&["detach"]).map(drop)
});
