//! steer's userspace: everything `steerctl` does.
