//! The documents name what the code has: a map, a reason or a link that is
//! missing from them is found here and not by a reader.

use std::fs;
use std::path::{Path, PathBuf};

use steer_common::abi::{ABI_VERSION, PassReason, maps};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("steer-user lies in the workspace")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn markdown_in(dir: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(dir)).unwrap_or_else(|error| panic!("{dir}: {error}"));
    let mut found: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    found.sort();
    found
}

#[test]
fn every_map_and_every_reason_is_described() {
    let text = read(&root().join("docs/maps.md"));
    for name in maps::ALL {
        assert!(
            text.contains(&format!("\n## {name}\n")),
            "docs/maps.md: no section on {name}"
        );
        assert!(
            text.contains(&format!("| [`{name}`](#{name}) |")),
            "docs/maps.md: no row for {name}"
        );
    }
    for reason in PassReason::ALL {
        let row = format!("\n| `{}` | ", reason.name());
        assert!(
            text.contains(&row),
            "docs/maps.md: no row for {}",
            reason.name()
        );
        let field = format!("\"{}\": ", reason.name());
        assert!(
            text.contains(&field),
            "docs/maps.md: no field {}",
            reason.name()
        );
    }
    assert!(
        text.contains(&format!("This is layout\n**{ABI_VERSION}**.")),
        "docs/maps.md: not of layout {ABI_VERSION}"
    );
    let changes = read(&root().join("CHANGELOG.md"));
    let layout = format!("layout of maps {ABI_VERSION}");
    assert!(changes.contains(&layout), "CHANGELOG.md: no {layout}");
}

#[test]
fn decisions_are_short_and_whole() {
    let files = markdown_in("docs/adr");
    assert!(files.len() >= 8);
    for (number, path) in files.iter().enumerate() {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a name");
        let expected = format!("{:04}-", number + 1);
        assert!(name.starts_with(&expected), "{name}: should be {expected}…");
        let text = read(path);
        assert!(text.lines().count() <= 40, "{name}: more than 40 lines");
        for part in [
            "\n## Context\n",
            "\n## Decision\n",
            "\n## Consequence\n",
            "\n## What would change our mind\n",
        ] {
            assert!(text.contains(part), "{name}: no{}", part.trim_end());
        }
    }
}

/// Links to files of the repository lead somewhere.
#[test]
fn links_lead_somewhere() {
    let files = ["", "docs", "docs/adr"].into_iter().flat_map(markdown_in);
    let mut checked = 0;
    for path in files {
        let text = read(&path);
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            let dir = path.parent().expect("a file lies in a directory");
            assert!(dir.join(file).exists(), "{}: {target}", path.display());
            checked += 1;
        }
    }
    assert!(checked > 10, "only {checked} links found");
}
