//! steer's userspace: everything `steerctl` does.

pub mod cli;
pub mod commands;
pub mod config;
pub mod datapath;
pub mod net;
pub mod output;
pub mod plan;
pub mod sys;
pub mod wall_clock;
