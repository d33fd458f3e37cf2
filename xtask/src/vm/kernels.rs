//! Kernels: which there are, which are wanted, and where they are kept once fetched.

use std::{
    env, fmt,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{
    apt::Apt,
    version::{NEWEST, newest_of},
    work::{self, remove_dir},
};
use crate::process::{run, say};

/// What the names of kernel packages begin and end with: small kernels for virtual machines.
const IMAGE: &str = "linux-image-";
const FLAVOUR: &str = "-cloud-amd64";
/// Packages of newer kernels that have their files; the kernel's own then leads to them.
const PARTS: [&str; 2] = ["linux-binary-", "linux-modules-"];
/// What ends the name of a kernel's directory that is not whole yet.
const NEW: &str = ".new";

/// No archive has such a kernel, as far as they can be reached.
#[derive(Debug)]
pub(crate) struct NotOffered;

impl fmt::Display for NotOffered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no archive that can be reached offers it")
    }
}

impl std::error::Error for NotOffered {}

/// A kernel that an archive offers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Offer {
    /// `linux-image-6.1.0-56-cloud-amd64` and what else it needs of the same release.
    packages: Vec<String>,
    /// The release string: `6.1.0-56-cloud-amd64`.
    release: String,
    /// The package's version: `6.1.192-2`.
    version: String,
}

/// A kernel on this machine's disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// The version that was asked for, and that the table has.
    pub(crate) wanted: String,
    /// The package's version.
    pub(crate) version: String,
    /// What `uname -r` says in it.
    pub(crate) release: String,
    pub(crate) image: PathBuf,
    /// The directory `lib/modules/RELEASE` is below it.
    pub(crate) tree: PathBuf,
}

/// Fetched kernels, each in a directory of its version.
pub(crate) struct Cache {
    dir: PathBuf,
    /// What is on offer, once asked.
    offers: Option<(Apt, Vec<Offer>)>,
    update: bool,
    /// One process at a time fetches; the lock is gone with it.
    _lock: File,
}

impl Cache {
    /// The user's cache. With `update`, newer kernels are looked for.
    pub(crate) fn open(update: bool) -> Result<Self> {
        let dir = match (env::var_os("XDG_CACHE_HOME"), env::var_os("HOME")) {
            (Some(cache), _) if !cache.is_empty() => PathBuf::from(cache),
            (_, Some(home)) => PathBuf::from(home).join(".cache"),
            _ => bail!("neither HOME nor XDG_CACHE_HOME is set: nowhere to keep kernels"),
        }
        .join("steer-vm");
        fs::create_dir_all(dir.join("kernels")).with_context(|| dir.display().to_string())?;
        let lock = work::lock(&dir.join("lock"), "the cache of kernels")?;
        Ok(Self {
            dir,
            offers: None,
            update,
            _lock: lock,
        })
    }

    /// The kernel of a version such as `6.1`, or of the newest; fetched if it is not there.
    pub(crate) fn kernel(&mut self, wanted: &str) -> Result<Kernel> {
        let kept = self.kept(wanted)?;
        let version = match kept {
            Some(kept) if !self.update => kept,
            None => self.fetched(wanted)?,
            Some(kept) => self.fetched(wanted).unwrap_or_else(|error| {
                let instead = format!("{kept} was fetched before, and is used");
                say("vm", &format!("kernel {wanted}: {error:#}; {instead}"));
                kept
            }),
        };
        self.cached(wanted, &version)
    }

    /// The version that archives offer, on disk when this returns.
    fn fetched(&mut self, wanted: &str) -> Result<String> {
        let dir = self.dir.clone();
        let (apt, offers) = self.offers()?;
        let versions: Vec<_> = offers.iter().map(|offer| offer.version.clone()).collect();
        let offer = newest_of(&versions, wanted)
            .and_then(|version| offers.iter().find(|offer| offer.version == version))
            .ok_or(NotOffered)?;
        let version = offer.version.clone();
        let place = dir.join("kernels").join(&version);
        if !place.exists() {
            fetch(apt, offer, &place)?;
        }
        if wanted == NEWEST {
            fs::write(dir.join(NEWEST), &version)?;
        }
        Ok(version)
    }

    /// The version on disk that is one of `wanted`.
    fn kept(&self, wanted: &str) -> Result<Option<String>> {
        let mut versions = Vec::new();
        for entry in fs::read_dir(self.dir.join("kernels"))? {
            let name = entry?.file_name().into_string();
            versions.extend(name.ok().filter(|name| !name.ends_with(NEW)));
        }
        if wanted == NEWEST {
            // The newest on disk need not be the newest that there was.
            let newest = fs::read_to_string(self.dir.join(NEWEST)).unwrap_or_default();
            return Ok(versions.into_iter().find(|version| *version == newest));
        }
        Ok(newest_of(&versions, wanted))
    }

    fn cached(&self, wanted: &str, version: &str) -> Result<Kernel> {
        let dir = self.dir.join("kernels").join(version);
        let release = fs::read_to_string(dir.join("release"))
            .with_context(|| format!("{}: not whole, remove it", dir.display()))?;
        Ok(Kernel {
            wanted: wanted.to_owned(),
            version: version.to_owned(),
            release: release.trim().to_owned(),
            image: dir.join("vmlinuz"),
            tree: dir.join("tree"),
        })
    }

    fn offers(&mut self) -> Result<(&Apt, &[Offer])> {
        if self.offers.is_none() {
            let apt = Apt::new(self.dir.join("apt"))?;
            apt.update();
            let names: Vec<_> = apt
                .names(IMAGE)?
                .into_iter()
                .filter(|name| release_of(name).is_some())
                .collect();
            let offers = if names.is_empty() {
                Vec::new()
            } else {
                offers(&apt.show(&names)?)
            };
            self.offers = Some((apt, offers));
        }
        let (apt, offers) = self.offers.as_ref().context("no archives")?;
        Ok((apt, offers))
    }
}

/// Unpacks a kernel beside its place, and moves it there when it is whole.
fn fetch(apt: &Apt, offer: &Offer, dir: &Path) -> Result<()> {
    say(
        "vm",
        &format!(
            "fetching kernel {} ({})",
            offer.version,
            offer.packages.join(" ")
        ),
    );
    let mut new = dir.as_os_str().to_owned();
    new.push(NEW);
    let new = PathBuf::from(new);
    remove_dir(&new)?;
    let tree = new.join("tree");
    fs::create_dir_all(&tree)?;
    apt.unpack(&offer.packages, &tree)?;
    // Packages for a merged /usr have their modules there.
    if !tree.join("lib/modules").exists() {
        fs::create_dir_all(tree.join("lib"))?;
        fs::rename(tree.join("usr/lib/modules"), tree.join("lib/modules"))
            .context("the package has no modules")?;
    }
    let release = &offer.release;
    let images = [
        tree.join(format!("boot/vmlinuz-{release}")),
        // Since 7.3.
        tree.join(format!("lib/modules/{release}/vmlinuz")),
    ];
    let image = images.iter().find(|image| image.exists());
    let image = image.context("the package has no kernel")?;
    fs::rename(image, new.join("vmlinuz")).with_context(|| image.display().to_string())?;
    let mut depmod = Command::new("depmod");
    run(depmod.arg("-b").arg(&tree).arg(&offer.release))?;
    fs::write(new.join("release"), &offer.release)?;
    Ok(fs::rename(&new, dir)?)
}

/// The release in the name of a kernel's package: `6.1.0-56-cloud-amd64`. None for packages that
/// only lead to another, and for unsigned and debug ones.
fn release_of(package: &str) -> Option<&str> {
    let release = package.strip_prefix(IMAGE)?;
    let number = release.strip_suffix(FLAVOUR)?;
    (number.split('.').count() >= 3 && number.starts_with(|c: char| c.is_ascii_digit()))
        .then_some(release)
}

/// The kernels in what `apt-cache show` says.
fn offers(shown: &str) -> Vec<Offer> {
    shown
        .split("\n\n")
        .filter_map(|paragraph| {
            let field = |name: &str| {
                paragraph
                    .lines()
                    .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            };
            let package = field("Package")?;
            let release = release_of(package)?;
            let mut packages = vec![package.to_owned()];
            // Newer ones come in several packages of the same release.
            packages.extend(
                field("Depends")
                    .unwrap_or_default()
                    .split([',', '|'])
                    .filter_map(|word| word.split_whitespace().next())
                    .filter(|name| {
                        PARTS
                            .iter()
                            .any(|part| **name == format!("{part}{release}"))
                    })
                    .map(str::to_owned),
            );
            Some(Offer {
                packages,
                release: release.to_owned(),
                version: field("Version")?.to_owned(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::work::Work;

    const SHOWN: &str = "Package: linux-image-6.1.0-56-cloud-amd64\nVersion: 6.1.192-2\n\
        Depends: kmod, linux-base (>= 4.3~), initramfs-tools (>= 0.120) | linux-initramfs-tool\n\n\
        Package: linux-image-6.1.0-50-cloud-amd64\nVersion: 6.1.176-1\nDepends: kmod\n\n\
        Package: linux-image-7.3.4+deb13-cloud-amd64\nVersion: 7.3.4-1~bpo13+1\n\
        Depends: dracut | initramfs-tools, linux-base-7.3.4+deb13-cloud-amd64 (= 7.3.4-1~bpo13+1), \
        linux-binary-7.3.4+deb13-cloud-amd64 (= 7.3.4-1~bpo13+1), linux-modules-7.3.4+deb13-cloud-amd64 (= 1)\n\n\
        Package: linux-image-cloud-amd64\nVersion: 9.1-1\nDepends: linux-image-6.1.0-56-cloud-amd64\n";

    fn versions() -> Vec<String> {
        offers(SHOWN)
            .into_iter()
            .map(|offer| offer.version)
            .collect()
    }

    #[test]
    fn offered_kernels_are_read() {
        assert_eq!(versions(), ["6.1.192-2", "6.1.176-1", "7.3.4-1~bpo13+1"]);
        let offers = offers(SHOWN);
        assert_eq!(offers[0].release, "6.1.0-56-cloud-amd64");
        assert_eq!(offers[0].packages, ["linux-image-6.1.0-56-cloud-amd64"]);
        let last = offers[2].packages.join(" ");
        assert_eq!(
            last,
            "linux-image-7.3.4+deb13-cloud-amd64 linux-binary-7.3.4+deb13-cloud-amd64 \
             linux-modules-7.3.4+deb13-cloud-amd64"
        );
    }

    #[test]
    fn names_that_are_no_kernels_are_left_out() {
        for name in [
            "linux-image-cloud-amd64",
            "linux-image-6.1-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64-unsigned",
            "linux-image-6.1.0-56-amd64",
        ] {
            assert_eq!(release_of(name), None, "{name}");
        }
    }

    fn cache(name: &str, update: bool) -> (Work, Cache) {
        let work = Work::named(name).expect("a directory");
        let dir = work.file("cache");
        fs::create_dir_all(dir.join("kernels")).expect("a cache");
        let lock = work::lock(&dir.join("lock"), "it").expect("a lock");
        let cache = Cache {
            // An archive that offers nothing.
            offers: Some((Apt::at(dir.join("apt")), Vec::new())),
            dir,
            update,
            _lock: lock,
        };
        (work, cache)
    }

    fn put(cache: &Cache, version: &str) {
        let dir = cache.dir.join("kernels").join(version);
        fs::create_dir_all(&dir).expect("a directory");
        fs::write(dir.join("release"), "6.1.0-cloud\n").expect("a file");
    }

    #[test]
    fn only_what_no_archive_has_is_not_offered() {
        let (_work, mut cache) = cache("not-offered", false);
        assert!(cache.kernel("6.1").unwrap_err().is::<NotOffered>());
        // One that is there and broken is another error.
        fs::create_dir_all(cache.dir.join("kernels/6.1.192-2")).expect("a directory");
        let error = cache.kernel("6.1").unwrap_err();
        assert!(!error.is::<NotOffered>(), "{error:#}");
        assert!(
            format!("{error:#}").contains("6.1.192-2: not whole"),
            "{error:#}"
        );
    }

    #[test]
    fn what_was_fetched_before_does_without_archives() {
        let (_work, mut cache) = cache("fetched-before", true);
        put(&cache, "6.1.192-2");
        assert_eq!(cache.kernel("6.1").expect("it").version, "6.1.192-2");
    }
}
