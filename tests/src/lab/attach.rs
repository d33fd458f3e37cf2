//! Ways to attach programs to devices, as far as this kernel has them: TCX came with 6.6.

use anyhow::Result;
use steer_user::datapath::probe;

use super::Missing;

/// What `--attach` can be asked for here.
pub fn attach_modes() -> &'static [&'static str] {
    const ALL: [&str; 2] = ["clsact", "tcx"];
    if probe::has_tcx("lo") {
        &ALL
    } else {
        &ALL[..1]
    }
}

/// What `--attach auto` comes to here.
pub fn attach_auto() -> &'static str {
    attach_modes()[attach_modes().len() - 1]
}

/// Fails with what is missing if these arguments of `steerctl` ask for more.
pub(crate) fn check_attach<S: AsRef<str>>(args: &[S]) -> Result<()> {
    let asked = args.windows(2).find(|pair| pair[0].as_ref() == "--attach");
    match asked.map(|pair| pair[1].as_ref()) {
        Some("tcx") => check_tcx(),
        _ => Ok(()),
    }
}

/// Fails if this kernel has no TCX.
pub(super) fn check_tcx() -> Result<()> {
    if attach_modes().contains(&"tcx") {
        Ok(())
    } else {
        Err(Missing("this kernel has no TCX".into()).into())
    }
}
