//! What a firewall on the gateway means for the way of steering.

use anyhow::Result;
use steer_tests::steerctl::{Gateway, Refusal, has};

use crate::fixture::{forwards, is_as_before, steer, test};

fn nft(gateway: &Gateway, commands: &[&str]) -> Result<()> {
    for command in commands {
        gateway.host().output("nft", &[command])?;
    }
    Ok(())
}

/// The way that is chosen, and the note that says why.
fn chosen(gateway: &Gateway, more: &[&str]) -> Result<(String, String)> {
    let outcome = gateway.steerctl(&steer("attach", more))?.done()?;
    let note = outcome.stderr.lines().find(|line| line.contains(": hook "));
    let note = note.unwrap_or_default().to_owned();
    let status = gateway.json(&["status"])?;
    gateway.done(&["detach"])?;
    Ok((status["hook"].as_str().unwrap_or("?").to_owned(), note))
}

const STATEFUL: [&str; 3] = [
    "add table inet filter",
    "add chain inet filter forward { type filter hook forward priority 0; }",
    "add rule inet filter forward ct state invalid drop",
];

test!(what_is_chosen_and_why, |name| {
    if !has(name, &["nft"]) {
        return Ok(());
    }
    let gateway = Gateway::up(name, 2)?;
    forwards(&gateway)?;
    let case = |commands: &[&str], mode: &str, note: &str| -> Result<()> {
        nft(&gateway, commands)?;
        let told = chosen(&gateway, &[])?;
        assert_eq!(
            told,
            (mode.to_owned(), format!("steerctl: hook {mode}: {note}"))
        );
        Ok(())
    };
    case(
        &[],
        "ingress",
        "nothing on this gateway looks at forwarded packets",
    )?;
    case(
        &STATEFUL,
        "egress",
        "nft table inet filter, chain forward tracks connections",
    )?;
    gateway.ip(&["link", "set", "wg1", "mtu", "1380"])?;
    case(
        &[],
        "mark",
        "nft table inet filter, chain forward tracks connections, and the tunnels' MTUs differ",
    )?;
    gateway.ip(&["link", "set", "wg1", "mtu", "1420"])?;
    case(
        &[
            "add table ip nat",
            "add chain ip nat out { type nat hook postrouting priority 100; }",
            "add rule ip nat out oifname \"eth0\" masquerade",
        ],
        "egress",
        "nft table inet filter, chain forward tracks connections",
    )?;
    case(
        &["add rule ip nat out oifname \"wg*\" masquerade"],
        "mark",
        "nft table ip nat, chain out translates what leaves by a tunnel",
    )
});

test!(legacy_iptables_counts_too, |name| {
    if !has(name, &["iptables-legacy"]) {
        return Ok(());
    }
    let gateway = Gateway::up(name, 2)?;
    forwards(&gateway)?;
    let rule = ["-A", "FORWARD", "-m", "conntrack", "--ctstate", "INVALID"];
    let rule = [&rule[..], &["-j", "DROP"]].concat();
    if let Err(error) = gateway.host().output("iptables-legacy", &rule) {
        println!("SKIP {name}: iptables-legacy does not work here: {error}");
        return Ok(());
    }
    assert_eq!(
        chosen(&gateway, &[])?,
        (
            "egress".into(),
            "steerctl: hook egress: iptables filter FORWARD tracks connections".into()
        )
    );
    Ok(())
});

test!(past_the_firewall_only_by_force, |name| {
    if !has(name, &["nft"]) {
        return Ok(());
    }
    let gateway = Gateway::up(name, 2)?;
    forwards(&gateway)?;
    nft(&gateway, &STATEFUL)?;
    let before = gateway.traces()?;
    let args = ["--hook", "ingress"];
    for verb in ["run", "attach"] {
        gateway.steerctl(&steer(verb, &args))?.refused(&Refusal {
            code: 1,
            message: "hook ingress: steered packets would bypass \
                      nft table inet filter, chain forward, which tracks connections",
            hint: Some(
                "--hook auto passes packets through it; --bypass-netfilter goes past it all the same",
            ),
        })?;
        is_as_before(&gateway, &before)?;
    }
    let by_force = [&args[..], &["--bypass-netfilter"]].concat();
    assert_eq!(
        chosen(&gateway, &by_force)?,
        (
            "ingress".into(),
            "steerctl: hook ingress: steered packets bypass nft table inet filter, chain forward"
                .into()
        )
    );
    // Rules that come later are told at the next start, and change nothing.
    nft(&gateway, &["delete table inet filter"])?;
    gateway.done(&steer("attach", &[]))?;
    nft(&gateway, &STATEFUL)?;
    let outcome = gateway.steerctl(&["attach"])?.done()?;
    let warning = "steerctl: hook ingress: steered packets would bypass nft table inet filter";
    assert!(outcome.stderr.contains(warning), "{outcome:?}");
    assert_eq!(gateway.json(&["status"])?["hook"], "ingress");
    gateway.done(&["attach", "--hook", "auto"])?;
    assert_eq!(gateway.json(&["status"])?["hook"], "egress");
    gateway.done(&["detach"])?;
    is_as_before(&gateway, &before)
});

test!(the_mss_is_clamped_where_a_clamp_is_bypassed, |name| {
    if !has(name, &["nft"]) {
        return Ok(());
    }
    let gateway = Gateway::up(name, 2)?;
    forwards(&gateway)?;
    let clamp = |more: &[&str]| -> Result<String> {
        gateway.done(&steer("attach", more))?;
        let clamp = gateway.json(&["status"])?["mss_clamp"].clone();
        gateway.done(&["detach"])?;
        Ok(clamp.as_str().unwrap_or("?").to_owned())
    };
    assert_eq!(clamp(&[])?, "off");
    assert_eq!(clamp(&["--mss-clamp", "1300"])?, "1300");
    nft(
        &gateway,
        &[
            "add table inet m",
            "add chain inet m forward { type filter hook forward priority -150; }",
            "add rule inet m forward tcp flags syn tcp option maxseg size set rt mtu",
        ],
    )?;
    assert_eq!(clamp(&[])?, "mtu");
    assert_eq!(clamp(&["--mss-clamp", "off"])?, "off");
    // There it is not bypassed.
    assert_eq!(clamp(&["--hook", "egress"])?, "off");
    assert_eq!(clamp(&["--hook", "mark"])?, "off");
    Ok(())
});
