//! Interleaved rounds: in each, every system is measured once, all with the same ports and hash seeds.

use std::{env, fs::File, io::Read as _};

use anyhow::{Context as _, Result, ensure};

use super::{
    Report,
    peers::Peer,
    values::{Value, Values},
};
use crate::lab::wait;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// How often everything is measured.
    pub rounds: usize,
    /// Only systems whose name contains this.
    pub only: Option<String>,
    /// What the rounds' seeds follow from.
    pub seed: u64,
}

impl Request {
    /// The seed is `STEER_SEED`, or a random one.
    pub fn new(rounds: usize, only: Option<String>) -> Result<Self> {
        let seed = match env::var("STEER_SEED") {
            Ok(text) => text.parse().with_context(|| format!("STEER_SEED={text}"))?,
            Err(_) => random()?,
        };
        Ok(Self { rounds, only, seed })
    }
}

fn random() -> Result<u64> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// A run that goes on.
pub(super) struct Rounds {
    request: Request,
    report: Report,
    values: Values,
    seeds: Seeds,
    done: fn(&str),
}

impl Rounds {
    /// A run over some of these systems; `done` hears of each that was measured.
    pub(super) fn new(
        figure: &str,
        method: String,
        request: &Request,
        peers: &[Peer],
        done: fn(&str),
    ) -> Result<Self> {
        selected(peers, request.only.as_deref())?;
        let mut report = Report::new(figure, method, request.rounds);
        report.seed = Some(request.seed);
        report.filter.clone_from(&request.only);
        done(&format!("STEER_SEED={}", request.seed));
        Ok(Self {
            request: request.clone(),
            report,
            values: Values::default(),
            seeds: Seeds(request.seed),
            done,
        })
    }

    /// Measures these systems in turns; each round begins with another one. A system that fails takes no
    /// further part in `what`.
    pub(super) fn measure(
        &mut self,
        what: &str,
        peers: &[Peer],
        mut one: impl FnMut(Peer, u64) -> Result<Vec<Value>>,
    ) -> Result<()> {
        let mut peers = selected(peers, self.request.only.as_deref()).unwrap_or_default();
        for round in 0..self.request.rounds {
            let seed = self.seeds.next();
            for peer in turn(&peers, round) {
                wait::check_interrupt()?;
                match one(peer, seed) {
                    Ok(values) => {
                        for value in values {
                            self.values.add(&peer.to_string(), value);
                        }
                        (self.done)(&format!("{what}, round {}: {peer}", round + 1));
                    }
                    Err(error) => {
                        // Not a failure of the system.
                        wait::check_interrupt()?;
                        self.leave_out(&format!("{peer}, {what}: {error:#}"));
                        peers.retain(|other| *other != peer);
                    }
                }
            }
        }
        Ok(())
    }

    /// Notes what is not measured, and why.
    pub(super) fn leave_out(&mut self, reason: &str) {
        (self.done)(&format!("NOT MEASURED {reason}"));
        self.report.left_out.push(reason.to_owned());
    }

    /// What was measured. In each round, every system gave one value of a kind.
    pub(super) fn paired(mut self) -> Result<Report> {
        self.report.groups = self.values.paired()?;
        Ok(self.report)
    }

    /// The same, if a system gave several values in a round.
    pub(super) fn unpaired(mut self) -> Result<Report> {
        self.report.groups = self.values.unpaired()?;
        Ok(self.report)
    }
}

/// Those whose name contains `only`.
fn selected(peers: &[Peer], only: Option<&str>) -> Result<Vec<Peer>> {
    let Some(only) = only else {
        return Ok(peers.to_vec());
    };
    let is_meant = |peer: &Peer| peer.to_string().contains(only);
    let meant: Vec<_> = peers.iter().copied().filter(is_meant).collect();
    let names: Vec<_> = peers.iter().map(ToString::to_string).collect();
    ensure!(
        !meant.is_empty(),
        "no system is called {only}, there are: {}",
        names.join("; ")
    );
    Ok(meant)
}

/// The systems in the order of a round.
fn turn(peers: &[Peer], round: usize) -> Vec<Peer> {
    let mut peers = peers.to_vec();
    let first = round % peers.len().max(1);
    peers.rotate_left(first);
    peers
}

/// A seed for each round (`SplitMix64`).
struct Seeds(u64);

impl Seeds {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEERS: [Peer; 3] = [Peer::Multipath1, Peer::NftHash, Peer::SteerMark];

    fn rounds(rounds: usize, only: Option<&str>) -> Result<Rounds> {
        let request = Request {
            rounds,
            only: only.map(str::to_owned),
            seed: 1,
        };
        Rounds::new("test", String::new(), &request, &PEERS, |_| ())
    }

    #[test]
    fn systems_take_turns_and_share_a_rounds_seed() -> Result<()> {
        let mut seen = Vec::new();
        let mut run = rounds(2, None)?;
        run.measure("all", &PEERS, |peer, seed| {
            seen.push((peer, seed));
            Ok(vec![Value::new("g", "s", 2.0)])
        })?;
        let [a, b, c] = PEERS;
        let order: Vec<_> = seen.iter().map(|(peer, _)| *peer).collect();
        assert_eq!(order, [a, b, c, b, c, a]);
        assert!(seen[0].1 == seen[2].1 && seen[2].1 != seen[3].1, "{seen:?}");
        let report = run.paired()?;
        assert_eq!((report.seed, report.filter), (Some(1), None));
        assert!(
            report.groups[0]
                .figures
                .iter()
                .all(|figure| figure.rounds.len() == 2)
        );
        Ok(())
    }

    #[test]
    fn what_fails_is_left_out_and_the_rest_is_kept() -> Result<()> {
        let mut run = rounds(3, None)?;
        let mut tries = 0;
        run.measure("all", &PEERS, |peer, _| {
            tries += usize::from(peer == Peer::NftHash);
            ensure!(peer != Peer::NftHash || tries < 2, "broken");
            Ok(vec![Value::new("g", "s", 2.0)])
        })?;
        let report = run.paired()?;
        assert_eq!(tries, 2);
        assert_eq!(report.left_out, ["nft ct mark, jhash, all: broken"]);
        let values = report.groups[0].figures.iter();
        let values: Vec<_> = values.map(|figure| figure.rounds.len()).collect();
        assert_eq!(values, [3, 1, 3]);
        Ok(())
    }

    #[test]
    fn a_name_that_nobody_has_is_an_error() -> Result<()> {
        let error = rounds(1, Some("typo")).map(drop).unwrap_err().to_string();
        let expected = "no system is called typo, there are: \
                        multipath, policy 1; nft ct mark, jhash; steer mark";
        assert_eq!(error, expected);
        let report = rounds(1, Some("steer"))?.paired()?;
        assert_eq!(report.filter.as_deref(), Some("steer"));
        Ok(())
    }
}
