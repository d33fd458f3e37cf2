use super::*;

const A: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn conf(interface: &str, peer: &str) -> Conf {
    let text =
        format!("[Interface]\nPrivateKey = {A}\n{interface}\n[Peer]\nPublicKey = {A}\n{peer}\n");
    Conf::parse("wg0.conf", &text).expect("a configuration")
}

fn request(count: usize) -> TunnelsRequest {
    TunnelsRequest {
        original: "wg0".into(),
        file: "wg0.conf".into(),
        count,
        ..TunnelsRequest::default()
    }
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts
        .iter()
        .map(|text| text.parse().expect("net"))
        .collect()
}

fn refused(request: &TunnelsRequest, conf: &Conf) -> (String, Option<String>) {
    let error = plan_tunnels(request, conf).expect_err("refused");
    (error.to_string(), error.hint())
}

const USUAL: (&str, &str) = (
    "Address = 10.9.0.1/30\nListenPort = 51820",
    "Endpoint = 192.0.2.1:51900\nAllowedIPs = 10.9.0.0/30, 10.2.0.0/16",
);

/// All files, with keys that are always the same.
fn files(plan: &TunnelsPlan, secrets: Secrets) -> String {
    let mut out = String::new();
    for (index, tunnel) in plan.tunnels.iter().enumerate() {
        let byte = u8::try_from(index).expect("few") * 3;
        let keys = TunnelKeys {
            near: Secret::private([byte + 1; 32]),
            far: Secret::private([byte + 2; 32]),
            preshared: plan.preshared.then(|| Secret::preshared([byte + 3; 32])),
        };
        for side in [Side::Near, Side::Far] {
            out += &tunnel.text(side, &keys, secrets, "wg0");
            out.push('\n');
        }
    }
    out
}

#[test]
fn ipv4() {
    let plan = plan_tunnels(&request(2), &conf(USUAL.0, USUAL.1)).expect("a plan");
    insta::assert_snapshot!(files(&plan, Secrets::Written));
    insta::assert_snapshot!(plan.notes.join("\n"));
}

#[test]
fn both_families_with_everything() {
    let conf = conf(
        "Address = 10.9.0.2/31, fd00:9::2/126\nListenPort = 51820\nMTU = 1400\nFwMark = 51820\nPostUp = true",
        "PresharedKey = AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\nEndpoint = [2001:db8::1]:51820\n\
         AllowedIPs = 10.9.0.3/32, fd00:9::1/128, 10.2.0.0/16, fd00:2::/64\nPersistentKeepalive = 25",
    );
    let request = TunnelsRequest {
        endpoint: Some("gw.example.net".parse().expect("an endpoint")),
        lan: nets(&["10.1.0.0/24", "fd00:1::/64"]),
        ..request(3)
    };
    let plan = plan_tunnels(&request, &conf).expect("a plan");
    insta::assert_snapshot!(files(&plan, Secrets::Hidden));
    insta::assert_snapshot!(plan.notes.join("\n"));
}

#[test]
fn ipv6_only_and_a_far_end_that_dials() {
    let conf = conf(
        "Address = fd00:9::1/64\nListenPort = 51820",
        "AllowedIPs = fd00:9::2/128, fd00:2::/64",
    );
    let request = TunnelsRequest {
        endpoint: Some("[2001:db8::2]:4500".parse().expect("an endpoint")),
        lan: nets(&["fd00:1::/64"]),
        ..request(2)
    };
    let plan = plan_tunnels(&request, &conf).expect("a plan");
    insta::assert_snapshot!(files(&plan, Secrets::Hidden));
    assert_eq!(plan.notes, ["no Endpoint in the file: the far end dials"]);
}

#[test]
fn all_new() {
    let request = TunnelsRequest {
        all_new: true,
        preshared: true,
        ..request(2)
    };
    let plan = plan_tunnels(&request, &conf(USUAL.0, USUAL.1)).expect("a plan");
    let names: Vec<_> = plan.tunnels.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["wg1", "wg2"]);
    assert!(plan.preshared && !plan.keeps_original);
}

#[test]
fn names_are_counted_on() {
    for (original, next, expected) in [
        ("wg0", 1, "wg1"),
        ("wg9", 2, "wg11"),
        ("office", 1, "office1"),
        ("a1b", 1, "a1b1"),
        ("7", 1, "8"),
    ] {
        assert_eq!(name_after(original, next).as_deref(), Ok(expected));
    }
    let error = name_after("a-name-of-15-by", 1).expect_err("too long");
    assert_eq!(
        error.to_string(),
        "a-name-of-15-by1: too long for a device, whose name has at most 15 characters"
    );
}

#[test]
fn refusals() {
    let usual = || conf(USUAL.0, USUAL.1);
    let nothing = conf(USUAL.0, "Endpoint = 192.0.2.1:1\nAllowedIPs = 10.9.0.2/32");
    let message = |request: &TunnelsRequest, conf: &Conf| refused(request, conf).0;
    assert_eq!(
        message(&request(2), &nothing),
        "wg0.conf: AllowedIPs hold no network behind the far gateway"
    );
    let unreachable = conf(USUAL.0, "AllowedIPs = 10.2.0.0/16");
    assert_eq!(
        refused(&request(2), &unreachable),
        (
            "wg0.conf: the peer has no Endpoint, and this gateway's is not given: no end could find the other".into(),
            Some("--endpoint gw.example.net, as the far gateway reaches this one".into())
        )
    );
    let with_endpoint = TunnelsRequest {
        endpoint: Some("192.0.2.2".parse().expect("an endpoint")),
        ..request(2)
    };
    assert_eq!(
        message(&with_endpoint, &conf("Address = 10.9.0.1/30", USUAL.1)),
        "wg0.conf: no ListenPort, so the far gateway cannot send to this one's --endpoint"
    );
    let last_ports = conf(
        "Address = 10.9.0.1/30\nListenPort = 65534",
        "Endpoint = 192.0.2.1:1\nAllowedIPs = 10.2.0.0/16",
    );
    assert_eq!(
        message(&request(3), &last_ports),
        "port 65534 and 2 more: ports end at 65535"
    );
    let lan = TunnelsRequest {
        lan: nets(&["10.2.7.0/24"]),
        ..request(2)
    };
    assert_eq!(
        message(&lan, &usual()),
        "--lan 10.2.7.0/24: overlaps 10.2.0.0/16, which is behind the far gateway"
    );
    let blocked = conf(USUAL.0, "Endpoint = 192.0.2.1:1\nAllowedIPs = 10.0.0.0/8");
    assert_eq!(
        refused(&request(2), &blocked),
        (
            "no room for the addresses of 1 tunnels behind 10.9.0.1/30".into(),
            Some("name a free network: --addresses 10.99.0.0/24".into())
        )
    );
    let without = conf(
        "ListenPort = 1",
        "Endpoint = 192.0.2.1:1\nAllowedIPs = 10.2.0.0/16",
    );
    assert_eq!(
        message(&request(2), &without),
        "the original has no Address"
    );
}

#[test]
fn an_own_address_in_what_is_steered_is_told() {
    let conf = conf(USUAL.0, "Endpoint = 192.0.2.1:1\nAllowedIPs = 10.0.0.0/8");
    let request = TunnelsRequest {
        pools: nets(&["192.168.7.0/24"]),
        ..request(2)
    };
    let plan = plan_tunnels(&request, &conf).expect("a plan");
    assert_eq!(
        plan.notes[0],
        "AllowedIPs 10.0.0.0/8 hold this end's tunnel address 10.9.0.1: steer it in smaller prefixes"
    );
}

#[test]
fn near_endpoints() {
    let parse = |text: &str| text.parse::<NearEndpoint>();
    for (text, host, port) in [
        ("gw.example.net", "gw.example.net", None),
        ("192.0.2.1:7", "192.0.2.1", Some(7)),
        ("2001:db8::1", "2001:db8::1", None),
        ("[2001:db8::1]:7", "2001:db8::1", Some(7)),
    ] {
        let expected = NearEndpoint {
            host: host.into(),
            port,
        };
        assert_eq!(parse(text), Ok(expected), "{text}");
    }
    for text in ["", "a b", "gw:x", "[2001:db8::1]", "gw#1"] {
        assert!(parse(text).is_err(), "{text}");
    }
}
