//! `IPsec` policies of packets that are steered.

use crate::patient::{Patient, test};

const POLICY: &str = "src 10.1.0.0/16 dst 10.2.0.0/16 dir out";

test!(a_policy_that_steered_packets_bypass, |name| {
    let patient = Patient::steered(name, &["--hook", "ingress"])?;
    let add = format!(
        "ip xfrm policy add {POLICY} tmpl src 192.0.2.1 dst 192.0.2.2 proto esp mode tunnel"
    );
    let says = format!("IPsec policy {POLICY} is about packets of prefix 10.2.0.0/16");
    patient.fails("ipsec", "IPsec", &says, &add)?.cured()?;
    // Another policy, of what is not steered, is nobody's business.
    patient.sh("steerctl detach; ip xfrm policy deleteall")?;
    patient.attach(&["--hook", "ingress"])?;
    patient.sh(&add.replace("10.2.0.0", "10.3.0.0"))?;
    let findings = patient.examine()?;
    let told = findings.iter().find(|finding| finding.check == "ipsec");
    let told = told.map(|finding| finding.level.as_str());
    assert_eq!(told, Some("ok"));
    Ok(())
});
