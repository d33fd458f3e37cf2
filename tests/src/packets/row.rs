//! The rows of the packet table: kinds of packets, what becomes of each kind
//! where it meets a program, and packets of each kind.

use std::{fs, net::IpAddr, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use steer_common::abi::TunnelId;

use super::recipe::{Hook, Layer, Recipe};

/// A file: a section of the table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Section {
    /// What its kinds have in common.
    pub title: String,
    /// Kinds, in the order of the document.
    #[serde(rename = "kind")]
    pub kinds: Vec<Kind>,
    /// Packets.
    #[serde(rename = "packet")]
    pub rows: Vec<Row>,
}

/// Packets that fare alike.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kind {
    /// What rows call it.
    pub name: String,
    /// What the document calls it.
    pub title: String,
    /// What tells its flows apart, for the document.
    #[serde(default)]
    pub told_by: String,
    /// What the kernel does with it where it is passed, for the document.
    #[serde(default)]
    pub kernel: String,
    /// Steered, learned and forwarded everywhere.
    #[serde(default)]
    pub steered: bool,
    /// Passed for this reason on its way out, ignored on its way back.
    pub passed: Option<Reason>,
    /// Nothing is learned of it.
    #[serde(default)]
    pub unlearned: bool,
    /// On a LAN device in ingress mode.
    pub ingress: Option<Outcome>,
    /// On a LAN device in mark mode.
    pub mark: Option<Outcome>,
    /// On the way into a tunnel.
    pub egress: Option<Outcome>,
    /// Out of a tunnel, where that only teaches.
    pub tunnel: Option<Outcome>,
    /// Out of a tunnel in ingress mode.
    #[serde(rename = "return")]
    pub returns: Option<Outcome>,
}

impl Kind {
    /// What becomes of it at a hook; `None` where it is not tried.
    pub fn outcome(&self, hook: Hook) -> Option<Outcome> {
        let (given, usual) = match hook {
            Hook::Lan | Hook::LanL3 => (&self.ingress, Outcome::Steer),
            Hook::Mark | Hook::MarkL3 => (&self.mark, Outcome::Steer),
            Hook::Egress => (&self.egress, Outcome::Steer),
            Hook::Tunnel => (&self.tunnel, Outcome::Learn),
            Hook::Return => (&self.returns, Outcome::Forward),
        };
        let passed = self.passed.clone().map(|reason| {
            if hook.is_out() {
                Outcome::Pass(reason)
            } else {
                Outcome::Ignore
            }
        });
        given
            .clone()
            .or(passed)
            .or_else(|| self.steered.then_some(usual))
    }
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It goes by the tunnel of its flow, as a router would send it: redirected, marked, or left
    /// alone on a tunnel that is the right one already.
    Steer,
    /// It came out of a tunnel; its flow is known now, and the kernel gets it.
    Learn,
    /// The same, and it goes out on the LAN as a router would send it.
    Forward,
    /// It came out of a tunnel; nothing is learned or counted, and the kernel gets it.
    Ignore,
    /// The kernel gets it, counted by this reason. Out of a tunnel, its flow is known all the same.
    Pass(Reason),
}

/// The name of a `PassReason`.
pub type Reason = String;

/// One packet, and what is particular about its fate.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "toml::Table")]
pub struct Row {
    /// What it is made of.
    pub recipe: Recipe,
    /// The rest.
    pub fate: Fate,
}

/// A row without its packet.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fate {
    /// What it is; shown when the row fails.
    pub name: String,
    /// The name of its kind.
    pub kind: String,
    /// Where it is tried, if not everywhere that its kind has an outcome for.
    #[serde(default)]
    pub on: Vec<Hook>,
    /// The same once more over IPv6, and all that is before it.
    #[serde(default)]
    pub both: bool,
    /// What arrives first.
    #[serde(default)]
    pub before: Vec<Recipe>,
    /// How long after that it arrives.
    #[serde(default)]
    pub wait_secs: u64,
    /// `mss_clamp` of the settings.
    #[serde(default)]
    pub mss_clamp: u32,
    /// Its flow; that of an ordinary TCP segment if not given.
    #[serde(default)]
    pub key: Key,
    /// The tunnel that its flow is on.
    pub exit: Option<Exit>,
    /// Why it is there, by name.
    pub origin: Option<String>,
    /// TCP options afterwards, if they are not as before.
    pub tcp_options_after: Option<Vec<u8>>,
    /// It is a later fragment whose first one is not known.
    #[serde(default)]
    pub unmatched: bool,
}

impl Fate {
    /// Names of its fields: all others are the packet's.
    const FIELDS: [&'static str; 12] = [
        "name",
        "kind",
        "on",
        "both",
        "before",
        "wait_secs",
        "mss_clamp",
        "key",
        "exit",
        "origin",
        "tcp_options_after",
        "unmatched",
    ];
}

impl TryFrom<toml::Table> for Row {
    type Error = String;

    // Both halves refuse what they do not know, which serde's own flattening would let through.
    fn try_from(table: toml::Table) -> Result<Self, String> {
        let name = table.get("name").and_then(toml::Value::as_str);
        let name = name.unwrap_or("a row without name").to_owned();
        let (fate, recipe): (toml::Table, toml::Table) = table
            .into_iter()
            .partition(|(field, _)| Fate::FIELDS.contains(&field.as_str()));
        let in_row = |error: toml::de::Error| format!("{name}: {}", error.message());
        Ok(Self {
            recipe: recipe.try_into().map_err(in_row)?,
            fate: fate.try_into().map_err(in_row)?,
        })
    }
}

impl Row {
    /// This, and over IPv6 if asked for.
    fn versions(&self) -> Vec<Self> {
        let mut versions = vec![self.clone()];
        if self.fate.both {
            let mut over_ipv6 = self.clone();
            over_ipv6.recipe.ip = 6;
            for recipe in &mut over_ipv6.fate.before {
                recipe.ip = 6;
            }
            versions.push(over_ipv6);
        }
        versions
    }

    /// Where it is tried, given its kind, and what becomes of it there.
    pub fn cases(&self, kind: &Kind) -> Vec<(Hook, Outcome)> {
        Hook::ALL
            .into_iter()
            .filter(|hook| {
                let suits = !self.recipe.needs_frame() || hook.layer() == Layer::Ethernet;
                if self.fate.on.is_empty() {
                    suits
                } else {
                    self.fate.on.contains(hook)
                }
            })
            .filter_map(|hook| Some((hook, kind.outcome(hook)?)))
            .collect()
    }

    /// What arrives where this is tried: first all that comes before it.
    fn recipes(&self, hook: Hook) -> Vec<Recipe> {
        let all = self.fate.before.iter().chain([&self.recipe]);
        all.map(|recipe| recipe.on(hook)).collect()
    }
}

/// The flow that a packet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Protocol number of the key.
    pub protocol: u8,
    /// Ports of the packet's source and destination.
    #[serde(default)]
    pub ports: [u16; 2],
    /// Instead of ports: an identifier, its high half beside the lower address.
    pub id: Option<u32>,
    /// Address beside the source port, if not the packet's source.
    pub src: Option<IpAddr>,
    /// Address beside the destination port, if not the packet's destination.
    pub dst: Option<IpAddr>,
}

impl Default for Key {
    fn default() -> Self {
        Self {
            protocol: 6,
            ports: [40_000, 443],
            id: None,
            src: None,
            dst: None,
        }
    }
}

/// The tunnel that a flow is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Exit {
    /// This one.
    Tunnel(TunnelId),
    /// The one of the packet before: it is the same flow.
    Named(AsBefore),
}

/// The tunnel of the packet before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AsBefore {
    /// The tunnel of the packet before.
    AsBefore,
}

/// The packet table.
#[derive(Clone, Debug)]
pub struct PacketTable {
    /// The files of `tests/packets`, in the order of their names.
    pub sections: Vec<Section>,
}

impl PacketTable {
    /// Reads the files.
    pub fn read() -> Result<Self> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("packets");
        let mut paths = Vec::new();
        for entry in fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            paths.push(entry?.path());
        }
        paths.sort();
        let mut sections = Vec::new();
        for path in paths {
            let name = path.display().to_string();
            let text = fs::read_to_string(&path).with_context(|| name.clone())?;
            sections.push(toml::from_str(&text).with_context(|| name)?);
        }
        let mut table = Self { sections };
        for section in &mut table.sections {
            let rows = section.rows.iter();
            section.rows = rows.flat_map(Row::versions).collect();
        }
        for (section, row) in table.rows() {
            ensure!(
                table.kind(row).is_some(),
                "{}: {}: no kind is called {}",
                section.title,
                row.fate.name,
                row.fate.kind
            );
        }
        Ok(table)
    }

    /// Every kind.
    pub fn kinds(&self) -> impl Iterator<Item = &Kind> {
        self.sections.iter().flat_map(|section| &section.kinds)
    }

    /// Every row.
    pub fn rows(&self) -> impl Iterator<Item = (&Section, &Row)> {
        self.sections
            .iter()
            .flat_map(|section| section.rows.iter().map(move |row| (section, row)))
    }

    /// The kind of a row.
    pub fn kind(&self, row: &Row) -> Option<&Kind> {
        self.kinds().find(|kind| kind.name == row.fate.kind)
    }

    /// Every row at every hook where it is tried.
    pub fn cases(&self) -> impl Iterator<Item = Case<'_>> {
        self.rows().flat_map(|(_, row)| {
            let kind = self.kind(row);
            let cases = kind.map(|kind| row.cases(kind));
            cases
                .unwrap_or_default()
                .into_iter()
                .map(move |(hook, outcome)| Case {
                    row,
                    hook,
                    outcome,
                    unlearned: kind.is_some_and(|kind| kind.unlearned),
                })
        })
    }
}

/// A row at a hook.
#[derive(Clone, Debug)]
pub struct Case<'t> {
    /// The row.
    pub row: &'t Row,
    /// Where it is tried.
    pub hook: Hook,
    /// What becomes of it there.
    pub outcome: Outcome,
    /// Nothing is learned of it.
    pub unlearned: bool,
}

impl Case<'_> {
    /// What arrives, in order, the row itself last. More than once on the way into a tunnel: whichever
    /// of two the kernel chose, the end must be the same.
    pub fn runs(&self) -> Vec<Vec<Recipe>> {
        let recipes = self.row.recipes(self.hook);
        if self.hook != Hook::Egress || self.row.recipe.device.is_some() {
            return vec![recipes];
        }
        let routed_to = |device| {
            let mut recipes = recipes.clone();
            for recipe in &mut recipes {
                if recipe.hook() == Hook::Egress {
                    recipe.device = Some(device);
                }
            }
            recipes
        };
        vec![routed_to(0), routed_to(1)]
    }

    /// The name of the row with its kind and version, and the hook.
    pub fn name(&self) -> String {
        let Fate { kind, name, .. } = &self.row.fate;
        format!(
            "{kind}: {name} (IPv{}) on {:?}",
            self.row.recipe.ip, self.hook
        )
    }
}
