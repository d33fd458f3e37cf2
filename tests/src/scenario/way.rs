//! The same lab under the kernel alone and under steer with each hook: what
//! the kernel alone does is what must come out of the others.

use anyhow::Result;

use super::lab;
use crate::lab::{Lab, Setup, Side, Steer};
use crate::traffic::Server;

/// Who steers, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Nobody: the kernel's route over `wg0`.
    Kernel,
    /// steer at the LAN devices' ingress, both directions past the kernel.
    Ingress,
    /// steer at the tunnels' egress, after netfilter.
    Egress,
    /// steer's marks, and the kernel's policy routing.
    Mark,
    /// steer where it thinks best.
    Auto,
}

impl Way {
    /// The argument of `--hook`; `None` without steer.
    pub fn hook(self) -> Option<&'static str> {
        match self {
            Self::Kernel => None,
            Self::Ingress => Some("ingress"),
            Self::Egress => Some("egress"),
            Self::Mark => Some("mark"),
            Self::Auto => Some("auto"),
        }
    }

    /// How many of so many tunnels carry flows.
    pub fn used(self, tunnels: usize) -> usize {
        if self == Self::Kernel { 1 } else { tunnels }
    }
}

/// A lab on the way chosen, and a server. Fields are dropped in this order.
#[derive(Debug)]
pub struct Scene {
    steers: Vec<Steer>,
    /// The server behind gateway B.
    pub server: Server,
    /// The lab.
    pub lab: Lab,
    /// Who steers.
    pub way: Way,
}

impl Scene {
    /// A lab with so many tunnels; `prepare` changes it before steer starts.
    pub fn up(way: Way, tunnels: usize, prepare: impl FnOnce(&Lab) -> Result<()>) -> Result<Self> {
        Self::up_as(way, tunnels, prepare, |_, setup| setup)
    }

    /// The same with other arguments for steer: `adapt` changes those of each gateway.
    pub fn up_as(
        way: Way,
        tunnels: usize,
        prepare: impl FnOnce(&Lab) -> Result<()>,
        adapt: impl Fn(Side, Setup) -> Setup,
    ) -> Result<Self> {
        let mut scene = Self::unsteered(tunnels)?;
        prepare(&scene.lab)?;
        scene.steer(way, adapt)?;
        Ok(scene)
    }

    /// The kernel alone, as yet.
    pub fn unsteered(tunnels: usize) -> Result<Self> {
        let lab = lab(tunnels)?;
        Ok(Self {
            steers: Vec::new(),
            server: Server::start(&lab)?,
            lab,
            way: Way::Kernel,
        })
    }

    /// Starts steer on both gateways: `adapt` changes the arguments for each.
    pub fn steer(&mut self, way: Way, adapt: impl Fn(Side, Setup) -> Setup) -> Result<()> {
        self.way = way;
        if let Some(hook) = way.hook() {
            let weights = vec![1; self.lab.options().tunnels];
            let steers = Steer::start_both(&self.lab, |side| {
                adapt(side, Setup::new(&weights).args(&["--hook", hook]))
            })?;
            self.steers.extend(steers);
        }
        Ok(())
    }

    /// steer on gateway A, if there is one.
    pub fn near(&self) -> Option<&Steer> {
        self.steers.first()
    }

    /// steer on gateway B, if there is one.
    pub fn far(&self) -> Option<&Steer> {
        self.steers.get(1)
    }

    /// Ends steer on both gateways in order: the kernel alone again.
    pub fn stop(&mut self) -> Result<()> {
        for mut steer in self.steers.drain(..) {
            steer.stop()?;
        }
        self.way = Way::Kernel;
        Ok(())
    }

    /// Whether flows on these tunnels (numbers, each once) are as they should
    /// be on this way: all on `wg0`, or on every tunnel.
    pub fn assert_spread(&self, tunnels: impl IntoIterator<Item = usize>) {
        let seen: std::collections::BTreeSet<_> = tunnels.into_iter().collect();
        let wanted = (0..self.way.used(self.lab.options().tunnels)).collect();
        assert_eq!(seen, wanted, "tunnels in use");
    }
}

/// A scenario as one test for each way.
#[macro_export]
macro_rules! ways {
    ($($test:ident: $body:path, $($way:ident)+;)+) => {$(
        mod $test {
            $($crate::ways!(@ $way $test $body);)+
        }
    )+};
    (@ kernel $test:ident $body:path) => { $crate::ways!(@@ kernel Kernel $test $body); };
    (@ ingress $test:ident $body:path) => { $crate::ways!(@@ ingress Ingress $test $body); };
    (@ egress $test:ident $body:path) => { $crate::ways!(@@ egress Egress $test $body); };
    (@ mark $test:ident $body:path) => { $crate::ways!(@@ mark Mark $test $body); };
    (@ auto $test:ident $body:path) => { $crate::ways!(@@ auto Auto $test $body); };
    (@@ $name:ident $way:ident $test:ident $body:path) => {
        #[test]
        fn $name() -> anyhow::Result<()> {
            let name = concat!(stringify!($test), "::", stringify!($name));
            $crate::scenario::run(name, || ($body)($crate::scenario::Way::$way))
        }
    };
}
