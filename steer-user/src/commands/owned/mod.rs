//! What steer puts on the machine besides its maps, and takes away again.

pub(super) mod hooks;
pub(super) mod routing;
pub(super) mod surroundings;
pub(super) mod sysctls;
