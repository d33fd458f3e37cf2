//! What must be there before a verb does anything.

use crate::{
    plan::{self, RequirementError},
    sys::{self, Capabilities},
};

/// Checks kernel and capabilities of this process.
pub(super) fn check() -> std::io::Result<Result<(), RequirementError>> {
    let kernel = plan::check_kernel(&sys::kernel_release()?);
    Ok(kernel.and(plan::check_capabilities(Capabilities::effective()?)))
}

/// The same for a start, which loads programs; `probes` says whether it probes tunnels, too.
pub(super) fn check_start(probes: bool) -> std::io::Result<Result<(), RequirementError>> {
    let kernel = plan::check_kernel(&sys::kernel_release()?);
    Ok(kernel.and(plan::check_start(Capabilities::effective()?, probes)))
}
