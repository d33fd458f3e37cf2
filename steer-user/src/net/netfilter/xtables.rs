//! iptables' matches and targets by name, whether `nf_tables` runs them or the
//! older tables do.

use super::ruleset::{Effect, Rule};

/// Notes what a match tells about its rule.
pub(super) fn note_match(name: &str, rule: &mut Rule) {
    if matches!(
        name,
        "cluster"
            | "connbytes"
            | "connlabel"
            | "connlimit"
            | "connmark"
            | "conntrack"
            | "helper"
            | "state"
    ) {
        rule.effects.insert(Effect::Stateful);
    }
}

/// Notes what a target does.
pub(super) fn note_target(name: &str, rule: &mut Rule) {
    let effect = match name {
        "CLUSTERIP" | "CONNMARK" | "CONNSECMARK" | "CT" | "FLOWOFFLOAD" | "SYNPROXY" => {
            Effect::Stateful
        }
        "MASQUERADE" | "SAME" | "SNAT" | "SNPT" => Effect::SourceNat,
        "DNAT" | "DNPT" | "REDIRECT" => Effect::DestinationNat,
        "NETMAP" => Effect::NetMap,
        "TCPMSS" => Effect::MssClamp,
        "TPROXY" => Effect::TransparentProxy,
        // They only tell somebody.
        "AUDIT" | "LED" | "LOG" | "NFLOG" | "TRACE" | "ULOG" => return,
        _ => {
            rule.acts = true;
            return;
        }
    };
    rule.effects.insert(effect);
}
