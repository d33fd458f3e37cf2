//! Which kernels steer runs on.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use steer_tests::lab::steerctl_path;
use steer_tests::steerctl::{Outcome, Refusal};

/// The oldest kernel that `steerctl` takes.
const OLDEST: (u32, u32) = (5, 15);

/// `6.1.0-56-cloud-amd64` → (6, 1).
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// The running kernel's.
pub(crate) fn running() -> Result<(u32, u32)> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    version(&release).context("a release without numbers")
}

#[test]
fn old_kernels_are_refused_and_no_others() -> Result<()> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let release = release.trim();
    let is_old = running()? < OLDEST;
    let pins = Path::new("/sys/fs/bpf/vm-release");
    let old = format!("kernel {release} is too old: steer needs 5.15 or newer");
    for verb in ["run", "attach"] {
        let mut command = Command::new(steerctl_path()?);
        command
            .arg(verb)
            .args(["--iface", "nobody0", "--tunnel", "nobody0"])
            .args(["--prefix", "10.0.0.0/8", "--pin-dir"])
            .arg(pins);
        let outcome = Outcome::of(&mut command)?;
        println!("{verb}: {}", outcome.stderr.trim_end());
        if is_old {
            outcome.refused(&Refusal {
                code: 1,
                message: &old,
                hint: Some("boot a newer kernel"),
            })?;
        } else {
            // It came as far as the device that is not there.
            ensure!(
                outcome.code == 1 && outcome.stderr.contains("nobody0"),
                "{outcome:?}"
            );
        }
        ensure!(!pins.exists(), "{}: left behind", pins.display());
    }
    Ok(())
}
