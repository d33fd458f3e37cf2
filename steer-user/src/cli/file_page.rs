//! The manual page's section on the configuration file, made from the schema: every key with its description.

use std::fmt::Write as _;
use std::io;

use serde_json::Value;

use crate::config;

const INTRODUCTION: &str = r#".SH "CONFIGURATION FILE"
\fBrun\fR and \fBattach\fR read \fI/etc/steer/steer.toml\fR, or the file of \fB\-\-config\fR, in TOML. It names all groups, tunnels, prefixes and
devices that there are to be. Unknown keys are errors. \fBsteerctl check\fR tells all that is wrong with it. SIGHUP has
\fBrun\fR read it again: the difference is carried out as one step, or refused whole.
"#;

/// The tables of a file, and what the schema calls them.
const TABLES: [(&str, Option<&str>); 6] = [
    ("Keys of the whole gateway", None),
    ("[idle]", Some("IdleTable")),
    ("[probe], and probe of a tunnel", Some("ProbeTable")),
    ("[[group]]", Some("Group")),
    (
        "follow\\-routes of a group, if it is a table",
        Some("FollowSpec"),
    ),
    ("[[group.tunnel]]", Some("Tunnel")),
];

/// The section.
pub(super) fn section() -> io::Result<String> {
    let schema: Value = serde_json::from_str(&config::schema())?;
    let mut page = INTRODUCTION.to_owned();
    for (heading, name) in TABLES {
        let table = name.map_or(&schema, |name| &schema["$defs"][name]);
        let keys = table["properties"].as_object();
        let keys = keys.ok_or_else(|| io::Error::other(format!("{heading}: no such table")))?;
        let _ = writeln!(page, ".SS \"{heading}\"");
        for (key, property) in keys {
            let description = property["description"].as_str().unwrap_or_default();
            let _ = writeln!(
                page,
                ".TP\n\\fB{}\\fR\n{}",
                escaped(key),
                escaped(description)
            );
        }
    }
    Ok(page)
}

/// A text that roff shows as it is.
fn escaped(text: &str) -> String {
    let text = text
        .replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('`', "");
    // A full stop or an apostrophe at the start of a line is a command.
    let lines = text.lines().map(|line| match line.chars().next() {
        Some('.' | '\'') => format!("\\&{line}"),
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}
