use std::collections::BTreeSet;

use super::super::attributes::build::{attribute, nested, number, text};
use super::*;

const OIF: u32 = 5;
const OIFNAME: u32 = 7;

fn expression(name: &str, data: &[Vec<u8>]) -> Vec<u8> {
    nested(LIST_ELEM, &[text(EXPR_NAME, name), nested(EXPR_DATA, data)])
}

fn load(register: u32, key: u32) -> Vec<u8> {
    expression("meta", &[number(1, register), number(2, key)])
}

fn compare(register: u32, operator: u32, value: &[u8]) -> Vec<u8> {
    let data = nested(3, &[attribute(DATA_VALUE, value)]);
    expression("cmp", &[number(1, register), number(2, operator), data])
}

fn immediate(code: i32, chain: Option<&str>) -> Vec<u8> {
    let mut verdict = vec![number(1, code.cast_unsigned())];
    verdict.extend(chain.map(|chain| text(2, chain)));
    let data = nested(2, &[nested(DATA_VERDICT, &verdict)]);
    expression("immediate", &[number(1, REGISTER_VERDICT), data])
}

fn parse(expressions: &[Vec<u8>]) -> Parsed {
    rule(Attributes::new(&expressions.concat())).expect("a sound rule")
}

#[test]
fn effects() {
    let effect = |name: &str, data: &[Vec<u8>]| {
        let parsed = parse(&[expression("counter", &[]), expression(name, data)]);
        (parsed.rule.effects.first().copied(), parsed.rule.acts)
    };
    let of = |effect| (Some(effect), false);
    assert_eq!(
        effect("ct", &[number(1, 1), number(2, 0)]),
        of(Effect::Stateful)
    );
    assert_eq!(
        effect("flow_offload", &[text(1, "fast")]),
        of(Effect::Stateful)
    );
    assert_eq!(effect("synproxy", &[]), of(Effect::Stateful));
    assert_eq!(effect("connlimit", &[number(1, 9)]), of(Effect::Stateful));
    assert_eq!(effect("nat", &[number(1, 0)]), of(Effect::SourceNat));
    assert_eq!(effect("nat", &[number(1, 1)]), of(Effect::DestinationNat));
    assert_eq!(effect("masq", &[]), of(Effect::SourceNat));
    assert_eq!(effect("redir", &[]), of(Effect::DestinationNat));
    assert_eq!(effect("tproxy", &[]), of(Effect::TransparentProxy));
    assert_eq!(effect("target", &[text(1, "TCPMSS")]), of(Effect::MssClamp));
    assert_eq!(
        effect("match", &[text(1, "conntrack")]),
        of(Effect::Stateful)
    );
    assert_eq!(effect("objref", &[number(1, 3)]), of(Effect::Stateful));

    let acts = (None, true);
    assert_eq!(effect("reject", &[]), acts);
    assert_eq!(effect("of the future", &[]), acts);
    assert_eq!(effect("notrack", &[]), acts);
    assert_eq!(effect("target", &[text(1, "MARK")]), acts);
    assert_eq!(effect("meta", &[number(2, 3), number(3, 1)]), acts, "set");
    assert_eq!(effect("payload", &[number(5, 1)]), acts, "written");
    assert_eq!(effect("objref", &[text(4, "map")]), acts);

    let looks = (None, false);
    assert_eq!(effect("meta", &[number(1, 1), number(2, 3)]), looks);
    assert_eq!(effect("payload", &[number(1, 1)]), looks);
    assert_eq!(effect("target", &[text(1, "LOG")]), looks);
    assert_eq!(effect("match", &[text(1, "multiport")]), looks);
    assert_eq!(effect("objref", &[number(1, 1)]), looks);
}

#[test]
fn segment_sizes() {
    let option = |kind: u8, operation: u32, register: Vec<u8>| {
        let data = [attribute(2, &[kind]), number(6, operation), register];
        parse(&[expression("exthdr", &data)]).rule
    };
    let written = || number(7, 1);
    let clamp = option(2, 1, written());
    assert_eq!(clamp.effects, BTreeSet::from([Effect::MssClamp]));
    for other in [
        option(3, 1, written()),
        option(2, 0, written()),
        option(2, 1, vec![]),
    ] {
        assert_eq!((other.effects.len(), other.acts), (0, true));
    }
    assert_eq!(option(2, 1, number(1, 1)), Rule::default(), "only read");
}

#[test]
fn verdicts() {
    let verdict = |code, chain| {
        let verdicts = parse(&[immediate(code, chain)]).rule.verdicts;
        assert_eq!(verdicts.len(), 1);
        verdicts.into_iter().next()
    };
    let user = Some(Verdict::Chain("user".into()));
    assert_eq!(verdict(libc::NFT_JUMP, Some("user")), user);
    assert_eq!(verdict(libc::NFT_GOTO, Some("user")), user);
    assert_eq!(verdict(libc::NF_ACCEPT, None), Some(Verdict::Continue));
    assert_eq!(verdict(libc::NFT_RETURN, None), Some(Verdict::Continue));
    assert_eq!(verdict(libc::NF_DROP, None), Some(Verdict::Drop));
    assert_eq!(verdict(libc::NF_QUEUE, None), Some(Verdict::Drop));
    let value = nested(2, &[attribute(DATA_VALUE, &[0; 4])]);
    let plain = parse(&[expression("immediate", &[number(1, 1), value])]);
    assert_eq!(plain, Parsed::default(), "a value is no verdict");
}

#[test]
fn devices_that_are_left_by() {
    let by = |expressions: &[Vec<u8>]| parse(expressions).rule.leaves_by;
    let one = |name: &[u8]| DeviceSet::one(DevicePattern::compared(name));
    let wg0 = b"wg0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    assert_eq!(by(&[load(1, OIFNAME), compare(1, 0, wg0)]), one(wg0));
    assert_eq!(by(&[load(1, OIFNAME), compare(1, 0, b"wg")]), one(b"wg"));
    assert_eq!(by(&[load(8, OIFNAME), compare(8, 0, b"wg0\0")]), one(wg0));
    let any = [
        vec![load(1, OIFNAME), compare(1, 1, wg0)],
        vec![load(1, OIFNAME), compare(2, 0, wg0)],
        vec![load(1, 6), compare(1, 0, wg0)],
        vec![load(1, OIFNAME), load(1, 6), compare(1, 0, wg0)],
        vec![compare(1, 0, wg0)],
        vec![
            load(1, OIFNAME),
            expression("bitwise", &[number(1, 1), number(2, 1)]),
            compare(1, 0, wg0),
        ],
    ];
    for rule in any {
        assert_eq!(by(&rule), DeviceSet::Any, "{rule:?}");
    }
    let index = parse(&[load(1, OIF), compare(1, 0, &7u32.to_ne_bytes())]);
    assert_eq!(index.leaves_by_index, Some(7));
    assert_eq!(index.rule.leaves_by, DeviceSet::Any, "not yet looked up");
}

#[test]
fn sets() {
    let lookup = |more: &[Vec<u8>]| {
        let data = [&[text(1, "set"), number(2, 1)], more].concat();
        parse(&[load(1, OIFNAME), expression("lookup", &data)])
    };
    let found = |parsed: Parsed| (parsed.leaves_by_set, parsed.verdict_maps);
    let set = || Some("set".to_owned());
    assert_eq!(found(lookup(&[])), (set(), vec![]));
    assert_eq!(found(lookup(&[number(5, 0)])), (set(), vec![]));
    assert_eq!(found(lookup(&[number(5, 1)])), (None, vec![]), "not in it");
    assert_eq!(found(lookup(&[number(3, 1)])), (None, vec![]), "a map");
    let verdicts = (None, vec!["set".to_owned()]);
    assert_eq!(found(lookup(&[number(3, REGISTER_VERDICT)])), verdicts);
}

#[test]
fn nonsense() {
    let nameless = nested(LIST_ELEM, &[nested(EXPR_DATA, &[])]);
    let data = |name, data: &[Vec<u8>]| expression(name, data);
    for bytes in [
        nameless,
        data("nat", &[]),
        data("nat", &[attribute(1, &[0; 2])]),
        data("match", &[]),
        data("lookup", &[]),
        immediate(libc::NFT_JUMP, None),
        [load(1, OIF), compare(1, 0, &[7])].concat(),
    ] {
        let error = rule(Attributes::new(&bytes)).expect_err("nonsense");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
