//! Which mode which gateway gets, and which it is refused.

use std::collections::BTreeSet;

use steer_common::abi::{Admin, Health, HookOrder};

use super::super::{ExistingGroup, ExistingTunnel, GroupRequest};
use super::*;
use crate::net::{DevicePattern, DeviceSet, Devices};

fn only(names: &[&str]) -> DeviceSet {
    let pattern = |name: &&str| match name.strip_suffix('*') {
        Some(prefix) => DevicePattern::Prefix(prefix.into()),
        None => DevicePattern::Name((*name).into()),
    };
    DeviceSet::Only(names.iter().map(pattern).collect::<BTreeSet<_>>())
}

fn nat(names: &[&str]) -> FindingKind {
    FindingKind::SourceNat {
        may_leave_by: only(names),
    }
}

fn on_devices(names: &[&str], ingress: bool) -> FindingKind {
    FindingKind::DeviceFilter {
        devices: only(names),
        ingress,
    }
}

fn findings(kinds: &[FindingKind]) -> Netfilter {
    let finding = |(index, kind): (usize, &FindingKind)| Finding {
        kind: kind.clone(),
        family: PacketFamily::Both,
        place: format!("chain {index}"),
    };
    Netfilter {
        findings: kinds.iter().enumerate().map(finding).collect(),
    }
}

fn tunnel(id: u8, mtu_bytes: u32) -> PlannedTunnel {
    PlannedTunnel {
        name: format!("wg{id}"),
        id,
        ifindex: 3 + u32::from(id),
        weight: 1,
        tier: 0,
        mtu_bytes,
        up: true,
        is_known: false,
        rp_filter_before: 0,
    }
}

/// A gateway with `lan0` (and `lan0.10`) and two tunnels.
struct Case {
    netfilter: Result<Netfilter, String>,
    strict: Vec<String>,
    existing: Existing,
    tunnels: Vec<PlannedTunnel>,
    request: Request,
    is_known: bool,
}

fn case(kinds: &[FindingKind]) -> Case {
    Case {
        netfilter: Ok(findings(kinds)),
        strict: Vec::new(),
        existing: Existing::default(),
        tunnels: vec![tunnel(0, 1_420), tunnel(1, 1_420)],
        request: Request {
            groups: vec![GroupRequest {
                name: "default".into(),
                ..GroupRequest::default()
            }],
            ..Request::default()
        },
        is_known: false,
    }
}

impl Case {
    fn wants(mut self, mode: HookMode) -> Self {
        self.request.hook = Some(HookChoice::Mode(mode));
        self
    }

    fn unequal(mut self) -> Self {
        self.tunnels[1].mtu_bytes = 1_380;
        self
    }

    fn strict(mut self, device: &str) -> Self {
        self.strict = vec![device.into()];
        self
    }

    fn bypasses(mut self) -> Self {
        self.request.bypass_netfilter = true;
        self
    }

    /// Steered so already, by this group.
    fn has(mut self, mode: HookMode, mss_clamp: u32) -> Self {
        let group = ExistingGroup {
            name: "default".into(),
            ..ExistingGroup::default()
        };
        self.existing = Existing {
            hook: mode,
            mss_clamp,
            groups: vec![group],
            ..Existing::default()
        };
        self.is_known = true;
        self
    }

    fn choose(self) -> (Result<Choice, PlanError>, Vec<String>) {
        let devices = Devices::default();
        let machine = Machine {
            devices: &devices,
            netfilter: self.netfilter,
            strict: self.strict,
            rules: Vec::new(),
            memory_bytes: 1 << 32,
        };
        let groups = [GroupPlan {
            follows_routes: false,
            name: "default".into(),
            id: 0,
            is_known: self.is_known,
            order: HookOrder::Last,
            hooks: Vec::new(),
            tunnels: self.tunnels,
            prefixes: vec!["10.2.0.0/16".parse().expect("a network")],
        }];
        let facts = Facts {
            machine: &machine,
            existing: &self.existing,
            lan: vec!["lan0", "lan0.10"],
            groups: &groups,
        };
        let mut notes = Vec::new();
        let choice = choose(&self.request, &facts, &mut notes);
        (choice, notes)
    }

    fn mode(self) -> HookMode {
        self.choose().0.expect("a choice").mode
    }

    fn note(self) -> String {
        let (choice, notes) = self.choose();
        choice.expect("a choice");
        notes.join("; ")
    }

    fn refusal(self) -> String {
        let error = self.choose().0.expect_err("a refusal");
        format!("{error} | {}", error.hint().unwrap_or_default())
    }

    fn mss_clamp(self) -> u32 {
        self.choose().0.expect("a choice").mss_clamp
    }
}

/// What enters by a LAN device with a strict `rp_filter` is to be looked at by the kernel.
#[test]
fn strict_lan_devices() {
    use FindingKind::Stateful;
    assert_eq!(case(&[]).strict("lan0").mode(), HookMode::Egress);
    assert_eq!(case(&[]).strict("lan0.10").mode(), HookMode::Egress);
    assert_eq!(case(&[]).strict("lan0").unequal().mode(), HookMode::Mark);
    // Tunnels are judged by the routes (`replies`).
    assert_eq!(case(&[]).strict("wg0").mode(), HookMode::Ingress);
    assert_eq!(case(&[]).strict("eth0").mode(), HookMode::Ingress);
    let why = case(&[]).strict("lan0").note();
    assert_eq!(why, "hook egress: net.ipv4.conf.lan0.rp_filter is strict");
    let both = case(&[Stateful]).strict("lan0").note();
    assert_eq!(both, "hook egress: chain 0 tracks connections");
    let asked = case(&[]).strict("lan0").wants(HookMode::Ingress).note();
    assert_eq!(
        asked,
        "hook ingress: steered packets bypass net.ipv4.conf.lan0.rp_filter, which is strict"
    );
}

#[test]
fn automatic() {
    use FindingKind::{DestinationNat, Filter, MssClamp, Stateful, TransparentProxy};
    use HookMode::{Egress, Ingress, Mark};
    for (kinds, expected) in [
        (vec![], Ingress),
        (vec![MssClamp], Ingress),
        (vec![Stateful], Egress),
        (vec![Filter], Egress),
        (vec![DestinationNat], Egress),
        (vec![TransparentProxy], Egress),
        // Per tunnel, by a pattern, or without a word on devices.
        (vec![nat(&["wg1"])], Mark),
        (vec![nat(&["wg*"]), Stateful], Mark),
        (vec![nat(&["eth0"])], Ingress),
        (vec![nat(&["eth0"]), Stateful], Egress),
        // Towards the LAN it is bypassed on the way back.
        (vec![nat(&["lan0"])], Egress),
        (vec![on_devices(&["lan0"], true)], Egress),
        (vec![on_devices(&["lan0.10"], true)], Egress),
        (vec![on_devices(&["wg0"], true)], Egress),
        (vec![on_devices(&["eth0"], true)], Ingress),
        // What is redirected on ingress still passes what is on the exits.
        (vec![on_devices(&["lan0", "wg0"], false)], Ingress),
        (vec![Stateful, on_devices(&["wg0"], false)], Mark),
        (vec![Stateful, on_devices(&["lan0"], false)], Egress),
    ] {
        assert_eq!(case(&kinds).mode(), expected, "{kinds:?}");
    }
    assert_eq!(
        case(&[FindingKind::SourceNat {
            may_leave_by: DeviceSet::Any
        }])
        .mode(),
        Mark
    );
    assert_eq!(case(&[]).unequal().mode(), Ingress);
    assert_eq!(case(&[Stateful]).unequal().mode(), Mark);
}

#[test]
fn reasons() {
    for (case, note) in [
        (
            case(&[]),
            "hook ingress: nothing on this gateway looks at forwarded packets",
        ),
        (
            case(&[FindingKind::Stateful]),
            "hook egress: chain 0 tracks connections",
        ),
        (
            case(&[FindingKind::Stateful]).unequal(),
            "hook mark: chain 0 tracks connections, and the tunnels' MTUs differ",
        ),
        (
            case(&[FindingKind::Filter, on_devices(&["wg0"], false)]),
            "hook mark: chain 0 filters packets, and chain 1 is on what leaves by a tunnel",
        ),
        (
            case(&[FindingKind::Stateful, nat(&["wg0"])]),
            "hook mark: chain 1 translates what leaves by a tunnel",
        ),
        (
            case(&[FindingKind::MssClamp]),
            "hook ingress: nothing on this gateway but an MSS clamp looks at forwarded packets; \
             MSS clamped to the tunnels' MTU: hook ingress bypasses chain 0, which does so",
        ),
        (
            case(&[FindingKind::Stateful])
                .wants(HookMode::Ingress)
                .bypasses(),
            "hook ingress: steered packets bypass chain 0",
        ),
        (
            case(&[nat(&["wg0"])]).wants(HookMode::Egress),
            "hook egress: flows that chain 0 translates stay on the tunnel of the kernel's route; \
             --hook mark spreads them",
        ),
    ] {
        assert_eq!(case.note(), note);
    }
}

#[test]
fn refusals() {
    let bypass =
        "--hook auto passes packets through it; --bypass-netfilter goes past it all the same";
    for (case, message) in [
        (
            case(&[FindingKind::Stateful]).wants(HookMode::Ingress),
            format!(
                "hook ingress: steered packets would bypass chain 0, which tracks connections | {bypass}"
            ),
        ),
        (
            case(&[nat(&["wg0"])]).wants(HookMode::Ingress),
            format!(
                "hook ingress: steered packets would bypass chain 0, which translates source addresses | {bypass}"
            ),
        ),
        (
            case(&[on_devices(&["wg1"], false)]).wants(HookMode::Egress),
            "hook egress: steered packets would bypass chain 0, which filters packets | \
             --hook mark passes packets through it; --bypass-netfilter goes past it all the same"
                .into(),
        ),
        (
            case(&[]).unequal().wants(HookMode::Egress),
            "hook egress: the tunnels' MTUs differ (wg0 1420, wg1 1380) | \
             --hook mark, or give the tunnels one MTU"
                .into(),
        ),
        (
            // No group may inherit what it would not be given.
            Case {
                is_known: false,
                ..case(&[FindingKind::Stateful]).has(HookMode::Ingress, 0)
            },
            format!(
                "hook ingress: steered packets would bypass chain 0, which tracks connections | {bypass}"
            ),
        ),
    ] {
        assert_eq!(case.refusal(), message);
    }
    let unequal_by_force = case(&[]).unequal().wants(HookMode::Egress).bypasses();
    assert!(unequal_by_force.refusal().contains("MTUs differ"));
}

#[test]
fn rules_that_cannot_be_read() {
    let unreadable = |case: Case| Case {
        netfilter: Err("list of nft rules: Operation not permitted".into()),
        ..case
    };
    let message = "netfilter's rules cannot be read: list of nft rules: Operation not permitted | \
                   --hook egress needs no answer, nor does --hook ingress --bypass-netfilter";
    assert_eq!(unreadable(case(&[])).refusal(), message);
    assert_eq!(
        unreadable(case(&[]).wants(HookMode::Ingress)).refusal(),
        message
    );
    for (case, mode) in [
        (
            case(&[]).wants(HookMode::Ingress).bypasses(),
            HookMode::Ingress,
        ),
        (case(&[]).wants(HookMode::Egress), HookMode::Egress),
        (case(&[]).wants(HookMode::Mark), HookMode::Mark),
        (case(&[]).has(HookMode::Ingress, 0), HookMode::Ingress),
    ] {
        assert_eq!(unreadable(case).mode(), mode);
    }
}

#[test]
fn what_is_there_is_kept() {
    use FindingKind::Stateful;
    // What came since is told, and changes nothing.
    let kept = case(&[Stateful]).has(HookMode::Ingress, 0);
    assert_eq!(
        kept.note(),
        "hook ingress: steered packets would bypass chain 0, which tracks connections"
    );
    assert_eq!(
        case(&[]).has(HookMode::Mark, 0).choose(),
        (
            Ok(Choice {
                mode: HookMode::Mark,
                mss_clamp: 0
            }),
            vec![]
        )
    );
    // Said again, it is checked again.
    let again = case(&[Stateful])
        .has(HookMode::Ingress, 0)
        .wants(HookMode::Ingress);
    assert!(again.choose().0.is_err());
    let mut auto = case(&[Stateful]).has(HookMode::Ingress, 0);
    auto.request.hook = Some(HookChoice::Auto);
    assert_eq!(auto.mode(), HookMode::Egress);

    let with = |mut case: Case, clamp| {
        case.request.mss_clamp = Some(clamp);
        case.mss_clamp()
    };
    let had = |clamp| case(&[FindingKind::MssClamp]).has(HookMode::Ingress, clamp);
    assert_eq!(had(0).mss_clamp(), 0);
    assert_eq!(had(MSS_CLAMP_MTU).mss_clamp(), MSS_CLAMP_MTU);
    assert_eq!(had(1_300).mss_clamp(), 1_300);
    assert_eq!(had(1_300).wants(HookMode::Mark).mss_clamp(), 1_300);
    assert_eq!(had(MSS_CLAMP_MTU).wants(HookMode::Mark).mss_clamp(), 0);
    assert_eq!(with(had(0), MssClamp::Auto), MSS_CLAMP_MTU);
    assert_eq!(with(had(1_300), MssClamp::Off), 0);
    assert_eq!(with(case(&[]), MssClamp::At(1_300)), 1_300);
    assert_eq!(
        case(&[FindingKind::MssClamp, Stateful]).mss_clamp(),
        0,
        "egress passes it"
    );
}

#[test]
fn one_mode_for_all_groups() {
    let other = ExistingGroup {
        name: "site".into(),
        tunnels: vec![ExistingTunnel {
            name: "wg9".into(),
            id: 9,
            weight: 1,
            tier: 0,
            admin: Admin::Active,
            health: Health::Up,
            rp_filter_before: 0,
        }],
        ..ExistingGroup::default()
    };
    let mut alone = case(&[]).has(HookMode::Ingress, 0).wants(HookMode::Mark);
    alone.existing.groups.truncate(1);
    assert_eq!(alone.mode(), HookMode::Mark);
    let mut two = case(&[]).has(HookMode::Ingress, 0).wants(HookMode::Mark);
    two.existing.groups.push(other);
    assert_eq!(
        two.refusal(),
        "hook mark: group site steers with hook ingress | \
         all groups have one hook: --hook ingress, or steerctl detach first"
    );
}

#[test]
fn families_that_are_not_steered() {
    let mut v6 = case(&[FindingKind::Stateful]);
    if let Ok(netfilter) = &mut v6.netfilter {
        netfilter.findings[0].family = PacketFamily::Ipv6;
    }
    assert_eq!(v6.mode(), HookMode::Ingress);
}
