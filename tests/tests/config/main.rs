//! A gateway by its configuration file: several groups, checking, reading again, and `run` as a service.

mod fixture;

mod check;
mod disk;
mod groups;
mod reload;
mod service;
