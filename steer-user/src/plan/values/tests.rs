//! Every form, and every refusal by its message.

use super::*;

fn message<T: std::fmt::Debug>(result: Result<T, ValueError>) -> String {
    result.expect_err("refused").to_string()
}

#[test]
fn tunnel_forms() {
    let spec = |name: &str, weight, id| TunnelSpec {
        name: name.into(),
        weight,
        id,
    };
    assert_eq!("wg0".parse(), Ok(spec("wg0", None, None)));
    assert_eq!("wg0=3".parse(), Ok(spec("wg0", Some(3), None)));
    assert_eq!("wg0@7".parse(), Ok(spec("wg0", None, Some(7))));
    assert_eq!("wg0=0@254".parse(), Ok(spec("wg0", Some(0), Some(254))));
    assert_eq!(
        message("wg0@255".parse::<TunnelSpec>()),
        "id of wg0: \"255\" is not a number in 0 to 254"
    );
    assert_eq!(
        message("=3".parse::<TunnelSpec>()),
        "tunnel \"=3\" is not NAME, NAME=WEIGHT or NAME=WEIGHT@ID"
    );
    assert_eq!(
        message("averyverylongname".parse::<TunnelSpec>()),
        "\"averyverylongname\" is not a device name: 1 to 15 characters without space and slash"
    );
}

#[test]
fn weight_errors() {
    for given in ["70000", "-1", "99999999999999999999"] {
        assert_eq!(
            message(format!("wg0={given}").parse::<WeightSpec>()),
            format!("weight of wg0: {given} is not in 0 to 65535")
        );
    }
    for given in ["many", "", "1.5", "0x10", "+1"] {
        assert_eq!(
            message(format!("wg0={given}").parse::<WeightSpec>()),
            format!("weight of wg0: {given:?} is not a number")
        );
    }
    assert_eq!(
        message("wg0".parse::<WeightSpec>()),
        "\"wg0\" is not NAME=WEIGHT"
    );
    assert_eq!(
        "wg0=65535".parse(),
        Ok(WeightSpec {
            name: "wg0".into(),
            weight: 65_535
        })
    );
}

#[test]
fn prefix_errors() {
    assert_eq!(
        message(prefix("10.2/16")),
        "prefix \"10.2/16\" is not an address and a length like 10.2.0.0/16 or fd00:2::/64"
    );
    let error = prefix("10.2.3.4/16").expect_err("host bits");
    assert_eq!(
        error.to_string(),
        "prefix 10.2.3.4/16 has bits set behind its length"
    );
    assert_eq!(error.hint().as_deref(), Some("the network is 10.2.0.0/16"));
    assert!(prefix("fd00:2::/64").is_ok());
    assert!(prefix("10.2.0.0").is_err());
    assert!(prefix("10.2.0.0/33").is_err());
}

#[test]
fn seeds() {
    assert_eq!(seed("0xFFFFFFFFFFFFFFFF"), Ok(u64::MAX));
    assert_eq!(seed("42"), Ok(42));
    assert_eq!(
        message(seed("-1")),
        "seed \"-1\" is not a number up to 2^64-1"
    );
    assert!(seed("0x").is_err());
    assert!(seed("0x+1").is_err());
}

#[test]
fn idle_times() {
    let spec: IdleSpec = "30m".parse().expect("a time");
    assert_eq!(spec.all, Some(Duration::from_mins(30)));
    let spec: IdleSpec = "tcp=2h, udp=5m".parse().expect("two times");
    assert_eq!(spec.tcp, Some(Duration::from_hours(2)));
    assert_eq!(spec.udp, Some(Duration::from_mins(5)));
    assert_eq!(
        message("soon".parse::<IdleSpec>()),
        "idle time \"soon\" is not a time"
    );
    assert_eq!(
        message("0s".parse::<IdleSpec>()),
        "idle time \"0s\" is not between 1 second and 30 days"
    );
    assert_eq!(
        message("smtp=1m".parse::<IdleSpec>()),
        "idle time \"smtp=1m\": \"smtp\" is not tcp, closing, udp or other"
    );
}

#[test]
fn group_names() {
    assert!(group_name("default").is_ok());
    assert_eq!(
        message(group_name("a b")),
        "\"a b\" is not a group name: 1 to 15 letters, digits, dots, dashes and underscores"
    );
}

#[test]
fn mss_clamps() {
    assert_eq!("auto".parse(), Ok(MssClamp::Auto));
    assert_eq!("off".parse(), Ok(MssClamp::Off));
    assert_eq!("536".parse(), Ok(MssClamp::At(536)));
    assert_eq!("65495".parse(), Ok(MssClamp::At(65_495)));
    for given in ["535", "65496", "0", "1", "-1", "AUTO", "", "+600"] {
        assert_eq!(
            message(given.parse::<MssClamp>()),
            format!("MSS clamp {given:?} is not auto, off or a number in 536 to 65495")
        );
    }
}
