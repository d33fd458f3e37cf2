//! A full disk, a read-only file system, and pins that cannot be made.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use nix::net::if_::if_nametoindex;
use nix::sys::signal::Signal;
use steer_tests::steerctl::Gateway;

use crate::fixture::{Site, one_group, test};

fn mount(args: &[&str], at: &Path) -> Result<()> {
    let status = Command::new("mount").args(args).arg(at).status()?;
    ensure!(status.success(), "mount {args:?}: {status}");
    Ok(())
}

fn remount(how: &str, at: &Path) -> Result<()> {
    mount(&["-o", &format!("remount,{how}")], at)
}

/// A small file system, in the gateway's directory, that holds its configuration.
fn small_disk(gateway: &Gateway, text: &str) -> Result<(std::path::PathBuf, String)> {
    let disk = gateway.dir().join("etc");
    fs::create_dir(&disk)?;
    mount(&["-t", "tmpfs", "-o", "size=64k", "steer-test"], &disk)?;
    let file = disk.join("steer.toml");
    fs::write(&file, text)?;
    let name = file.display().to_string();
    Ok((disk, name))
}

/// Fills a file system to its last byte.
fn fill(disk: &Path) -> Result<()> {
    let mut file = fs::File::create(disk.join("filler")).context("making the filler")?;
    loop {
        match file.write(&[0; 512]) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(error).context("filler"),
        }
    }
}

fn names(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

test!(weights_are_saved_or_not_changed, |name| {
    let text = one_group(&[("wg0", 1), ("wg1", 1)]);
    let site = Site::up(name, 2, "")?;
    let gateway = &site.gateway;
    let (disk, file) = small_disk(gateway, &text)?;
    let mut running = gateway.run(&["--config", &file])?;
    let save = ["weights", "wg0=3", "--save", "--config", &file];
    let refused = |words: &str| -> Result<()> {
        let before = names(&disk)?;
        let outcome = gateway.steerctl(&save)?;
        let told = format!("steerctl: {file}: cannot be written: {words}");
        assert!(
            outcome.code == 1 && outcome.stderr.contains(&told),
            "{outcome:?}"
        );
        assert_eq!(gateway.tunnel("wg0")?["weight"], 1);
        assert_eq!(
            (fs::read_to_string(&file)?, names(&disk)?),
            (text.clone(), before)
        );
        Ok(())
    };
    fill(&disk)?;
    refused("No space left on device (os error 28)")?;
    fs::remove_file(disk.join("filler"))?;
    remount("ro", &disk)?;
    refused("Read-only file system (os error 30)")?;
    // Nothing else needs to write there: reading again, a restart, weights that are not saved.
    running.signal(Signal::SIGHUP)?;
    running.says("configuration read again: 0 changes")?;
    running.kill()?;
    running = gateway.run(&["--config", &file])?;
    gateway.done(&["weights", "wg0=2"])?;
    remount("rw", &disk)?;
    gateway.done(&save)?;
    assert_eq!(
        fs::read_to_string(&file)?,
        text.replacen("weight = 1", "weight = 3", 1)
    );
    assert_eq!(gateway.tunnel("wg0")?["weight"], 3);
    running.stop().map(drop)
});

// Where no pin can be made, a start leaves nothing, and what is steered already is not touched.
test!(pins_that_cannot_be_made, |name| {
    let first = one_group(&[("wg0", 1), ("wg1", 1)]);
    let site = Site::up(name, 3, &first)?;
    let (gateway, pins) = (&site.gateway, site.gateway.pin_dir());
    fs::create_dir(&pins)?;
    mount(&["-t", "bpf", "-o", "mode=0700", "bpf"], &pins)?;
    remount("ro", &pins)?;
    let before = gateway.traces()?;
    let outcome = gateway.steerctl(&["run", "--config", site.file()])?;
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(
        outcome.stderr.contains("Read-only file system"),
        "{outcome:?}"
    );
    assert_eq!(gateway.traces()?, before);

    remount("rw", &pins)?;
    // Filters are not pinned.
    let mut running = site.run(&["--attach", "tcx"])?;
    let steering = gateway.traces()?;
    let groups = |status: serde_json::Value| status["groups"][0]["tunnels"].clone();
    let tunnels = groups(gateway.json(&["status"])?);
    // The weights could be written, the program of a new tunnel be attached, but not be pinned there.
    let number = gateway.host().within(|| Ok(if_nametoindex("wg2")?))?;
    let in_the_way = gateway.pin(&format!("egress_{number}"));
    fs::create_dir(&in_the_way)?;
    site.write(&one_group(&[("wg0", 5), ("wg1", 1), ("wg2", 1)]))?;
    running.signal(Signal::SIGHUP)?;
    running.says("configuration refused, nothing is changed: ")?;
    fs::remove_dir(&in_the_way)?;
    assert_eq!(gateway.traces()?, steering);
    assert_eq!(groups(gateway.json(&["status"])?), tunnels);
    running.signal(Signal::SIGHUP)?;
    running.says("configuration read again: 2 changes")?;
    running.stop()?;
    // The bpffs is not steer's.
    assert_eq!(gateway.traces()?, before);
    Ok(())
});

// `/etc/steer/steer.toml` is what `run` reads when it is told nothing, from a read-only `/etc`.
test!(the_usual_file, |name| {
    let site = Site::up(name, 2, &one_group(&[("wg0", 1), ("wg1", 4)]))?;
    let gateway = &site.gateway;
    let script = "mount -t tmpfs -o size=64k steer-test /etc && mkdir /etc/steer && cp \"$1\" /etc/steer/steer.toml \
                  && mount -o remount,ro /etc && shift && exec \"$@\"";
    let in_private = |args: &[&str]| -> Result<String> {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--", "sh", "-c", script, "sh", site.file()])
            .arg(gateway.program())
            .args(["--netns", gateway.host().netns(), "--pin-dir"])
            .arg(gateway.pin_dir())
            .args(args)
            .env_remove("RUST_LOG");
        let outcome = steer_tests::steerctl::Outcome::of(&mut command)?.done()?;
        assert!(
            outcome
                .stderr
                .contains("steerctl: by /etc/steer/steer.toml\n")
                || args[0] != "run",
            "{outcome:?}"
        );
        Ok(outcome.stdout)
    };
    let checked = in_private(&["check"])?;
    assert_eq!(
        checked,
        "/etc/steer/steer.toml: valid: 1 group, 2 tunnels, 1 prefix\n"
    );
    let told = in_private(&["run", "--dry-run"])?;
    assert!(told.contains("wg1"), "{told}");
    Ok(())
});
