//! Writing weights back into the text of a configuration; all else stays as it is written.

use toml_edit::{DocumentMut, Item, RawString, TableLike, Value};

use super::{Config, ConfigError, Problem};

/// The text with new weights for some tunnels of a group.
pub fn set_weights(
    text: &str,
    group: &str,
    weights: &[(&str, u32)],
) -> Result<String, ConfigError> {
    let config = Config::parse(text)?;
    let refuse = |message: String, hint: &str| {
        ConfigError::new(vec![Problem {
            line: 1,
            key: String::new(),
            message,
            hint: Some(hint.to_owned()),
        }])
    };
    let Some(known) = config.group(group) else {
        let message = format!("group {group}: is not in the file");
        return Err(refuse(message, "write it there, and its tunnels"));
    };
    let syntax =
        |error: toml_edit::TomlError| refuse(error.message().to_owned(), "see steerctl check");
    let mut document: DocumentMut = text.parse().map_err(syntax)?;
    for (name, weight) in weights {
        let Some(tunnel) = known.tunnels.iter().find(|tunnel| tunnel.name == *name) else {
            let message = format!("tunnel {name}: is not in the file");
            return Err(refuse(message, "write all of the group's tunnels there"));
        };
        // What is not written need not be, as long as it is the default.
        if tunnel.weight == *weight {
            continue;
        }
        let written = find(document.get_mut("group"), group)
            .and_then(|table| find(table.get_mut("tunnel"), name));
        if let Some(tunnel) = written {
            set(tunnel, "weight", i64::from(*weight));
        }
    }
    let edited = with_line_ends_of(text, &document.to_string());
    Config::parse(&edited)?;
    Ok(edited)
}

/// An edited text with the line ends of the old one: `toml_edit` writes only `\n`. Lines are edited or added, never
/// removed.
fn with_line_ends_of(old: &str, edited: &str) -> String {
    let mut old = old.split_inclusive('\n').peekable();
    let body = |line: &str| line.trim_end_matches(['\r', '\n']).to_owned();
    let mut lines = edited.split_inclusive('\n').peekable();
    let mut text = String::new();
    let mut end = "\n";
    while let Some(line) = lines.next() {
        let next_is_old = lines
            .peek()
            .zip(old.peek())
            .is_some_and(|(next, old)| body(next) == body(old));
        let is_old = old.peek().is_some_and(|old| body(old) == body(line));
        // One that was added ends like the one before it.
        if is_old || !next_is_old {
            end = match old.next() {
                Some(old) if old.ends_with("\r\n") => "\r\n",
                Some(old) if old.ends_with('\n') => "\n",
                // The last line may have none.
                _ => end,
            };
        }
        text.push_str(&body(line));
        if line.ends_with('\n') {
            text.push_str(end);
        }
    }
    text
}

/// The table of this name, in an array of tables of either notation.
fn find<'a>(tables: Option<&'a mut Item>, name: &str) -> Option<&'a mut dyn TableLike> {
    let is_it = |table: &dyn TableLike| {
        let found = table.get("name").and_then(Item::as_str);
        found.unwrap_or(super::GROUP_DEFAULT) == name
    };
    match tables? {
        Item::ArrayOfTables(tables) => {
            let mut tables = tables.iter_mut();
            let table = tables.find(|table| is_it(*table))?;
            Some(table)
        }
        Item::Value(Value::Array(tables)) => {
            let mut tables = tables.iter_mut().filter_map(Value::as_inline_table_mut);
            let table = tables.find(|table| is_it(*table))?;
            Some(table)
        }
        _ => None,
    }
}

/// Sets a number; what surrounds the old one stays, and a new one is indented like the name.
fn set(table: &mut dyn TableLike, key: &str, number: i64) {
    let mut value = Value::from(number);
    if let Some(old) = table.get_mut(key) {
        if let Some(old) = old.as_value() {
            *value.decor_mut() = old.decor().clone();
        }
        *old = Item::Value(value);
        return;
    }
    let before = table
        .key("name")
        .and_then(|name| name.leaf_decor().prefix());
    let before = before.and_then(RawString::as_str).unwrap_or_default();
    let indent = before.rsplit('\n').next().unwrap_or_default().to_owned();
    table.insert(key, Item::Value(value));
    if let Some(mut key) = table.key_mut(key) {
        key.leaf_decor_mut().set_prefix(indent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# The gateway.
seed = 7 # as at the far end

[[group]] # the far site
iface = ["lan0"]

  # The good one.
  [[group.tunnel]]
  name = "wg0"
  weight = 3    # three times the line
  # tier = 1

  [[group.tunnel]]
  name = "wg1" # no weight

[[group]]
name = "other"
tunnel = [{ name = "wg2", weight = 1 }, { name = "wg3" }]
"#;

    #[test]
    fn all_else_stays() {
        let edited = set_weights(TEXT, "default", &[("wg0", 5)]).expect("edited");
        assert_eq!(edited, TEXT.replace("weight = 3 ", "weight = 5 "));
        let edited = set_weights(TEXT, "default", &[("wg1", 4), ("wg0", 3)]).expect("edited");
        let with = "  name = \"wg1\" # no weight\n  weight = 4\n";
        assert_eq!(edited, TEXT.replace("  name = \"wg1\" # no weight\n", with));
        let edited = set_weights(TEXT, "other", &[("wg2", 9), ("wg3", 8)]).expect("edited");
        let other = "[{ name = \"wg2\", weight = 9 }, { name = \"wg3\" , weight = 8 }]";
        assert!(edited.contains(other), "{edited}");
        // What is so already is not touched.
        let same = set_weights(TEXT, "default", &[("wg0", 3), ("wg1", 1)]);
        assert_eq!(same.as_deref(), Ok(TEXT));
    }

    #[test]
    fn line_ends_stay() {
        let dos = |text: &str| text.replace('\n', "\r\n");
        for weights in [&[("wg0", 5)][..], &[("wg1", 4), ("wg0", 3)]] {
            let edited = set_weights(TEXT, "default", weights).expect("edited");
            let of_dos = set_weights(&dos(TEXT), "default", weights).expect("edited");
            assert_eq!(of_dos, dos(&edited));
        }
        // Of both kinds, each line keeps its own.
        let mixed = TEXT.replacen('\n', "\r\n", 4);
        let edited = set_weights(&mixed, "default", &[("wg0", 5)]).expect("edited");
        assert_eq!(edited, mixed.replace("weight = 3 ", "weight = 5 "));
        let open = "[[group]]\r\n[[group.tunnel]]\r\nname = \"wg0\"";
        let edited = set_weights(open, "default", &[("wg0", 5)]).expect("edited");
        assert_eq!(edited, format!("{open}\r\nweight = 5\r\n"));
    }

    #[test]
    fn refusals() {
        let refused = |group: &str, name: &str, weight: u32| {
            let error = set_weights(TEXT, group, &[(name, weight)]).expect_err("refused");
            error.problems[0].to_string()
        };
        assert_eq!(refused("x", "wg0", 1), "group x: is not in the file");
        assert_eq!(refused("other", "wg0", 1), "tunnel wg0: is not in the file");
        assert_eq!(
            refused("default", "wg0", 70_000),
            "group.tunnel.weight: 70000 is not in 0 to 65535"
        );
    }
}
