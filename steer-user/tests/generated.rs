//! What is made from the code and kept in the repository: the manual page, the completion scripts, the help of
//! every verb, the schema of the configuration file, and the list of the doctor's checks.
//!
//! A difference is either a change that was not meant, or a file to be made
//! anew: `UPDATE_GENERATED=1 cargo test -p steer-user --test generated`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap_complete::Shell;
use steer_user::cli::{Cli, Refusal, completions, manual};
use steer_user::config;
use steer_user::plan::doctor::{CHECKS, Section};

/// The variable that has the files written instead of compared.
const UPDATE: &str = "UPDATE_GENERATED";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("steer-user lies in the workspace")
}

/// Compares files with what they should be, all of them before failing.
fn compare(files: &[(PathBuf, Vec<u8>)]) {
    let mut stale = Vec::new();
    for (path, wanted) in files {
        let whole = root().join(path);
        if std::env::var_os(UPDATE).is_some() {
            let dir = whole.parent().expect("a file lies in a directory");
            fs::create_dir_all(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
            fs::write(&whole, wanted).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            continue;
        }
        match fs::read(&whole) {
            Ok(found) if found == *wanted => {}
            Ok(found) => stale.push(format!(
                "{}: {}",
                path.display(),
                first_difference(&found, wanted)
            )),
            Err(error) => stale.push(format!("{}: {error}", path.display())),
        }
    }
    assert!(
        stale.is_empty(),
        "generated files are not up to date:\n{}\nto make them anew: {UPDATE}=1 cargo test -p steer-user --test generated",
        stale.join("\n")
    );
}

/// The first line in which two texts differ.
fn first_difference(found: &[u8], wanted: &[u8]) -> String {
    let (found, wanted) = (
        String::from_utf8_lossy(found),
        String::from_utf8_lossy(wanted),
    );
    let (mut found, mut wanted) = (found.lines(), wanted.lines());
    for number in 1_u32.. {
        match (found.next(), wanted.next()) {
            (None, None) => break,
            (left, right) if left != right => {
                return format!(
                    "line {number} is\n  {}\nand should be\n  {}",
                    left.unwrap_or("(the end)"),
                    right.unwrap_or("(the end)")
                );
            }
            _ => {}
        }
    }
    "the line ends differ".into()
}

#[test]
fn manual_page() {
    compare(&[(
        "packaging/steerctl.8".into(),
        manual().expect("a manual page"),
    )]);
}

#[test]
fn completion_scripts() {
    let dir = Path::new("packaging/completions");
    compare(&[
        (dir.join("steerctl.bash"), completions(Shell::Bash)),
        (dir.join("_steerctl"), completions(Shell::Zsh)),
        (dir.join("steerctl.fish"), completions(Shell::Fish)),
    ]);
}

#[test]
fn schema_of_the_configuration_file() {
    let path = PathBuf::from("packaging/steer.schema.json");
    compare(&[(path, config::schema().into_bytes())]);
}

#[test]
fn checks_of_the_doctor() {
    let mut text = String::from(
        "# What steerctl doctor looks at\n\n\
         Every check gives lines that are `ok`, `warn` or `fail`; what is not ok has a line `fix`. The exit status is 1 when a line is\n\
         `fail`. A check that does not apply to the machine gives no line. [Operations](operations.md) tells how it is used. This file is\n\
         made from the checks themselves.\n",
    );
    for section in Section::ALL {
        let rows = CHECKS.iter().filter(|check| check.section == section);
        let rows = rows.map(|check| {
            let (fails, warns) = (check.fails.unwrap_or("–"), check.warns.unwrap_or("–"));
            format!("| `{}` | {fails} | {warns} |\n", check.name)
        });
        let heading = format!(
            "\n## {}\n\n| check | fail | warn |\n|---|---|---|\n",
            section.name()
        );
        text.extend(std::iter::once(heading).chain(rows));
    }
    compare(&[("docs/doctor.md".into(), text.into_bytes())]);
}

/// The words of every verb, also of those below another one.
fn verbs() -> Vec<Vec<String>> {
    fn below(command: &clap::Command, words: &[String]) -> Vec<Vec<String>> {
        command
            .get_subcommands()
            .flat_map(|verb| {
                let words = [words, &[verb.get_name().to_owned()]].concat();
                let more = below(verb, &words);
                std::iter::once(words).chain(more)
            })
            .collect()
    }
    below(&Cli::definition(), &[])
}

#[test]
fn help_of_every_verb() {
    let help = |verb: &[String]| {
        let words = ["steerctl"]
            .into_iter()
            .chain(verb.iter().map(String::as_str));
        match Cli::parse_from_args(words.chain(["--help"])) {
            Err(Refusal::Text(text)) => text.into_bytes(),
            other => panic!("{verb:?} gave {other:?}"),
        }
    };
    let dir = Path::new("steer-user/tests/help");
    let mut files = vec![(dir.join("steerctl.txt"), help(&[]))];
    for verb in verbs() {
        files.push((dir.join(format!("{}.txt", verb.join("-"))), help(&verb)));
    }
    compare(&files);

    // A verb that is gone leaves no file behind.
    let wanted: BTreeSet<_> = files.iter().map(|(path, _)| root().join(path)).collect();
    let found = fs::read_dir(root().join(dir)).expect("the directory of help texts");
    for entry in found {
        let path = entry.expect("an entry").path();
        assert!(wanted.contains(&path), "{}: no such verb", path.display());
    }
}

/// The environment of whoever builds must not show in what is built.
#[test]
fn nothing_of_the_environment_is_in_the_files() {
    let page = String::from_utf8(manual().expect("a manual page")).expect("text");
    assert!(page.contains("STEER_PIN_DIR"));
    let home = std::env::var("HOME").unwrap_or_default();
    assert!(home.len() < 2 || !page.contains(&home), "{home}");
}

/// So is every key of the configuration file.
#[test]
fn the_manual_page_has_every_key() {
    let page = String::from_utf8(manual().expect("a manual page")).expect("text");
    let schema: serde_json::Value = serde_json::from_str(&config::schema()).expect("JSON");
    let definitions = schema["$defs"].as_object().expect("definitions").values();
    let tables = definitions
        .chain([&schema])
        .filter_map(|table| table["properties"].as_object());
    let keys: BTreeSet<&String> = tables.flat_map(|table| table.keys()).collect();
    assert!(keys.len() > 25, "{keys:?}");
    for key in keys {
        let written = format!(".TP\n\\fB{}\\fR\n", key.replace('-', "\\-"));
        assert!(page.contains(&written), "{key}");
    }
}

/// Every verb and every option of a verb is in the manual page.
#[test]
fn the_manual_page_is_complete() {
    let page = String::from_utf8(manual().expect("a manual page")).expect("text");
    for words in verbs() {
        let heading = format!(".SS \"steerctl {}\"", words.join(" "));
        assert!(page.contains(&heading), "{heading}");
        let mut verb = Cli::definition();
        for word in &words {
            verb = verb.find_subcommand(word).expect("a verb").clone();
        }
        for option in verb.get_arguments().filter_map(|arg| arg.get_long()) {
            let written = option.replace('-', "\\-");
            assert!(page.contains(&written), "{words:?}: --{option}");
        }
    }
}
