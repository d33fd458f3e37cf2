//! The README's examples do what it says: the blocks marked `sh steer-example`
//! run as they are printed, in their order, on a gateway of the lab.
//!
//! All blocks are one shell script, in one mount namespace with a bpffs of its
//! own on `/sys/fs/bpf`: the examples use the default pin directory, and what is
//! pinned there on this machine stays out of reach. A block that is also marked
//! `background` is what an operator leaves running in another terminal.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use steer_tests::lab::{Lab, Options, Side, check_capabilities, steerctl_path};

/// What comes before the examples.
const PROLOGUE: &str = r#"set -eu
mount -t bpf bpf /sys/fs/bpf
background=
trap 'test -z "$background" || kill $background 2>/dev/null || true' EXIT
"#;

/// A fenced block: the words behind its fence, and its lines.
#[derive(Debug, PartialEq, Eq)]
struct Block<'a> {
    marks: Vec<&'a str>,
    text: String,
}

fn blocks(markdown: &str) -> Vec<Block<'_>> {
    let mut found = Vec::new();
    let mut open: Option<Block<'_>> = None;
    for line in markdown.lines() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(marks), None) => {
                open = Some(Block {
                    marks: marks.split_whitespace().collect(),
                    text: String::new(),
                });
            }
            (Some(_), Some(block)) => found.push(block),
            (None, Some(mut block)) => {
                block.text.push_str(line);
                block.text.push('\n');
                open = Some(block);
            }
            (None, None) => {}
        }
    }
    found
}

/// The examples as one script. Each is announced, so that a failure names it.
fn script(blocks: &[Block<'_>], log: &Path) -> String {
    let log = log.display();
    let mut script = PROLOGUE.to_owned();
    let examples = blocks
        .iter()
        .filter(|block| block.marks.contains(&"steer-example"));
    for (number, block) in (1..).zip(examples) {
        let first = block.text.lines().next().unwrap_or_default();
        let lines = if block.marks.contains(&"background") {
            format!(
                "( exec {} ) >{log} 2>&1 &\nbackground=$!\n\
                 until grep -q '^ready ' {log}; do\n  \
                 kill -0 $background || {{ cat {log} >&2; exit 1; }}\n  sleep 0.05\ndone",
                block.text.trim_end()
            )
        } else {
            format!("set -x\n{}{{ set +x; }} 2>/dev/null", block.text)
        };
        writeln!(script, "echo '=== example {number}: {first}' >&2\n{lines}")
            .expect("a string takes everything");
    }
    script
}

fn readme() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The words of the heading line of a table of tunnels.
fn heading(text: &str) -> Option<Vec<&str>> {
    text.lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|words| words.first() == Some(&"TUNNEL") && words.contains(&"HEALTH"))
}

#[test]
fn the_examples_run_as_printed() -> Result<()> {
    if let Err(reason) = check_capabilities() {
        println!("SKIP the_examples_run_as_printed: {reason:#}");
        return Ok(());
    }
    for (program, package) in [("bpftool", "bpftool"), ("sysctl", "procps")] {
        if Command::new(program).arg("--version").output().is_err() {
            println!("SKIP the_examples_run_as_printed: needs {program} (package {package})");
            return Ok(());
        }
    }
    let steerctl = steerctl_path()?;
    // The examples find it by its name.
    let is_named = steerctl.file_name().is_some_and(|name| name == "steerctl");
    ensure!(is_named, "{}: not named steerctl", steerctl.display());
    let readme = readme();
    let blocks = blocks(&readme);
    let lab = Lab::up("readme", &Options::default())?;
    let gateway = lab.gateway(Side::A);
    let script = script(&blocks, &gateway.dir().join("background.log"));
    ensure!(
        script.contains("=== example 5"),
        "too few examples:\n{script}"
    );

    let mut path = steerctl
        .parent()
        .context("steerctl is in no directory")?
        .as_os_str()
        .to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let output = gateway
        .command("sh")
        .args(["-c", &script])
        .env("PATH", path)
        .env_remove("STEER_PIN_DIR")
        .env_remove("RUST_LOG")
        .output()
        .context("sh")?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    println!("{stdout}");
    ensure!(
        output.status.success(),
        "{}\n{stdout}\n{stderr}",
        output.status
    );

    // They did what the text around them says.
    for words in [
        "live flows moved: 0",
        "would use wg",
        "\"abi_version\": 4",
        "\"kind\": \"Ingress\"",
        "removed lan0 ingress",
    ] {
        assert!(stdout.contains(words), "no {words:?} in\n{stdout}");
    }
    let printed = blocks
        .iter()
        .find(|block| block.marks.contains(&"steer-status"))
        .context("the README shows no status")?;
    assert!(heading(&printed.text).is_some(), "{}", printed.text);
    assert_eq!(
        heading(&printed.text),
        heading(&stdout),
        "the README's picture of `steerctl status` is not what it prints"
    );
    Ok(())
}

#[test]
fn blocks_are_found() {
    let text = "words\n```sh steer-example background\nsteerctl run\n```\n```\nx\n```\n";
    let found = blocks(text);
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].marks, ["sh", "steer-example", "background"]);
    assert_eq!(found[0].text, "steerctl run\n");
    assert!(found[1].marks.is_empty());
    let script = script(&found, Path::new("/log"));
    assert!(script.contains("( exec steerctl run ) >/log 2>&1 &"));
    assert!(!script.contains("\nx\n"));
}
