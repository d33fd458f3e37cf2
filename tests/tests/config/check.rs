//! `steerctl check`, and starts that a file refuses.

use steer_tests::steerctl::Refusal;

use crate::fixture::{Group, Site, one_group, test, text};

test!(all_that_is_wrong_is_told_at_once, |name| {
    let wrong = "hook = \"sideways\"\n[[group]]\nprefix = [\"10.2.0.0/16\"]\n[[group.tunnel]]\nweight = 1\n";
    let site = Site::up(name, 0, wrong)?;
    let file = site.file();
    let outcome = site.gateway.steerctl(&["check", file])?;
    assert_eq!(
        outcome.stdout,
        format!(
            "{file}:1: hook: \"sideways\": no such choice (choices: auto, ingress, egress, mark)\n\
             {file}:3: group.prefix: unknown key (did you mean `prefixes`?)\n\
             {file}:4: group.tunnel: `name` is missing\n"
        )
    );
    assert_eq!(
        (outcome.code, outcome.stderr),
        (1, format!("steerctl: {file}: 3 problems\n"))
    );
    let outcome = site.gateway.steerctl(&["check", file, "--json"])?;
    let report = outcome.json()?;
    assert_eq!(outcome.code, 1);
    assert_eq!(
        (&report["valid"], &report["groups"]),
        (&false.into(), &().into())
    );
    assert_eq!(report["problems"][1]["line"], 3);
    assert_eq!(report["problems"][1]["key"], "group.prefix");
    assert_eq!(report["problems"][1]["hint"], "did you mean `prefixes`?");

    // A start tells the first, and touches nothing.
    let before = site.gateway.traces()?;
    for verb in ["run", "attach"] {
        let outcome = site.gateway.steerctl(&[verb, "--config", file])?;
        outcome.refused(&Refusal {
            code: 1,
            message: &format!("{file}:1: hook: \"sideways\": no such choice (and 2 more)"),
            hint: Some("choices: auto, ingress, egress, mark"),
        })?;
        assert_eq!(site.gateway.traces()?, before);
    }
    Ok(())
});

test!(a_file_that_is_not_there, |name| {
    let site = Site::up(name, 0, "")?;
    let missing = site.gateway.dir().join("missing.toml");
    let missing = missing.display().to_string();
    for args in [&["check", &missing][..], &["run", "--config", &missing]] {
        site.gateway.steerctl(args)?.refused(&Refusal {
            code: 1,
            message: &format!("{missing}: cannot be read: No such file or directory (os error 2)"),
            hint: None,
        })?;
    }
    Ok(())
});

test!(what_a_start_or_a_reload_would_change, |name| {
    let site = Site::up(name, 3, &one_group(&[("wg0", 1), ("wg1", 1)]))?;
    let (gateway, file) = (&site.gateway, site.file());
    let valid = format!("{file}: valid: 1 group, 2 tunnels, 1 prefix\n");
    assert_eq!(gateway.done(&["check", file])?, valid);
    let before = gateway.traces()?;
    gateway.done(&["run", "--config", file, "--dry-run"])?;
    assert_eq!(gateway.traces()?, before);

    let running = site.run(&[])?;
    let same = gateway.done(&["check", file])?;
    assert!(same.starts_with(&valid), "{same}");
    assert!(
        same.ends_with("changes: none; live flows moved: 0\n"),
        "{same}"
    );
    site.write(&text(&[Group {
        name: "default",
        prefixes: &["10.2.0.0/16"],
        tunnels: &[("wg0", 3), ("wg2", 1)],
    }]))?;
    let (steering, status) = (gateway.traces()?, gateway.json(&["status"])?);
    let changes = "changes:\n  group default: tunnel wg0: weight 1 becomes 3\n  group default: tunnel wg2: new\n  \
                   group default: tunnel wg1: leaves\nlive flows moved: 0\n";
    for args in [
        &["check", file][..],
        &["run", "--config", file, "--dry-run"],
    ] {
        let told = gateway.done(args)?;
        assert!(told.contains(changes), "{args:?}: {told}");
        let report = gateway.json(args)?;
        let entries = &report["difference"]["entries"];
        assert_eq!(entries[0]["what"], "weight", "{report}");
        assert_eq!(
            (&entries[0]["before"], &entries[0]["after"]),
            (&"1".into(), &"3".into())
        );
        assert_eq!(
            (&entries[2]["object"], &entries[2]["kind"]),
            (&"tunnel wg1".into(), &"leaves".into())
        );
    }
    // Whatever is checked, nothing is changed.
    assert_eq!(gateway.traces()?, steering);
    let now = gateway.json(&["status"])?;
    assert_eq!(now["groups"][0]["tunnels"], status["groups"][0]["tunnels"]);

    // What the machine lacks is found before a reload, too.
    site.write(&one_group(&[("wg0", 1), ("wg9", 1)]))?;
    gateway.steerctl(&["check", file])?.refused(&Refusal {
        code: 1,
        message: "tunnel wg9: no such device",
        hint: Some("existing: wg0, wg1, wg2"),
    })?;
    running.stop().map(drop)
});

// A device of another MTU than the file wants.
test!(what_the_machine_is_compared_with, |name| {
    let with_mtu = one_group(&[("wg0", 1)]) + "mtu = 1400\n";
    let site = Site::up(name, 1, &with_mtu)?;
    let outcome = site
        .gateway
        .steerctl(&["attach", "--config", site.file()])?;
    outcome.refused(&Refusal {
        code: 1,
        message: "tunnel wg0: its MTU is 1420, not 1400",
        hint: Some("ip link set wg0 mtu 1400, or mtu = 1420 in the file"),
    })?;
    site.write(&with_mtu.replace("1400", "1420"))?;
    site.gateway.done(&["attach", "--config", site.file()])?;
    site.gateway.done(&["detach"]).map(drop)
});

test!(without_a_file_it_is_that_of_the_daemon, |name| {
    let site = Site::up(name, 2, &one_group(&[("wg0", 1), ("wg1", 1)]))?;
    let (gateway, file) = (&site.gateway, site.file());
    // Its command line goes before the file, where a reload is told, too.
    let running = site.run(&["--seed", "99", "--idle", "udp=10s"])?;
    let said = gateway.done(&["check"])?;
    assert!(said.starts_with(&format!("{file}: valid")), "{said}");
    assert!(
        said.ends_with("changes: none; live flows moved: 0\n"),
        "{said}"
    );
    let named = gateway.done(&["check", file])?;
    assert_eq!(named, said);
    // The weights are written where the daemon reads them.
    let saved = gateway.done(&["weights", "wg0=5", "--save"])?;
    assert!(saved.contains(&format!("saved in {file}\n")), "{saved}");
    assert!(site.text()?.contains("weight = 5"), "{}", site.text()?);
    assert_eq!(gateway.done(&["check"])?, said);
    running.stop().map(drop)
});
