//! Pages with blocks that are made.

use anyhow::{Context as _, Result};

const BEGIN: &str = "<!-- figures: ";
const END: &str = "<!-- end of figures -->";

/// The page with every block made anew; what is around them stays.
pub(super) fn fill(page: &str, block: impl Fn(&str) -> Result<String>) -> Result<String> {
    let mut text = String::new();
    let mut rest = page;
    while let Some((before, after)) = rest.split_once(BEGIN) {
        let (name, after) = after.split_once(" -->").context("a mark without end")?;
        let (_, after) = after
            .split_once(END)
            .with_context(|| format!("figures {name}: no {END}"))?;
        let made = block(name).with_context(|| format!("figures {name}"))?;
        text.extend([before, BEGIN, name, " -->\n", &made, END]);
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_made_and_the_rest_stays() -> Result<()> {
        let page = "a\n<!-- figures: x -->\nold\n<!-- end of figures -->\nb\n\
                    <!-- figures: y -->\n<!-- end of figures -->\nc\n";
        let filled = fill(page, |name| Ok(format!("{name}!\n")))?;
        assert_eq!(
            filled,
            "a\n<!-- figures: x -->\nx!\n<!-- end of figures -->\nb\n\
             <!-- figures: y -->\ny!\n<!-- end of figures -->\nc\n"
        );
        assert_eq!(fill(&filled, |name| Ok(format!("{name}!\n")))?, filled);
        Ok(())
    }

    #[test]
    fn a_block_without_end_is_an_error() {
        assert!(fill("<!-- figures: x -->\n", |_| Ok(String::new())).is_err());
    }
}
