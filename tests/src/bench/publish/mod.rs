//! The published figures: the blocks of `docs/benchmarks.md` and of the README between
//! `<!-- figures: NAME -->` and `<!-- end of figures -->`, and the plots, all made from the runs that are kept as
//! JSON in `docs/benchmarks/`.

mod blocks;
mod goals;
mod pages;
pub mod plots;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::Report;

/// Where the runs are kept, and the plots put.
const RUNS: &str = "docs/benchmarks";
/// What has blocks of figures.
const PAGES: [&str; 2] = ["docs/benchmarks.md", "README.md"];

/// A file, below the repository's root, and what has to be in it.
pub type Page = (PathBuf, String);

/// Keeps these runs, instead of those of the same names that are older. Without any, what is kept stays.
pub fn keep(from: &Path, root: &Path) -> Result<Vec<String>> {
    let mut kept = Vec::new();
    let runs = root.join(RUNS);
    fs::create_dir_all(&runs)?;
    if !from.exists() {
        return Ok(kept);
    }
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if blocks::is_published(&name) {
            let run = Report::read(&path)?;
            if let Some(filter) = run.filter {
                bail!("{}: only {filter} was measured", path.display());
            }
            let there = runs.join(&*name);
            if Report::read(&there).is_ok_and(|there| there.unix_secs >= run.unix_secs) {
                continue;
            }
            fs::copy(&path, there)?;
            kept.push(name.into_owned());
        }
    }
    kept.sort();
    Ok(kept)
}

/// What the kept runs make of the pages and plots.
pub fn render(root: &Path) -> Result<Vec<Page>> {
    let runs = blocks::Runs::read(&root.join(RUNS))?;
    let mut all = Vec::new();
    for page in PAGES {
        let path = root.join(page);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let text = pages::fill(&text, |name| runs.block(name)).with_context(|| page.to_owned())?;
        all.push((page.into(), text));
    }
    for (name, plot) in plots::all(&runs)? {
        all.push((Path::new(RUNS).join(name), plot));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_run_is_kept_and_an_older_one_is_not() -> Result<()> {
        let (from, root) = (tempfile::tempdir()?, tempfile::tempdir()?);
        assert!(keep(&from.path().join("none"), root.path())?.is_empty());
        let mut run = Report::new("scale", "", 1);
        for (secs, kept) in [(2, 1), (2, 0), (1, 0), (3, 1)] {
            run.unix_secs = secs;
            run.write(&from.path().join("scale.json"))?;
            run.write(&from.path().join("cost-smoke.json"))?;
            assert_eq!(keep(from.path(), root.path())?.len(), kept, "{secs}");
        }
        assert_eq!(
            Report::read(&root.path().join(RUNS).join("scale.json"))?.unix_secs,
            3
        );
        Ok(())
    }

    #[test]
    fn pages_and_plots_are_what_the_runs_make_of_them() -> Result<()> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for (path, text) in render(&root)? {
            let there = fs::read_to_string(root.join(&path)).unwrap_or_default();
            let what = path.display();
            assert!(
                there == text,
                "{what} is not up to date:\n    cargo xtask bench publish"
            );
        }
        Ok(())
    }
}
