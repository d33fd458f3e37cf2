//! Nothing that is decided depends on the wall clock, which may jump: time-outs, probes, pauses and ages go by
//! `CLOCK_MONOTONIC`.

use std::fs;
use std::path::{Path, PathBuf};

/// Who may ask for the time of day: what shows times to people, and WireGuard's handshakes, which the kernel
/// tells so.
const SHOWN: [&str; 5] = [
    "src/wall_clock.rs",
    "src/plan/values.rs",
    "src/commands/verbs/events.rs",
    "src/commands/verbs/doctor.rs",
    "src/commands/verbs/show.rs",
];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn nothing_is_decided_by_the_wall_clock() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for dir in ["src", "../steer-common/src", "../steer-ebpf/src"] {
        sources(&root.join(dir), &mut files);
    }
    assert!(files.len() > 100, "{} files", files.len());
    let mut askers = 0;
    for path in files {
        let text = fs::read_to_string(&path).expect("read");
        let asks = [
            "SystemTime",
            "CLOCK_REALTIME",
            "ktime_get_real",
            "UtcDateTime",
            "wall_clock::",
        ]
        .iter()
        .any(|clock| text.contains(clock));
        let may = SHOWN.iter().any(|shown| path.ends_with(shown));
        assert!(!asks || may, "{}: asks for the time of day", path.display());
        askers += usize::from(asks);
    }
    assert!(askers > 0);
}
