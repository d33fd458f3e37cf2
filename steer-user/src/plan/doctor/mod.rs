//! What on a machine would stop steering, or make it wrong: facts come in, findings go out. Pure.
//!
//! A check that a start makes as well shares its judgement with the start. What a first start would
//! refuse is a failure here; what works, but not as it should, is a warning. `docs/doctor.md` is made from the
//! checks.

mod facts;
mod hooks;
mod kernel;
mod lan;
mod marks;
mod mtu;
mod netfilter;
mod routes;
mod state;
mod traffic;
mod tunnels;
mod wireguard;

pub use facts::{
    ConfigFacts, Facts, HookFacts, HookState, Host, Loaded, PinPlace, Pins, Steered, SteeredGroup,
    SteeredTunnel, Sysctls, Traffic, Underlay, XdpFacts, found_in_plan, found_without_pins,
};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// Works, but not as it should; or may not.
    Warn,
    /// Steering is stopped, or wrong.
    Fail,
}

impl Level {
    /// The name in JSON and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What a check is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// The kernel and what this process may do.
    Kernel,
    /// What is pinned, and who looks after it.
    State,
    /// Programs on devices.
    Hooks,
    /// The tunnels, and WireGuard in them.
    Tunnels,
    /// Packet sizes.
    Mtu,
    /// The kernel's routing.
    Routes,
    /// Packet marks.
    Marks,
    /// Netfilter.
    Netfilter,
    /// LAN devices.
    Lan,
    /// What was counted.
    Traffic,
}

impl Section {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 10] = [
        Self::Kernel,
        Self::State,
        Self::Hooks,
        Self::Tunnels,
        Self::Mtu,
        Self::Routes,
        Self::Marks,
        Self::Netfilter,
        Self::Lan,
        Self::Traffic,
    ];

    /// The name in JSON, and the heading.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::State => "state",
            Self::Hooks => "hooks",
            Self::Tunnels => "tunnels",
            Self::Mtu => "mtu",
            Self::Routes => "routes",
            Self::Marks => "marks",
            Self::Netfilter => "netfilter",
            Self::Lan => "lan",
            Self::Traffic => "traffic",
        }
    }
}

/// One result of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The check's name.
    pub check: &'static str,
    /// What it is about.
    pub section: Section,
    /// How bad it is.
    pub level: Level,
    /// The device, prefix, … that it is about.
    pub subject: String,
    /// What is so.
    pub message: String,
    /// What makes it ok: a command, where one does.
    pub fix: Option<String>,
}

/// A finding without the check that made it.
struct Judgement {
    level: Level,
    subject: String,
    message: String,
    fix: Option<String>,
}

impl Judgement {
    fn new(level: Level, subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            level,
            subject: subject.into(),
            message: message.into(),
            fix: None,
        }
    }

    fn with_fix(self, fix: impl Into<String>) -> Self {
        Self {
            fix: Some(fix.into()),
            ..self
        }
    }
}

fn ok(subject: impl Into<String>, message: impl Into<String>) -> Judgement {
    Judgement::new(Level::Ok, subject, message)
}

fn warn(subject: impl Into<String>, message: impl Into<String>) -> Judgement {
    Judgement::new(Level::Warn, subject, message)
}

fn fail(subject: impl Into<String>, message: impl Into<String>) -> Judgement {
    Judgement::new(Level::Fail, subject, message)
}

/// What is wrong, or else the one line that says that nothing is.
fn or_ok(
    problems: Vec<Judgement>,
    subject: impl Into<String>,
    message: impl Into<String>,
) -> Vec<Judgement> {
    if problems.is_empty() {
        vec![ok(subject, message)]
    } else {
        problems
    }
}

/// A check.
pub struct Check {
    /// Its name in JSON.
    pub name: &'static str,
    /// What it is about.
    pub section: Section,
    /// When it fails, if it can.
    pub fails: Option<&'static str>,
    /// When it warns, if it can.
    pub warns: Option<&'static str>,
    /// Judges; nothing where it does not apply.
    judge: fn(&Facts<'_>) -> Vec<Judgement>,
}

/// All checks, in the order in which they are made.
pub const CHECKS: &[Check] = &[
    kernel::VERSION,
    kernel::CAPABILITIES,
    kernel::PROGRAMS,
    kernel::JIT,
    kernel::ATTACH,
    kernel::BPFFS,
    state::PINS,
    state::DAEMON,
    state::CONFIG,
    state::DISCOVERY,
    hooks::HOOKS,
    hooks::OTHER_PROGRAMS,
    hooks::OTHER_STEER,
    hooks::XDP,
    tunnels::DEVICES,
    tunnels::GROUPS,
    tunnels::TIERS,
    tunnels::ADMIN,
    tunnels::HEALTH,
    tunnels::PROBE_TARGETS,
    wireguard::PEERS,
    wireguard::HANDSHAKES,
    wireguard::KEEPALIVE,
    wireguard::ALLOWED_IPS,
    wireguard::OVERLAP,
    wireguard::FAR_DEVICE,
    wireguard::THREADED,
    mtu::GROUP,
    mtu::UNDERLAY,
    mtu::IPV6,
    routes::FORWARDING,
    routes::DEVICE_FORWARDING,
    routes::ROUTES,
    routes::FOLLOWED,
    routes::PREFIXES,
    routes::RP_FILTER,
    marks::USERS,
    marks::RULES,
    marks::ROUTES,
    marks::SHADOWED,
    marks::SRC_VALID_MARK,
    marks::REFLECT,
    netfilter::READABLE,
    netfilter::BYPASSED,
    netfilter::IPSEC,
    lan::DEVICES,
    lan::LRO,
    traffic::FLOW_TABLE,
    traffic::PASSED,
];

/// Makes all checks: findings by section, the worst first.
pub fn examine(facts: &Facts<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = CHECKS
        .iter()
        .flat_map(|check| {
            (check.judge)(facts).into_iter().map(|judgement| Finding {
                check: check.name,
                section: check.section,
                level: judgement.level,
                subject: judgement.subject,
                message: judgement.message,
                fix: judgement.fix,
            })
        })
        .collect();
    findings.sort_by_key(|finding| (finding.section, std::cmp::Reverse(finding.level)));
    findings
}

#[cfg(test)]
mod tests;
