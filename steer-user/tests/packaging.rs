//! What is packaged beside the program says what the program does: the example of a configuration, its schema, and
//! the units for systemd.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::Value;
use steer_user::cli::Cli;
use steer_user::config::{CONFIG_DEFAULT, Config, schema};

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging")
}

fn read(name: &str) -> String {
    let path = packaging().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn config(text: &str) -> Config {
    Config::parse(text).unwrap_or_else(|error| {
        let lines: Vec<_> = error.lines().collect();
        panic!("{}\n{text}", lines.join("\n"))
    })
}

/// Whether a line is a key with a value that is commented out: `# weight = 1`.
fn is_commented_out(line: &str) -> bool {
    let key = line
        .strip_prefix("# ")
        .and_then(|line| line.split_once(" = "));
    key.is_some_and(|(key, _)| {
        key.bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
    })
}

/// The example's lines, and those of its second group, which is commented out as a whole.
fn example() -> (Vec<String>, Vec<String>) {
    let text = read("steer.toml");
    let (example, another) = text
        .split_once("# Another site, over tunnels of its own.\n")
        .expect("the example of another group");
    let lines = |text: &str| text.lines().map(ToOwned::to_owned).collect();
    (lines(example), lines(another))
}

#[test]
fn the_example_is_valid_and_so_is_what_is_commented_out() {
    let (lines, another) = example();
    config(&lines.join("\n"));
    let mut tried = 0;
    for (at, line) in lines.iter().enumerate() {
        if !is_commented_out(line) {
            continue;
        }
        let mut lines = lines.clone();
        lines[at] = line[2..].to_owned();
        if line.starts_with("# follow-routes") {
            lines.retain(|line| !line.starts_with("prefixes"));
        }
        config(&lines.join("\n"));
        tried += 1;
    }
    assert!(tried >= 22, "only {tried} lines");
    let another: Vec<_> = another.iter().map(|line| &line[2..]).collect();
    let both = format!("{}\n{}", lines.join("\n"), another.join("\n"));
    assert_eq!(config(&both).groups.len(), 2);
}

/// What is commented out, and called the default, is.
#[test]
fn the_example_names_the_defaults() {
    let (lines, _) = example();
    let plain = config(&lines.join("\n"));
    let sections = lines.iter().position(|line| line.starts_with("[[group]]"));
    let with_defaults: Vec<_> = lines
        .iter()
        .enumerate()
        .map(|(at, line)| match line.strip_prefix("# ") {
            Some(key) if Some(at) < sections && is_commented_out(line) => key,
            _ => line,
        })
        .collect();
    let given = config(&with_defaults.join("\n"));
    assert_eq!(given.probes(), plain.probes());
    assert_eq!(given.bypass_netfilter, plain.bypass_netfilter);
    assert_eq!((given.fix, given.weights), (plain.fix, plain.weights));
    let default = steer_user::plan::Idle::default();
    assert_eq!(default.with(given.idle), default);
}

/// Every key that a file may have is in the example.
#[test]
fn the_example_is_complete() {
    let text = read("steer.toml");
    let document: Value = serde_json::from_str(&schema()).expect("JSON");
    let mut tables = vec![&document];
    tables.extend(document["$defs"].as_object().expect("definitions").values());
    let mut seen = 0;
    for table in tables {
        for key in table["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, _)| key)
        {
            let is_there = [format!("{key} = "), format!("[{key}]"), format!(".{key}]]")]
                .iter()
                .any(|written| text.contains(written));
            // A group has no placement but one, until there is another.
            assert!(is_there || key == "placement", "steer.toml: no {key}");
            seen += 1;
        }
    }
    assert!(seen > 30, "only {seen} keys");
}

/// Compares what the schema says of a text with what the program says.
struct Schema(Schemas, SchemaIndex);

impl Schema {
    fn new() -> Self {
        let document = serde_json::from_str(&schema()).expect("JSON");
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler
            .add_resource("steer.json", document)
            .expect("a schema");
        let index = compiler
            .compile("steer.json", &mut schemas)
            .expect("a schema");
        Self(schemas, index)
    }

    fn takes(&self, text: &str) -> bool {
        let value: Value = toml::from_str(text).expect("TOML");
        self.0.validate(&value, self.1).is_ok()
    }
}

#[test]
fn the_schema_takes_what_the_program_takes() {
    let schema = Schema::new();
    let (lines, another) = example();
    assert!(schema.takes(&lines.join("\n")));
    for line in lines.iter().filter(|line| is_commented_out(line)) {
        let at = lines
            .iter()
            .position(|other| other == line)
            .expect("a line");
        let mut lines = lines.clone();
        lines[at] = line[2..].to_owned();
        assert!(schema.takes(&lines.join("\n")), "{line}");
    }
    let another: Vec<_> = another.iter().map(|line| &line[2..]).collect();
    assert!(schema.takes(&another.join("\n")));
    for wrong in [
        "hook = \"sideways\"",
        "wieghts = \"auto\"",
        "fix = 1",
        "max-flows = 0",
        "[idle]\nupd = \"3m\"",
        "[probe]\nmisses = 0",
        "[group]\nname = \"x\"",
        "[[group]]\nprefix = []",
        "[[group]]\n[[group.tunnel]]\nweight = 1",
        "[[group]]\n[[group.tunnel]]\nname = \"wg0\"\nweight = 70000",
        "[[group]]\n[[group.tunnel]]\nname = \"wg0\"\nprobe = { targets = \"10.9.0.2\" }",
    ] {
        assert!(!schema.takes(wrong), "{wrong}");
        assert!(Config::parse(wrong).is_err(), "{wrong}");
    }
}

/// The value of a key of a unit.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    let of_key = |line: &'a str| line.strip_prefix(key)?.strip_prefix('=');
    unit.lines().filter_map(of_key).collect()
}

/// The commands of the unit are ones that the program understands, with the file that it reads by itself.
#[test]
fn the_unit_starts_what_there_is() {
    let unit = read("systemd/steer.service");
    let mut commands = values(&unit, "ExecStart");
    commands.extend(values(&unit, "ExecReload"));
    assert_eq!(commands.len(), 3, "{commands:?}");
    let mut steerctl = 0;
    for command in commands {
        let words: Vec<_> = command.split(' ').collect();
        if words[0] == "/usr/sbin/steerctl" {
            let parsed = Cli::parse_from_args(&words);
            assert!(parsed.is_ok(), "{command}: {parsed:?}");
            assert!(words.contains(&CONFIG_DEFAULT), "{command}");
            steerctl += 1;
        }
    }
    assert_eq!(steerctl, 2);
    assert_eq!(values(&unit, "Type"), ["notify"]);
}

/// systemd understands all of it.
#[test]
fn systemd_understands_the_units() {
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        println!("SKIP (optional) systemd_understands_the_units: needs systemd-analyze");
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    // What is told of a program that is not installed here is no news.
    let unit = read("systemd/steer.service").replace("/usr/sbin/steerctl", "/bin/true");
    let unit = unit.replace("Documentation=man:steerctl(8)\n", "");
    let path = dir.path().join("steer.service");
    fs::write(&path, unit).expect("written");
    let drop_in = dir.path().join("wg-quick@.service.d");
    fs::create_dir(&drop_in).expect("made");
    let text = read("systemd/wg-quick@.service.d/steer.conf");
    fs::write(drop_in.join("steer.conf"), text).expect("written");
    let template = "[Service]\nType=oneshot\nExecStart=/bin/true %i\n";
    let tunnel = dir.path().join("wg-quick@wg0.service");
    fs::write(dir.path().join("wg-quick@.service"), template).expect("written");
    fs::write(&tunnel, template).expect("written");
    let output = Command::new("systemd-analyze")
        .env("SYSTEMD_UNIT_PATH", format!("{}:", dir.path().display()))
        .args(["verify", "--man=no"])
        .args([&path, &tunnel])
        .output()
        .expect("systemd-analyze");
    let told = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<_> = told.lines().filter(|line| line.contains("steer")).collect();
    assert!(output.status.success() && ours.is_empty(), "{told}");
}
