//! `steerctl tunnels`: files for more tunnels.

use std::{
    fmt::Write as _,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use crate::{
    cli::{TunnelsArgs, TunnelsCommand, TunnelsPlanArgs},
    commands::{Context, Failure, print_either},
    output::TunnelsPlanReport,
    plan::{self, Conf, Secret, Secrets, Side, TunnelKeys, TunnelsPlan, TunnelsRequest},
};

/// Directory of the far end's files, in that of this end's.
const FAR: &str = "far";

/// `steerctl tunnels`.
pub(in crate::commands) fn tunnels(context: &Context, args: &TunnelsArgs) -> Result<(), Failure> {
    match &args.command {
        TunnelsCommand::Plan(args) => plan_and_write(context, args),
    }
}

/// A file that is to be.
struct Planned {
    path: PathBuf,
    text: String,
}

/// `steerctl tunnels plan`.
fn plan_and_write(context: &Context, args: &TunnelsPlanArgs) -> Result<(), Failure> {
    let file = args.from.display().to_string();
    let on_file = |path: &Path| {
        let path = path.display().to_string();
        move |error: io::Error| Failure::plain(format!("{path}: {error}"))
    };
    let original = device_of(&args.from)?;
    let text = fs::read_to_string(&args.from).map_err(on_file(&args.from))?;
    let request = TunnelsRequest {
        original,
        file: file.clone(),
        count: args.count,
        all_new: args.all_new,
        endpoint: args.endpoint.clone(),
        lan: args.lan.clone(),
        pools: args.addresses.clone(),
        preshared: args.preshared_keys,
    };
    let conf = Conf::parse(&file, &text).map_err(plan::TunnelsError::from)?;
    let plan = plan::plan_tunnels(&request, &conf)?;
    let dir_of_file = args.from.parent().filter(|dir| !dir.as_os_str().is_empty());
    let near_dir = args
        .out
        .clone()
        .unwrap_or_else(|| dir_of_file.unwrap_or(Path::new(".")).to_owned());
    let far_dir = args.peer_out.clone().unwrap_or_else(|| near_dir.join(FAR));
    if near_dir == far_dir {
        return Err(Failure::new(
            format!(
                "{}: both ends' files have the same names",
                near_dir.display()
            ),
            "give --peer-out another directory",
        ));
    }
    let secrets = if args.dry_run {
        Secrets::Hidden
    } else {
        Secrets::Written
    };
    let (mut near, mut far) = (Vec::new(), Vec::new());
    for tunnel in &plan.tunnels {
        let keys = keys(&plan)?;
        let name = format!("{}.conf", tunnel.name);
        for (side, dir, files) in [
            (Side::Near, &near_dir, &mut near),
            (Side::Far, &far_dir, &mut far),
        ] {
            files.push(Planned {
                path: dir.join(&name),
                text: tunnel.text(side, &keys, secrets, &request.original),
            });
        }
    }
    for planned in near.iter().chain(&far) {
        if planned.path.symlink_metadata().is_ok() {
            let path = planned.path.display();
            return Err(Failure::new(
                format!("{path}: is there already"),
                "nothing is overwritten: name empty directories by --out and --peer-out",
            ));
        }
    }
    let names = |files: &[Planned]| -> Vec<PathBuf> {
        files.iter().map(|planned| planned.path.clone()).collect()
    };
    let report = TunnelsPlanReport::new(&plan, &names(&near), &names(&far), args.dry_run);
    if !args.dry_run {
        write_all(&near, &far)?;
    }
    print_either(context, &report, || {
        let mut out = String::new();
        if args.dry_run {
            for planned in near.iter().chain(&far) {
                // Writing to a String cannot fail.
                let _ = writeln!(out, "{}:\n{}", planned.path.display(), planned.text);
            }
        }
        out + &report.render()
    })
}

/// The device that wg-quick makes of a file.
fn device_of(file: &Path) -> Result<String, Failure> {
    let wrong = || {
        Failure::new(
            format!("{}: not a file named DEVICE.conf", file.display()),
            "as wg-quick takes it: /etc/wireguard/wg0.conf",
        )
    };
    let name = file.file_name().and_then(|name| name.to_str());
    let device = name.and_then(|name| name.strip_suffix(".conf"));
    plan::device_name(device.ok_or_else(wrong)?).map_err(|_| wrong())
}

/// Fresh keys for one tunnel.
fn keys(plan: &TunnelsPlan) -> Result<TunnelKeys, Failure> {
    let random = || {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)
            .map_err(|error| Failure::plain(format!("random numbers: {error}")))?;
        Ok::<_, Failure>(bytes)
    };
    Ok(TunnelKeys {
        near: Secret::private(random()?),
        far: Secret::private(random()?),
        preshared: plan
            .preshared
            .then(|| random().map(Secret::preshared))
            .transpose()?,
    })
}

/// Writes all files, or none.
fn write_all(near: &[Planned], far: &[Planned]) -> Result<(), Failure> {
    let mut made = Made::default();
    for planned in near.iter().chain(far) {
        made.write(planned)
            .map_err(|error| Failure::plain(format!("{}: {error}", planned.path.display())))?;
    }
    made.keep();
    Ok(())
}

/// What was made; removed again when dropped without [`Made::keep`].
#[derive(Default)]
struct Made {
    files: Vec<PathBuf>,
    dirs: Vec<PathBuf>,
}

impl Made {
    fn write(&mut self, planned: &Planned) -> io::Result<()> {
        if let Some(dir) = planned.path.parent() {
            self.make_dir(dir)?;
        }
        // From its first moment on nobody else can read it.
        let mut file: File = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&planned.path)?;
        self.files.push(planned.path.clone());
        file.write_all(planned.text.as_bytes())?;
        file.sync_all()
    }

    fn make_dir(&mut self, dir: &Path) -> io::Result<()> {
        let is_missing = |dir: &&Path| !dir.as_os_str().is_empty() && !dir.exists();
        let missing: Vec<_> = dir.ancestors().take_while(is_missing).collect();
        for dir in missing.into_iter().rev() {
            DirBuilder::new().mode(0o700).create(dir)?;
            self.dirs.push(dir.to_owned());
        }
        Ok(())
    }

    fn keep(mut self) {
        self.files.clear();
        self.dirs.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let report = |path: &Path, result: io::Result<()>| {
            if let Err(error) = result {
                log::warn!("{}: {error}", path.display());
            }
        };
        for file in &self.files {
            report(file, fs::remove_file(file));
        }
        for dir in self.dirs.iter().rev() {
            report(dir, fs::remove_dir(dir));
        }
    }
}
