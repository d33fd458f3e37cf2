//! Every form of the contract, and every refusal.

use steer_common::abi::HookMode;

use super::*;
use crate::plan::{HookChoice, TunnelRequest};

fn parse(line: &str) -> Result<Cli, Refusal> {
    Cli::parse_from_args(std::iter::once("steerctl").chain(line.split_whitespace()))
}

fn refused(line: &str) -> String {
    match parse(line) {
        Err(Refusal::Usage(error)) => error.to_string(),
        other => panic!("{line:?} gave {other:?}"),
    }
}

#[test]
fn definition_is_sound() {
    Cli::definition().debug_assert();
}

#[test]
fn run_with_everything() {
    let cli = parse(
        "--json --netns gw --pin-dir /tmp/p -vv run --iface lan0 --iface lan1 --tunnel wg0=3@7 --tunnel wg1 \
         --prefix 10.2.0.0/16 --prefix fd00:2::/64 --group site --hook ingress --placement hash --seed 0xff \
         --max-flows 70000 --idle 30m --keep --dry-run",
    )
    .expect("valid");
    assert!(cli.json);
    assert_eq!((cli.netns.as_deref(), cli.verbose), (Some("gw"), 2));
    assert_eq!(cli.pin_dir, PathBuf::from("/tmp/p"));
    let Command::Run(run) = cli.command else {
        panic!("not run")
    };
    assert!(run.keep && run.steer.dry_run);
    assert_eq!(run.steer.hook, Some(HookChoice::Mode(HookMode::Ingress)));
    let request = run.steer.request();
    let [group] = &request.groups[..] else {
        panic!("{request:?}")
    };
    assert_eq!(group.ifaces, ["lan0", "lan1"]);
    assert_eq!(
        group.tunnels[0],
        TunnelRequest {
            name: "wg0".into(),
            weight: Some(3),
            id: Some(7),
            ..TunnelRequest::default()
        }
    );
    assert_eq!(group.name, "site");
    assert_eq!((request.seed, request.max_flows), (Some(255), Some(70_000)));
}

#[test]
fn the_other_verbs() {
    for line in [
        "attach --iface lan0",
        "attach --config steer.toml --hook mark --dry-run",
        "check",
        "check steer.toml --json",
        "check --schema",
        "detach --dry-run",
        "status --json",
        "weights",
        "weights wg0=3 wg1=1 --group default --dry-run",
        "disable wg0 --dry-run",
        "enable wg0",
        "flows --tunnel wg0 --top 10 --sort idle",
        "explain tcp 10.1.0.2:40000 10.2.0.2:80",
        "explain icmp 10.1.0.2 10.2.0.2",
        "explain icmpv6 [fd00::1]:7 [fd00::2]:7",
        "explain esp 10.1.0.2:0x1001 10.2.0.2",
        "explain gre 10.1.0.2 10.2.0.2:4294967295",
        "explain ah [fd00::1]:1 [fd00::2]",
        "explain l2tp 10.1.0.2 10.2.0.2",
        "completions bash",
        "man",
    ] {
        parse(line).unwrap_or_else(|error| panic!("{line}: {error:?}"));
    }
}

#[test]
fn refusals() {
    for (line, message) in [
        (
            "weights wg0=70000",
            "steerctl: weight of wg0: 70000 is not in 0 to 65535",
        ),
        (
            "weights wg0=-1",
            "steerctl: weight of wg0: -1 is not in 0 to 65535",
        ),
        (
            "run --tunnel wg0=many",
            "steerctl: weight of wg0: \"many\" is not a number",
        ),
        (
            "run --hook xdp",
            "steerctl: --hook xdp: not available yet in this version\nhint: available: auto, ingress, egress, mark",
        ),
        (
            "run --hook sideways",
            "steerctl: --hook sideways: no such choice\nhint: available: auto, ingress, egress, mark",
        ),
        (
            "run --order between",
            "steerctl: --order between: no such choice\nhint: available: first, last",
        ),
        (
            "run --mss-clamp 535",
            "steerctl: MSS clamp \"535\" is not auto, off or a number in 536 to 65495\n\
             hint: for example --mss-clamp auto or --mss-clamp 1380",
        ),
        (
            "run --mark-mask 0x5",
            "steerctl: mark mask \"0x5\" is not a hexadecimal number with its bits next to each other\n\
             hint: for example --mark-mask 0xff0000",
        ),
        (
            "run --placement least-loaded",
            "steerctl: --placement least-loaded: not available yet in this version\nhint: available: hash",
        ),
        (
            "run --prefix 10.2.3.4/16",
            "steerctl: prefix 10.2.3.4/16 has bits set behind its length\nhint: the network is 10.2.0.0/16",
        ),
        (
            "run --max-flows 0",
            "steerctl: --max-flows 0: not a number in 1 to 16777216",
        ),
        (
            "run --seed x",
            "steerctl: seed \"x\" is not a number up to 2^64-1\nhint: decimal, or hexadecimal with 0x",
        ),
        (
            "run --idle soon",
            "steerctl: idle time \"soon\" is not a time\nhint: for example --idle 30m or --idle tcp=2h,udp=5m",
        ),
        (
            "explain tcp 10.1.0.2 10.2.0.2",
            "steerctl: 10.1.0.2: tcp flows have ports\n\
             hint: for example: steerctl explain tcp 10.1.0.2:40000 10.2.0.2:80",
        ),
        (
            "explain ipv6 10.1.0.2:1 10.2.0.2",
            "steerctl: 10.1.0.2: ipv6 flows have no ports\nhint: leave out the port",
        ),
        (
            "explain udp 10.1.0.2:65536 10.2.0.2:1",
            "steerctl: 10.1.0.2: 65536 is too large for udp flows\n\
             hint: ports and echo identifiers are at most 65535",
        ),
        (
            "explain esp 10.1.0.2:1 10.2.0.2:2",
            "steerctl: 1 and 2: both ends of esp flows have the same identifier\n\
             hint: give it at one end",
        ),
        (
            "explain icmp 10.1.0.2 fd00::1",
            "steerctl: 10.1.0.2 and fd00::1 are not of the same address family\n\
             hint: both ends of a flow are IPv4, or both are IPv6",
        ),
        ("", "steerctl: no command given\nhint: see steerctl --help"),
    ] {
        assert_eq!(refused(line), message, "{line}");
    }
}

#[test]
fn refusals_of_clap_are_two_lines() {
    for line in [
        "frobnicate",
        "statu",
        "disable",
        "flows --sort colour",
        "status --nothing",
    ] {
        let text = refused(line);
        assert!(text.starts_with("steerctl: "), "{text}");
        assert!(!text.contains("error:"), "{text}");
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(
            text.lines()
                .nth(1)
                .is_some_and(|hint| hint.starts_with("hint: ")),
            "{text}"
        );
    }
}

#[test]
fn help_is_not_an_error() {
    for line in ["--help", "run --help", "--version"] {
        assert!(matches!(parse(line), Err(Refusal::Text(_))), "{line}");
    }
}

#[test]
fn generated_texts() {
    let script = String::from_utf8(completions(clap_complete::Shell::Bash)).expect("text");
    assert!(script.contains("explain"));
    let page = String::from_utf8(manual().expect("page")).expect("text");
    assert!(page.contains("steerctl run") && page.contains("max\\-flows"));
}
