//! The tables of `docs/packets.md`, made from the kinds of the packet table.

use std::fmt::Write as _;

use super::{
    recipe::Hook,
    row::{Kind, Outcome, PacketTable},
};

/// Where the tables start in the document: before this line a person writes, behind it this module.
pub const MARKER: &str = "<!-- From here on made from tests/packets: \
                          UPDATE_GENERATED=1 cargo test -p steer-tests --test packets -->\n";

/// The columns of hooks: the heading, and the hook that stands for it.
const COLUMNS: [(&str, Hook); 4] = [
    ("ingress", Hook::Lan),
    ("egress", Hook::Egress),
    ("mark", Hook::Mark),
    ("return", Hook::Return),
];

/// The tables, one for each section.
pub fn tables(table: &PacketTable) -> String {
    let mut text = String::new();
    for section in &table.sections {
        // Writing to a string does not fail.
        let _ = write!(text, "\n## {}\n\n| packet | told apart by |", section.title);
        for (heading, _) in COLUMNS {
            let _ = write!(text, " {heading} |");
        }
        text.push_str(" the kernel |\n|---|---|");
        text.push_str(&"---|".repeat(COLUMNS.len() + 1));
        text.push('\n');
        for kind in &section.kinds {
            line(&mut text, kind);
        }
    }
    text
}

fn line(text: &mut String, kind: &Kind) {
    let _ = write!(text, "| {} | {} |", kind.title, kind.told_by);
    for (_, hook) in COLUMNS {
        let _ = write!(text, " {} |", words(kind, hook));
    }
    let _ = writeln!(text, " {} |", kind.kernel);
}

fn words(kind: &Kind, hook: Hook) -> String {
    match kind.outcome(hook) {
        Some(Outcome::Forward) if kind.unlearned => "forwarded, not learned".into(),
        None => "–".into(),
        Some(Outcome::Steer) => "steered".into(),
        Some(Outcome::Forward) => "forwarded".into(),
        Some(Outcome::Learn) => "learned".into(),
        Some(Outcome::Ignore) => "passed".into(),
        Some(Outcome::Pass(reason)) => format!("passed: `{reason}`"),
    }
}
