//! Builds the eBPF object that this crate embeds, and the benchmark's.
//!
//! They need a compiler that can rebuild `core` for the BPF target, and
//! `bpf-linker`. `cargo xtask setup` finds or installs both and writes their
//! paths to `target/tools/ebpf.env`; this script only reads that file, runs a
//! nested cargo, and leaves the objects in `$OUT_DIR`.
//!
//! `aya-build` does the same job through rustup only, and cannot pass
//! `-C target-cpu`, which is why it is not used here.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

/// The package, whose binaries become files in `OUT_DIR`.
const EBPF: &str = "steer-ebpf";

/// The profile of the object, in the workspace's `Cargo.toml`.
const PROFILE: &str = "ebpf";

fn main() {
    if let Err(message) = build() {
        // cargo fails the build for these lines. A failing exit status would
        // bury them under everything that the script printed.
        for line in message.lines() {
            println!("cargo::error={line}");
        }
    }
}

fn build() -> Result<(), String> {
    let manifest_dir = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let root = manifest_dir
        .parent()
        .ok_or("steer-user is not inside its workspace")?;
    let out_dir = PathBuf::from(variable("OUT_DIR")?);

    let tools_file = root.join("target/tools/ebpf.env");
    rerun_if_changed(&tools_file);
    for source in [
        "Cargo.lock",
        "Cargo.toml",
        "steer-common/Cargo.toml",
        "steer-common/src",
        "steer-ebpf/Cargo.toml",
        "steer-ebpf/src",
    ] {
        rerun_if_changed(&root.join(source));
    }

    let tools = Tools::read(&tools_file)?;
    tools.compile(root, &out_dir)
}

/// The tools that `cargo xtask setup` chose.
struct Tools {
    cargo: PathBuf,
    rustc: PathBuf,
    linker: PathBuf,
    /// The compiler is a stable one that must be told to accept `-Z` options.
    bootstrap: bool,
}

impl Tools {
    /// Reads `KEY=value` lines and checks that what they name still exists.
    fn read(file: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(file).map_err(|e| {
            format!(
                "the eBPF program cannot be built: no eBPF toolchain has been chosen yet\n\
                 ({}: {e})\n\
                 hint: cargo xtask setup",
                file.display()
            )
        })?;
        let values: BTreeMap<&str, &str> = text
            .lines()
            .filter_map(|line| line.trim().split_once('='))
            .collect();
        let value = |key: &str| {
            values.get(key).copied().ok_or_else(|| {
                format!(
                    "{}: no line {key}=…\nhint: cargo xtask setup",
                    file.display()
                )
            })
        };
        let program = |key: &str| {
            let path = PathBuf::from(value(key)?);
            if path.is_file() {
                return Ok(path);
            }
            Err(format!(
                "the eBPF program cannot be built: {} is gone (named by {} in {})\n\
                 hint: cargo xtask setup",
                path.display(),
                key,
                file.display()
            ))
        };
        Ok(Self {
            cargo: program("CARGO")?,
            rustc: program("RUSTC")?,
            linker: program("LINKER")?,
            bootstrap: value("BOOTSTRAP")? == "1",
        })
    }

    /// Compiles the objects and leaves them in a directory.
    fn compile(&self, root: &Path, out_dir: &Path) -> Result<(), String> {
        let profile = variable("PROFILE")?;
        let endian = match variable("CARGO_CFG_TARGET_ENDIAN")?.as_str() {
            "big" => "bpfeb",
            _ => "bpfel",
        };
        let mut command = Command::new(&self.cargo);
        command
            .current_dir(root)
            .args(["build", "--locked", "--package", EBPF, "--bins"])
            .args(["--profile", PROFILE, "--message-format=json"])
            .args(["-Z", "build-std=core"])
            .arg(format!("--target={endian}-unknown-none"))
            // Its own directory: in the outer cargo's it would wait for that one's
            // lock for ever; in OUT_DIR, `core` would be built again for every
            // profile and set of features with which this script is run.
            .arg("--target-dir")
            .arg(root.join("target/ebpf"))
            // While that is locked: another build there may be of other features.
            .args(["-Z", "unstable-options", "--artifact-dir"])
            .arg(out_dir);
        // Per-packet diagnostics are compiled out of release objects.
        if profile == "debug" {
            command.args(["--features", "log"]);
        }

        for (key, _) in env::vars_os().filter(|(key, _)| breaks_nesting(key)) {
            command.env_remove(key);
        }
        // Empty, not removed: a wrapper in a configuration file would come back.
        for wrapper in ["RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"] {
            command.env(wrapper, "");
        }
        command.env("RUSTC", &self.rustc);
        command.env(
            format!("CARGO_TARGET_{}_UNKNOWN_NONE_LINKER", endian.to_uppercase()),
            &self.linker,
        );
        if self.bootstrap {
            command.env("RUSTC_BOOTSTRAP", "1");
        }
        let rustflags = [
            format!(
                "--cfg=bpf_target_arch=\"{}\"",
                variable("CARGO_CFG_TARGET_ARCH")?
            ),
            // BTF is made from the debug information.
            "-Cdebuginfo=2".into(),
            "-Clink-arg=--btf".into(),
            // 32-bit arithmetic and jumps: kernel 5.1, and steer needs 5.15.
            "-Ctarget-cpu=v3".into(),
        ];
        command.env("CARGO_ENCODED_RUSTFLAGS", rustflags.join("\x1f"));

        run(&mut command).map_err(|reason| {
            format!(
                "the eBPF program could not be built: {reason}\n\
                 hint: if the source is right, check the toolchain: cargo xtask setup"
            )
        })
    }
}

/// Runs the nested cargo: warnings go to the outer cargo as they come, errors
/// become part of the reason.
fn run(command: &mut Command) -> Result<(), String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| e.to_string())?;
    let stderr = child.stderr.take();
    let stderr = thread::spawn(move || {
        let mut text = String::new();
        if let Some(mut stderr) = stderr {
            // What could not be read is missing from a message, no more.
            let _ = stderr.read_to_string(&mut text);
        }
        text
    });

    let mut errors = String::new();
    for line in child.stdout.take().into_iter().flat_map(lines) {
        let Ok(message) = serde_json::from_str::<serde_json::Value>(&line) else {
            println!("cargo::warning={line}");
            continue;
        };
        // Of all messages only the compiler's have a level.
        let rendered = message["message"]["rendered"].as_str().unwrap_or_default();
        if message["message"]["level"] == "error" {
            errors.push('\n');
            errors.push_str(rendered.trim_end());
        } else if message["message"]["level"] == "warning" {
            for line in rendered.lines().filter(|line| !line.is_empty()) {
                println!("cargo::warning={line}");
            }
        }
    }

    let status = child.wait().map_err(|e| e.to_string())?;
    let stderr = without_progress(&stderr.join().unwrap_or_default());
    if !status.success() {
        return Err(format!("{status}{errors}\n{stderr}"));
    }
    Ok(())
}

/// What cargo said, less its right-aligned "Compiling …" lines.
fn without_progress(stderr: &str) -> String {
    let progress = [
        "Blocking",
        "Compiling",
        "Downloaded",
        "Downloading",
        "Updating",
    ];
    let lines: Vec<&str> = stderr
        .lines()
        .filter(|line| {
            let word = line.split_whitespace().next().unwrap_or_default();
            !(line.starts_with(' ') && progress.contains(&word))
        })
        .collect();
    lines.join("\n")
}

fn lines(stream: impl std::io::Read) -> impl Iterator<Item = String> {
    BufReader::new(stream).lines().map_while(Result::ok)
}

/// Whether a variable that the outer cargo, rustup or clippy set for
/// themselves would change what the nested cargo builds.
fn breaks_nesting(key: &OsString) -> bool {
    let Some(key) = key.to_str() else {
        return false;
    };
    // Where crates come from, how to get them, and the shared job slots.
    let keep = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_MAKEFLAGS",
        "CARGO_NET_",
        "CARGO_REGISTRIES_",
        "CARGO_REGISTRY_",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
        "RUSTUP_HOME",
    ];
    ["CARGO", "RUST", "CLIPPY_", "__CARGO", "TARGET"]
        .iter()
        .any(|prefix| key.starts_with(prefix))
        && !keep.iter().any(|prefix| key.starts_with(prefix))
}

fn rerun_if_changed(path: &Path) {
    println!("cargo::rerun-if-changed={}", path.display());
}

fn variable(key: &str) -> Result<String, String> {
    env::var(key).map_err(|e| format!("{key}: {e}"))
}
