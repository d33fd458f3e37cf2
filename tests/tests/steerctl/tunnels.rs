//! `steerctl tunnels plan`: the files, and the tunnels that wg-quick makes of them.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use steer_tests::lab::{Host, tunnel_programs, wait};
use steer_tests::steerctl::{Gateway, Outcome, Refusal, has};

use crate::fixture::test;

fn key() -> Result<(String, String)> {
    let private = Command::new("wg").arg("genkey").output()?;
    let private = String::from_utf8(private.stdout)?.trim().to_owned();
    let mut public = Command::new("wg");
    public.arg("pubkey");
    let public = feed(&mut public, &private)?;
    Ok((private, public))
}

fn feed(command: &mut Command, input: &str) -> Result<String> {
    use std::io::Write as _;
    let mut child = command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    child
        .stdin
        .take()
        .context("a pipe")?
        .write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Both ends of the tunnel that is there: this one's file, and the far one's.
fn originals(gateway: &Gateway, ends: [&str; 2], allowed: [&str; 2], more: &str) -> Result<()> {
    let (near, far) = (key()?, key()?);
    for (dir, own, other, address, allowed, endpoint) in [
        ("near", &near, &far, ends[0], allowed[0], "10.1.0.2"),
        ("far", &far, &near, ends[1], allowed[1], "10.1.0.1"),
    ] {
        let dir = gateway.dir().join(dir);
        fs::create_dir_all(&dir)?;
        let text = format!(
            "[Interface]\nPrivateKey = {}\nAddress = {address}\nListenPort = 51820\nTable = off\n\
             [Peer]\nPublicKey = {}\nAllowedIPs = {allowed}\nEndpoint = {endpoint}:51820\n{more}",
            own.0, other.1
        );
        let path = dir.join("wg0.conf");
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn mode(path: &Path) -> Result<u32> {
    let metadata = fs::metadata(path).with_context(|| text(path))?;
    Ok(metadata.permissions().mode() & 0o7777)
}

fn up(host: &Host, file: &Path) -> Result<()> {
    host.command("wg-quick")
        .args(["up", &text(file)])
        .env("WG_QUICK_USERSPACE_IMPLEMENTATION", "wireguard-go")
        .output()
        .map_err(anyhow::Error::from)
        .and_then(|output| {
            let stderr = String::from_utf8_lossy(&output.stderr);
            anyhow::ensure!(output.status.success(), "{}: {stderr}", file.display());
            Ok(())
        })
}

/// Plans two tunnels beside the one that is there, brings all of them up, and has each carry
/// packets both ways.
fn brought_up(name: &str, ends: [&str; 2], remote: [&str; 2], far: &[[&str; 3]]) -> Result<()> {
    if !has(name, tunnel_programs()) {
        return Ok(());
    }
    let gateway = Gateway::up(name, 0)?;
    let allowed = |of: usize| {
        let hosts = ends[1 - of].split(", ").map(|address| {
            let (address, _) = address.split_once('/').unwrap_or((address, ""));
            address.to_owned()
        });
        let hosts: Vec<_> = hosts.collect();
        format!("{}, {}", hosts.join(", "), remote[of])
    };
    originals(
        &gateway,
        ends,
        [&allowed(0), &allowed(1)],
        "PersistentKeepalive = 25\n",
    )?;
    let dirs = [gateway.dir().join("near"), gateway.dir().join("far")];
    let from = text(&dirs[0].join("wg0.conf"));
    let mut args = vec!["tunnels", "plan", "--from", &from, "--count", "3"];
    let far_dir = text(&dirs[1]);
    args.extend(["--peer-out", &far_dir, "--endpoint", "10.1.0.1"]);
    for lan in remote[1].split(", ") {
        args.extend(["--lan", lan]);
    }
    let plan = gateway.json(&args)?;
    assert_eq!(plan["tunnels"].as_array().map(Vec::len), Some(2));
    assert_eq!(plan["keeps_original"], true);
    assert_eq!(plan["dry_run"], false);
    for file in ["wg0", "wg1", "wg2"] {
        // The far end first: a handshake that nobody answers is tried again only after 5 s.
        for (dir, host) in [(&dirs[1], gateway.client()), (&dirs[0], gateway.host())] {
            let path = dir.join(format!("{file}.conf"));
            assert_eq!(mode(&path)?, 0o600, "{}", path.display());
            up(host, &path)?;
        }
    }
    for addresses in far {
        for address in addresses {
            let address: IpAddr = address.parse()?;
            let limit = std::time::Duration::from_secs(10);
            wait::until(&format!("an answer from {address}"), limit, || {
                Ok(gateway.host().reaches(address)?.then_some(()))
            })?;
        }
    }
    // Each through its own: the peer of every device has been spoken to.
    for device in ["wg0", "wg1", "wg2"] {
        let told = gateway
            .host()
            .output("wg", &["show", device, "latest-handshakes"])?;
        assert!(!told.trim().ends_with("\t0"), "{device}: {told}");
    }
    // What wg shows of the new ones is what the far end's files say.
    for (index, device) in ["wg1", "wg2"].into_iter().enumerate() {
        let near = gateway
            .host()
            .output("wg", &["show", device, "public-key"])?;
        let far = gateway.client().output("wg", &["show", device, "peers"])?;
        assert_eq!(near, far, "{device}");
        let told = gateway
            .client()
            .output("wg", &["show", device, "allowed-ips"])?;
        let wanted = &plan["tunnels"][index]["far"]["allowed_ips"];
        for network in wanted.as_array().context("a list")? {
            let network = network.as_str().unwrap_or("?");
            assert!(told.contains(network), "{device}: {network}: {told}");
        }
    }
    // A tunnel of the group like the others: steer finds what they have in common.
    let outcome = Outcome::of(
        gateway
            .host()
            .command(gateway.program())
            .args(["--pin-dir", &text(&gateway.pin_dir())])
            .args(["attach", "--iface", "lan0", "--dry-run"]),
    )?;
    let expected = format!("common AllowedIPs: {}", remote[0]);
    assert!(outcome.stdout.contains(&expected), "{outcome:?}");
    Ok(())
}

test!(ipv4_tunnels_come_up, |name| brought_up(
    name,
    ["10.9.0.1/30", "10.9.0.2/30"],
    ["10.2.0.0/16", "10.1.0.0/24"],
    &[["10.9.0.2", "10.9.0.6", "10.9.0.10"]],
));

test!(ipv6_tunnels_come_up, |name| brought_up(
    name,
    ["fd00:9::2/127", "fd00:9::3/127"],
    ["fd00:2::/64", "fd00:1::/64"],
    &[["fd00:9::3", "fd00:9::5", "fd00:9::7"]],
));

test!(tunnels_of_both_families_come_up, |name| brought_up(
    name,
    ["10.9.0.2/24, fd00:9::1/64", "10.9.0.1/24, fd00:9::2/64"],
    ["10.2.0.0/16, fd00:2::/64", "10.1.0.0/24"],
    &[
        ["10.9.0.1", "10.9.0.5", "10.9.0.9"],
        ["fd00:9::2", "fd00:9::6", "fd00:9::a"],
    ],
));

/// All files below a directory, with their contents.
fn files(dir: &Path) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.push((text(&path), String::new()));
            found.extend(files(&path)?);
        } else {
            found.push((text(&path), fs::read_to_string(&path)?));
        }
    }
    found.sort();
    Ok(found)
}

test!(a_plan_that_is_only_shown, |name| {
    if !has(name, &["wg"]) {
        return Ok(());
    }
    let gateway = Gateway::up(name, 0)?;
    let allowed = ["10.2.0.0/16", "10.1.0.0/24"];
    originals(&gateway, ["10.9.0.1/30", "10.9.0.2/30"], allowed, "")?;
    let before = files(gateway.dir())?;
    let from = text(&gateway.dir().join("near/wg0.conf"));
    let args = ["tunnels", "plan", "--from", &from, "--count", "4"];
    let args = [&args[..], &["--preshared-keys", "--dry-run"]].concat();
    let shown = gateway.done(&args)?;
    assert_eq!(files(gateway.dir())?, before);
    assert_eq!(shown.matches("PrivateKey = (hidden)").count(), 6, "{shown}");
    assert_eq!(
        shown.matches("PresharedKey = (hidden)").count(),
        6,
        "{shown}"
    );
    assert!(shown.contains("Address = 10.9.0.13/30\n"), "{shown}");
    assert!(shown.ends_with("dry run: nothing was written; the keys will be other ones\n"));
    let json = gateway.json(&args)?;
    assert_eq!(json["dry_run"], true);
    assert_eq!(files(gateway.dir())?, before);

    // Written, the keys are in the files and nowhere else.
    let told = gateway.done(&args[..args.len() - 1])?;
    let far = gateway.dir().join("near/far");
    assert_eq!(mode(&far)?, 0o700);
    let mut secrets = Vec::new();
    for (file, text) in files(&gateway.dir().join("near"))? {
        for line in text.lines().filter(|_| !file.ends_with("wg0.conf")) {
            let secret = line.strip_prefix("PrivateKey = ");
            secrets.extend(
                secret
                    .or(line.strip_prefix("PresharedKey = "))
                    .map(str::to_owned),
            );
        }
    }
    assert_eq!(secrets.len(), 12);
    for secret in &secrets {
        assert!(!told.contains(secret), "{told}");
    }
    secrets.sort();
    secrets.dedup();
    // Both ends of a tunnel have the same preshared key.
    assert_eq!(secrets.len(), 9);
    Ok(())
});

test!(plans_that_are_refused, |name| {
    if !has(name, &["wg"]) {
        return Ok(());
    }
    let gateway = Gateway::up(name, 0)?;
    let allowed = ["10.2.0.0/16", "10.1.0.0/24"];
    originals(&gateway, ["10.9.0.1/30", "10.9.0.2/30"], allowed, "")?;
    let near = gateway.dir().join("near");
    let original = fs::read_to_string(near.join("wg0.conf"))?;
    let variant = |name: &str, from: &str, to: &str| -> Result<()> {
        Ok(fs::write(near.join(name), original.replace(from, to))?)
    };
    variant("all.conf", "10.2.0.0/16", "0.0.0.0/0")?;
    variant("odd.conf", "Table = off", "Jc = 4")?;
    let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let second = format!("\n[Peer]\nPublicKey = {key}\n");
    fs::write(near.join("two.conf"), format!("{original}{second}"))?;
    fs::write(near.join("wg.txt"), &original)?;
    // The second of those that would be made; and one at the far end.
    fs::write(near.join("wg2.conf"), "mine")?;
    let dir = text(&near);
    let overwrite = Some("nothing is overwritten: name empty directories by --out and --peer-out");
    let peers = Some(
        "steer spreads flows over tunnels to one gateway: give each peer a device and a file of its own first",
    );
    for (args, code, message, hint) in [
        (
            "wg0.conf --count 3",
            1,
            "{dir}/wg2.conf: is there already",
            overwrite,
        ),
        (
            "wg0.conf --count 2 --peer-out {dir}",
            1,
            "{dir}: both ends' files have the same names",
            Some("give --peer-out another directory"),
        ),
        (
            "all.conf --count 2",
            1,
            "{dir}/all.conf:8: AllowedIPs hold the default route 0.0.0.0/0, which cannot be steered",
            Some("name the networks behind the far gateway in its place: AllowedIPs = 10.2.0.0/16"),
        ),
        (
            "odd.conf --count 2",
            1,
            "{dir}/odd.conf:5: unknown key Jc in [Interface]",
            Some("keys are those of wg(8) and wg-quick(8); take others out of a copy"),
        ),
        (
            "two.conf --count 2",
            1,
            "{dir}/two.conf:11: a second [Peer]: which of them is the far gateway is not known",
            peers,
        ),
        (
            "wg.txt --count 2",
            1,
            "{dir}/wg.txt: not a file named DEVICE.conf",
            Some("as wg-quick takes it: /etc/wireguard/wg0.conf"),
        ),
        (
            "none.conf --count 2",
            1,
            "{dir}/none.conf: No such file or directory (os error 2)",
            None,
        ),
        (
            "wg0.conf --count 1",
            2,
            "--count 1: not a number in 2 to 64",
            None,
        ),
        (
            "wg0.conf --count 65",
            2,
            "--count 65: not a number in 2 to 64",
            None,
        ),
        (
            "wg0.conf --count 2 --endpoint a:b:c",
            2,
            "endpoint \"a:b:c\" is not a host or HOST:PORT",
            Some("for example gw.example.net, 192.0.2.1:51820 or [2001:db8::1]:51820"),
        ),
    ] {
        let before = files(gateway.dir())?;
        let line = format!("tunnels plan --from {dir}/{}", args.replace("{dir}", &dir));
        let args: Vec<_> = line.split_whitespace().collect();
        gateway
            .steerctl(&args)?
            .refused(&Refusal {
                code,
                message: &message.replace("{dir}", &dir),
                hint,
            })
            .with_context(|| line.clone())?;
        assert_eq!(files(gateway.dir())?, before, "{line}");
    }
    Ok(())
});

test!(a_plan_that_cannot_be_written_whole, |name| {
    if !has(name, &["wg"]) {
        return Ok(());
    }
    let gateway = Gateway::up(name, 0)?;
    let allowed = ["10.2.0.0/16", "10.1.0.0/24"];
    originals(&gateway, ["10.9.0.1/30", "10.9.0.2/30"], allowed, "")?;
    // The near files can be written, those of the far end not: a file is in the way of their directory.
    fs::write(gateway.dir().join("blocked"), "")?;
    let before = files(gateway.dir())?;
    let from = text(&gateway.dir().join("near/wg0.conf"));
    let out = text(&gateway.dir().join("new/near"));
    let peer_out = text(&gateway.dir().join("blocked/far"));
    let outcome = gateway.steerctl(&[
        "tunnels",
        "plan",
        "--from",
        &from,
        "--count",
        "3",
        "--out",
        &out,
        "--peer-out",
        &peer_out,
    ])?;
    assert_eq!(
        (outcome.code, outcome.stdout.as_str()),
        (1, ""),
        "{outcome:?}"
    );
    assert!(outcome.stderr.contains("Not a directory"), "{outcome:?}");
    assert_eq!(files(gateway.dir())?, before);
    Ok(())
});
