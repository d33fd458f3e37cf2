//! Both ways to attach, under traffic through WireGuard in the kernel.

use std::time::Duration;

use anyhow::{Result, ensure};
use steer_tests::lab::{Family, attach_modes};
use steer_tests::scenario::{self, Fixture};
use steer_tests::traffic::{LiveFlows, LiveSpec};

use crate::release::running;

/// Of the kernel's releases.
const FIRST_WITH_TCX: (u32, u32) = (6, 6);
/// Twenty messages of every live flow, even when they are slow.
const WINDOW: Duration = Duration::from_secs(2);

/// Another `run` takes over what the first has pinned: no flow moves, nothing is lost, and it is
/// attached as it was.
fn upgraded(mode: &str) -> Result<()> {
    let mut f = Fixture::adapted(&[1, 1], |_, setup| setup.args(&["--attach", mode]))?;
    println!("{}", f.lab.implementation());
    let live = LiveFlows::start(
        &f.lab,
        LiveSpec {
            tcp: 20,
            udp: 20,
            ..LiveSpec::two_hundred(Family::V4)
        },
    )?;
    let flows = live.conversations();
    let before = f.observer.window(&flows, WINDOW)?;
    let programs = f.near.status()?.programs();
    f.near.run(&[1, 1])?;
    f.far.run(&[1, 1])?;
    let status = f.near.status()?;
    for hook in status.groups.iter().flat_map(|group| &group.hooks) {
        assert_eq!(hook.attach, mode, "{hook:?}");
    }
    let upgraded = status.programs();
    assert_eq!(upgraded.len(), programs.len());
    for (hook, program) in &programs {
        assert_ne!(
            upgraded.get(hook),
            Some(program),
            "{hook:?}: the old program still runs"
        );
    }
    let after = f.observer.window(&flows, WINDOW)?;
    assert_eq!(after.moved_since(&before, &flows), [], "by the upgrade");
    f.assert_nothing_lost(live)
}

#[test]
fn an_upgrade_in_place_by_tcx() -> Result<()> {
    scenario::run("an_upgrade_in_place_by_tcx", || {
        let has_tcx = attach_modes().contains(&"tcx");
        ensure!(
            has_tcx || running()? < FIRST_WITH_TCX,
            "this kernel should have TCX"
        );
        upgraded("tcx")
    })
}

#[test]
fn an_upgrade_in_place_by_clsact() -> Result<()> {
    scenario::run("an_upgrade_in_place_by_clsact", || upgraded("clsact"))
}
