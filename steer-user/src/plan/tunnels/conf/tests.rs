use super::*;

const A: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const B: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

fn error(text: &str) -> String {
    let text = text.replace("$A", A).replace("$B", B);
    Conf::parse("wg0.conf", &text)
        .expect_err("refused")
        .to_string()
}

#[test]
fn everything_that_wg_quick_takes() {
    let text = format!(
        "# the tunnel\n[interface]\r\n privatekey={A}\naddress = 10.9.0.1/30 , fd00:9::1/126\nAddress = 10.8.0.1\n\
         ListenPort = 51820 # udp\nMTU=1400\nFwMark = 0xca6c\nTable = off\nDNS = 10.2.0.1\nPostUp = ip rule add a = b\n\
         PreDown = true\nSaveConfig = false\n\n[Peer]\nPublicKey = {B}\nPresharedKey = {A}\n\
         AllowedIPs = 10.9.0.2/32, 10.2.0.0/16\nAllowedIPs = fd00:2::7/64,10.2.0.0/16\n\
         Endpoint = [2001:db8::1]:51820\nPersistentKeepalive = 25\n"
    );
    let conf = Conf::parse("wg0.conf", &text).expect("a configuration");
    let nets = |texts: &[&str]| -> Vec<IpNet> {
        texts
            .iter()
            .map(|text| text.parse().expect("net"))
            .collect()
    };
    let expected = Conf {
        addresses: nets(&["10.9.0.1/30", "fd00:9::1/126", "10.8.0.1/32"]),
        listen_port: Some(51_820),
        mtu_bytes: Some(1_400),
        fwmark: Some(0xca6c),
        table: Some("off".into()),
        peer: PublicKey([1; 32]),
        has_preshared_key: true,
        allowed_ips: nets(&["10.9.0.2/32", "10.2.0.0/16", "fd00:2::/64"]),
        endpoint: Some(HostPort {
            host: "2001:db8::1".into(),
            port: 51_820,
        }),
        keepalive_secs: Some(25),
        own: vec![
            (10, "DNS".into()),
            (11, "PostUp".into()),
            (12, "PreDown".into()),
            (13, "SaveConfig".into()),
        ],
    };
    assert_eq!(conf, expected);
    // What is secret is not kept.
    assert!(!format!("{conf:?}").contains(A));
}

#[test]
fn off_is_none() {
    let text = format!(
        "[Interface]\nPrivateKey={A}\nListenPort=0\nFwMark=off\n[Peer]\nPublicKey={B}\nPersistentKeepalive=off\n"
    );
    let conf = Conf::parse("wg0.conf", &text).expect("a configuration");
    assert_eq!(
        (conf.listen_port, conf.fwmark, conf.keepalive_secs),
        (None, None, None)
    );
}

#[test]
fn lines_are_named() {
    for (text, expected) in [
        (
            "[Interface]\nJc = 4\n",
            "wg0.conf:2: unknown key Jc in [Interface]",
        ),
        (
            "[Interface]\nAllowedIPs = 10.2.0.0/16\n",
            "wg0.conf:2: unknown key AllowedIPs in [Interface]",
        ),
        (
            "[Peer]\n\nAddress = 10.2.0.1\n",
            "wg0.conf:3: unknown key Address in [Peer]",
        ),
        ("MTU = 1400\n", "wg0.conf:1: MTU is before any section"),
        (
            "[Interface]\nMTU\n",
            "wg0.conf:2: not [Interface], [Peer] or KEY = VALUE",
        ),
        (
            "[Wireguard]\n",
            "wg0.conf:1: not [Interface], [Peer] or KEY = VALUE",
        ),
        (
            "[Interface]\nMTU = 1400\nmtu = 1420\n",
            "wg0.conf:3: MTU is given twice",
        ),
        (
            "[Interface]\nMTU = 100\n",
            "wg0.conf:2: MTU is not a number in 576 to 65535",
        ),
        (
            "[Interface]\nListenPort = 65536\n",
            "wg0.conf:2: ListenPort is not a port",
        ),
        (
            "[Interface]\nFwMark = x\n",
            "wg0.conf:2: FwMark is not a number or off",
        ),
        (
            "[Interface]\nAddress = 10.9.0.1/33\n",
            "wg0.conf:2: Address is not a list of addresses",
        ),
        (
            "[Peer]\nAllowedIPs = lan\n",
            "wg0.conf:2: AllowedIPs is not a list of networks",
        ),
        (
            "[Peer]\nEndpoint = 2001:db8::1:51820\n",
            "wg0.conf:2: Endpoint is not HOST:PORT",
        ),
        (
            "[Peer]\nEndpoint = gw.example.net\n",
            "wg0.conf:2: Endpoint is not HOST:PORT",
        ),
        (
            "[Peer]\nEndpoint = gw.example.net:0\n",
            "wg0.conf:2: Endpoint is not HOST:PORT",
        ),
        (
            "[Peer]\nPersistentKeepalive = often\n",
            "wg0.conf:2: PersistentKeepalive is not a number of seconds or off",
        ),
        (
            "[Peer]\nPublicKey = $A\n\n[Peer]\nPublicKey = $B\n",
            "wg0.conf:4: a second [Peer]: which of them is the far gateway is not known",
        ),
        (
            "[Peer]\nAllowedIPs = 10.2.0.0/16, 0.0.0.0/0\n",
            "wg0.conf:2: AllowedIPs hold the default route 0.0.0.0/0, which cannot be steered",
        ),
        (
            "[Peer]\nAllowedIPs = ::/0\n",
            "wg0.conf:2: AllowedIPs hold the default route ::/0, which cannot be steered",
        ),
        (
            "[Interface]\n[Peer]\nPublicKey = $A\n",
            "wg0.conf: [Interface] with a PrivateKey is missing",
        ),
        (
            "[Interface]\nPrivateKey = $A\n",
            "wg0.conf: [Peer] with a PublicKey is missing",
        ),
        ("", "wg0.conf: [Interface] with a PrivateKey is missing"),
    ] {
        assert_eq!(error(text), expected, "{text}");
    }
}

#[test]
fn a_key_that_is_none_is_not_told() {
    for key in ["PrivateKey", "ListenPort"] {
        let text = format!("[Interface]\n{key} = SECRET\n");
        assert!(!error(&text).contains("SECRET"));
    }
    let short = "[Interface]\nPrivateKey = AAAA\n";
    assert_eq!(
        error(short),
        "wg0.conf:2: PrivateKey is not a key in base64"
    );
}

#[test]
fn hosts_and_ports() {
    for text in ["192.0.2.1:51820", "gw.example.net:1", "[2001:db8::1]:65535"] {
        let parsed: HostPort = text.parse().expect("an endpoint");
        assert_eq!(parsed.to_string(), text);
    }
    for text in ["", ":1", "[::1]", "[gw]:1", "a b:1", "gw:65536", "gw:-1"] {
        assert_eq!(text.parse::<HostPort>(), Err(()), "{text}");
    }
}
