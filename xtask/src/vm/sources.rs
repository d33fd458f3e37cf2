//! Where kernels come from: the package archive that this machine already uses, with its other suites.
//!
//! Pure: text of apt's sources in, text of our own sources out.

use std::fmt::Write as _;

/// Releases whose kernels are wanted, as Debian names them: 5.10, 6.1, 6.12, later ones, the newest.
const SUITES: [&str; 6] = [
    "bullseye",
    "bookworm",
    "trixie",
    "trixie-backports",
    "forky",
    "sid",
];
/// Other names of them, by which a machine may know its own.
const ALIASES: [&str; 4] = ["oldstable", "stable", "testing", "unstable"];
/// Those of which an archive of security updates has a suite.
const SECURITY_SUITES: [&str; 3] = ["bullseye-security", "bookworm-security", "trixie-security"];
/// Debian's own archives and its key, for a machine that names no other.
const DEBIAN: &str = "http://deb.debian.org/debian";
const DEBIAN_SECURITY: &str = "http://deb.debian.org/debian-security";
pub(crate) const DEBIAN_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// An archive of packages.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Archive {
    uri: String,
    suites: Vec<String>,
    components: Vec<String>,
    /// The value of `Signed-By`: a file, or a key with its continuation lines.
    signed_by: Option<String>,
}

/// One of apt's files, by its format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// `*.sources`: paragraphs of fields (deb822).
    Fields,
    /// `*.list`: one line each.
    Lines,
}

impl Format {
    /// The format of a file of this name; none for what apt does not read.
    pub(crate) fn of(name: &str) -> Option<Self> {
        match name.rsplit_once('.')?.1 {
            "sources" => Some(Self::Fields),
            "list" => Some(Self::Lines),
            _ => None,
        }
    }
}

/// Our own sources (deb822), from those of the machine.
pub(crate) fn derive(files: &[(Format, String)]) -> String {
    let archives: Vec<_> = files
        .iter()
        .flat_map(|(format, text)| match format {
            Format::Fields => fields(text),
            Format::Lines => lines(text),
        })
        .collect();
    let main = mirror(&archives);
    let security = archives
        .iter()
        .find(|archive| archive.has_any(&SECURITY_SUITES) && archive.is_main());
    [
        paragraph(main, DEBIAN, &SUITES),
        paragraph(security, DEBIAN_SECURITY, &SECURITY_SUITES),
    ]
    .join("\n")
}

impl Archive {
    fn has_any(&self, suites: &[&str]) -> bool {
        self.suites.iter().any(|suite| suites.contains(&&**suite))
    }

    /// Others name their components otherwise, mostly.
    fn is_main(&self) -> bool {
        self.components.iter().any(|component| component == "main")
    }

    fn path(&self) -> &str {
        self.uri.trim_end_matches('/')
    }
}

/// The archive that is Debian's. Others may name its suites, too; theirs have no updates, and other paths.
fn mirror(archives: &[Archive]) -> Option<&Archive> {
    let signs = |archive: &Archive| {
        let has_updates = archives
            .iter()
            .filter(|other| other.path() == archive.path())
            .flat_map(|other| &other.suites)
            .any(|suite| suite.ends_with("-updates"));
        (has_updates, archive.path().ends_with("/debian"))
    };
    archives
        .iter()
        .filter(|archive| archive.is_main())
        .filter(|archive| archive.has_any(&SUITES) || archive.has_any(&ALIASES))
        .filter(|archive| signs(archive) != (false, false))
        // Of equals the first.
        .rev()
        .max_by_key(|archive| signs(archive))
}

fn paragraph(archive: Option<&Archive>, uri: &str, suites: &[&str]) -> String {
    let uri = archive.map_or(uri, |archive| &archive.uri);
    let signed_by = archive.map_or(Some(DEBIAN_KEYRING), |archive| archive.signed_by.as_deref());
    let mut text = format!(
        "Types: deb\nURIs: {uri}\nSuites: {}\nComponents: main\nArchitectures: amd64\n",
        suites.join(" ")
    );
    if let Some(key) = signed_by {
        let _ = writeln!(text, "Signed-By: {key}");
    }
    text
}

/// The archives of deb822 text.
fn fields(text: &str) -> Vec<Archive> {
    let mut archives = Vec::new();
    for paragraph in text.split("\n\n") {
        let field = |wanted: &str| {
            let mut value: Option<String> = None;
            let mut is_inside = false;
            for line in paragraph.lines().filter(|line| !line.starts_with('#')) {
                if line.starts_with([' ', '\t']) {
                    if let (true, Some(value)) = (is_inside, &mut value) {
                        value.push('\n');
                        value.push_str(line);
                    }
                } else if let Some((name, rest)) = line.split_once(':') {
                    is_inside = name.eq_ignore_ascii_case(wanted);
                    if is_inside {
                        value = Some(rest.trim().to_owned());
                    }
                }
            }
            value
        };
        if field("Enabled").is_some_and(|value| value == "no") {
            continue;
        }
        let is_binary =
            field("Types").is_some_and(|types| types.split_whitespace().any(|t| t == "deb"));
        let (Some(uris), Some(suites), true) = (field("URIs"), field("Suites"), is_binary) else {
            continue;
        };
        if let Some(uri) = uris.split_whitespace().next() {
            archives.push(Archive {
                uri: uri.to_owned(),
                suites: words(&suites),
                components: words(&field("Components").unwrap_or_default()),
                signed_by: field("Signed-By"),
            });
        }
    }
    archives
}

/// The archives of lines such as `deb [signed-by=FILE] URI SUITE main`.
fn lines(text: &str) -> Vec<Archive> {
    text.lines()
        .filter_map(|line| {
            let mut rest = line.trim().strip_prefix("deb")?.trim_start();
            let mut signed_by = None;
            if let Some((options, after)) = rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
                rest = after;
                signed_by = options
                    .split_whitespace()
                    .find_map(|option| option.strip_prefix("signed-by="))
                    .map(str::to_owned);
            }
            let mut words = rest.split_whitespace();
            Some(Archive {
                uri: words.next().filter(|uri| uri.contains(':'))?.to_owned(),
                suites: vec![words.next()?.to_owned()],
                components: words.map(str::to_owned).collect(),
                signed_by,
            })
        })
        .collect()
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: &str = "Types: deb\n# a comment\nURIs: http://mirror.example/debian\n\
        Suites: bookworm bookworm-updates\nComponents: main\nSigned-By: /usr/share/keyrings/k.gpg\n\n\
        Types: deb deb-src\nURIs: http://mirror.example/security\nSuites: bookworm-security\n\
        Components: main\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n";

    #[test]
    fn the_machines_mirror_is_used_with_its_other_suites() {
        let text = derive(&[(Format::Fields, MACHINE.to_owned())]);
        assert!(
            text.contains("URIs: http://mirror.example/debian\n"),
            "{text}"
        );
        assert!(text.contains("Suites: bullseye bookworm trixie trixie-backports forky sid\n"));
        assert!(
            text.contains("Signed-By: /usr/share/keyrings/k.gpg\n\n"),
            "{text}"
        );
        assert!(
            text.contains("URIs: http://mirror.example/security\n"),
            "{text}"
        );
        assert!(
            text.ends_with("Signed-By: \n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n"),
            "{text}"
        );
        assert!(!text.contains("deb.debian.org"), "{text}");
    }

    #[test]
    fn lines_of_the_old_format_are_read() {
        let old = "# deb http://no.example/ bookworm main\n\
            deb-src http://source.example/debian trixie main\n\
            deb [arch=amd64 signed-by=/k.gpg] http://lines.example/debian trixie main contrib\n";
        let text = derive(&[(Format::Lines, old.to_owned())]);
        assert!(
            text.contains("URIs: http://lines.example/debian\n"),
            "{text}"
        );
        assert!(text.contains("Signed-By: /k.gpg\n"), "{text}");
        // None of security updates: Debian's own.
        assert!(
            text.contains("URIs: http://deb.debian.org/debian-security\n"),
            "{text}"
        );
    }

    #[test]
    fn a_machine_of_another_distribution_is_sent_to_debian() {
        let ubuntu = "Types: deb\nURIs: http://ubuntu.example/\nSuites: noble\nComponents: main\n\n\
            Enabled: no\nTypes: deb\nURIs: http://off.example/debian\nSuites: trixie\nComponents: main\n";
        let text = derive(&[(Format::Fields, ubuntu.to_owned())]);
        assert!(
            text.contains("URIs: http://deb.debian.org/debian\n"),
            "{text}"
        );
        assert!(!text.contains("example"), "{text}");
        assert!(text.contains(DEBIAN_KEYRING));
    }

    #[test]
    fn others_that_name_debians_suites_are_not_debian() {
        let others = "deb http://tools.example/linux/debian bookworm stable\n\
            deb http://one.example/apt bookworm main\n";
        let own = "deb http://own.example/mirror/debian/ stable main\n\
            deb http://own.example/mirror/debian stable-updates main\n";
        let text = derive(&[
            (Format::Lines, others.to_owned()),
            (Format::Lines, own.to_owned()),
        ]);
        assert!(
            text.contains("URIs: http://own.example/mirror/debian/\n"),
            "{text}"
        );
        assert!(!text.contains("one.example"), "{text}");
        let text = derive(&[(
            Format::Lines,
            "deb http://one.example/apt bookworm main\n".to_owned(),
        )]);
        assert!(!text.contains("one.example"), "{text}");
    }

    #[test]
    fn apt_reads_two_kinds_of_files() {
        assert_eq!(Format::of("debian.sources"), Some(Format::Fields));
        assert_eq!(Format::of("extra.list"), Some(Format::Lines));
        assert_eq!(Format::of("extra.list.disabled"), None);
        assert_eq!(Format::of("README"), None);
    }
}
