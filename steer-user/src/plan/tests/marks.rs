//! Which marks, rules and tables a plan has.

use super::*;
use crate::net::Rule;

#[test]
fn marks() {
    let with = |change: &dyn Fn(&mut Request)| {
        let mut request = request(&["lan0"], &["wg0", "wg1@8"], &["10.2.0.0/16"]);
        request.hook = Some(HookChoice::Mode(HookMode::Mark));
        change(&mut request);
        request
    };
    let none = Existing::default();
    let first = planned(&with(&|_| ()), gateway(), &none);
    let marks = first.marks.expect("marks");
    assert_eq!((marks.mask.bits(), marks.slot), (0xff00_0000, 1));
    let narrow = |bits: &'static str| with(&|request| request.mark_mask = bits.parse().ok());
    assert_eq!(
        refused(&narrow("0x7"), gateway(), &none),
        "mark 0x00000007: no room for tunnel wg1, whose id is 8 | \
         more bits, or a smaller id: --tunnel wg1@0"
    );
    let marks = planned(&narrow("0xf"), gateway(), &none).marks;
    assert_eq!(marks.expect("marks").mask.bits(), 0xf);

    // What is there is kept, and not taken for somebody else's.
    let mut before = existing("default");
    before.hook = HookMode::Mark;
    before.mark_mask = 0x00ff_0000;
    before.routing_slot = 2;
    let devices = Devices::new(gateway());
    let mut with_rules = machine(&devices);
    let known = Marks {
        mask: MarkMask::new(0x00ff_0000).expect("a mask"),
        slot: 2,
    };
    with_rules.rules = known.rules([4]).iter().map(Rule::from).collect();
    let adopted = plan(&request(&[], &[], &[]), &with_rules, &before);
    assert_eq!(adopted.expect("a plan").marks, Some(known));
    // For somebody else they are in the way.
    let error = plan(&narrow("0xff0000"), &with_rules, &none).expect_err("used");
    assert_eq!(
        words(&error),
        "mark 0x00ff0000: IPv4 rule 'pref 5211 fwmark 0x50000/0xff0000 lookup 572560' uses these bits | \
         another steer's, or left by one whose pins are gone (ip rule del …); \
         give steer bits of its own: --mark-mask 0xff000000"
    );
}

#[test]
fn marks_for_what_is_too_big() {
    let mut devices = gateway();
    devices[3].mtu_bytes = 1_380;
    let net = &["10.2.0.0/16"];
    let unequal = planned(
        &request(&["lan0"], &["wg0", "wg1"], net),
        devices.clone(),
        &Existing::default(),
    );
    assert_eq!(unequal.mode, HookMode::Ingress);
    assert!(unequal.marks.is_some());
    // Those of another group need them as well.
    devices.push(wireguard(5, "wg5", "10.9.5.1/24", &[]));
    let request = request(&["lan0"], &["wg5"], &["10.3.0.0/16"]);
    let beside = planned(&request, devices.clone(), &existing("site"));
    assert!(beside.marks.is_some());
    devices[3].mtu_bytes = 1_420;
    assert!(
        planned(&request, devices, &existing("site"))
            .marks
            .is_none()
    );
}
