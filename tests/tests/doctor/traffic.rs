//! What is counted: a flow table that is full, and packets that are left to the kernel.

use anyhow::Result;
use steer_tests::steerctl::{Gateway, Sender};

use crate::patient::{Patient, test};

/// Sends a datagram of each of so many flows.
fn send(gateway: &Gateway, flows: usize) -> Result<()> {
    Sender::new(gateway.client(), flows)?.round()
}

test!(a_flow_table_that_is_full, |name| {
    let patient = Patient::steered(name, &["--max-flows", "64"])?;
    send(&patient.gateway, 60)?;
    let fault = patient.warns("flow_table", "flow table", "of 64 entries are used", "true")?;
    assert!(fault.fix.contains("--max-flows 128"), "{}", fault.fix);
    // Started anew it is empty.
    fault.undone("steerctl detach")?;
    patient.attach(&["--max-flows", "64"])?;
    send(&patient.gateway, 300)?;
    patient
        .warns("flow_table", "flow table", "", "true")?
        .undone("steerctl detach")?;
    Ok(())
});

test!(packets_that_no_tunnel_takes, |name| {
    let patient = Patient::steered(name, &[])?;
    patient.sh("steerctl disable wg0; steerctl disable wg1")?;
    send(&patient.gateway, 40)?;
    let few = patient.examine()?;
    let few = few.iter().find(|finding| finding.check == "passed");
    assert_eq!(
        few.map(|finding| finding.level.as_str()),
        Some("ok"),
        "{few:?}"
    );
    send(&patient.gateway, 60)?;
    let says = " packets were left to the kernel: no tunnel of the group could take them";
    patient
        .warns("passed", "no_tunnel", says, "true")?
        .undone("steerctl detach")
});
