//! What this run did not show. `xtask/left-out.toml` is the committed list of what the build machine cannot show; anything
//! else that is left out fails the run when `CI=true`.

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// One thing the build machine cannot show.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    /// A short name, which the code that leaves it out uses.
    what: String,
    /// Why, and what would show it.
    why: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    left_out: Vec<Known>,
}

fn committed() -> Result<List> {
    toml::from_str(include_str!("../left-out.toml")).context("reading xtask/left-out.toml")
}

/// Collects what a run leaves out.
#[derive(Debug, Default)]
pub(crate) struct LeftOut {
    unexpected: Vec<(String, String)>,
}

impl LeftOut {
    /// Notes that something was not run, unless the committed list says so already.
    pub(crate) fn note(&mut self, what: &str, why: &str) -> Result<()> {
        if !committed()?.left_out.iter().any(|known| known.what == what) {
            self.unexpected.push((what.to_owned(), why.to_owned()));
        }
        Ok(())
    }

    /// Prints both lists; fails in CI when something is missing that the committed list does not know.
    pub(crate) fn close(&self, ci: bool) -> Result<()> {
        println!("\nLeft out because this machine cannot show it (xtask/left-out.toml):");
        for Known { what, why } in committed()?.left_out {
            println!("   {what}: {why}");
        }
        if self.unexpected.is_empty() {
            return Ok(());
        }
        println!("Left out of this run:");
        for (what, why) in &self.unexpected {
            println!("   {what}: {why}");
        }
        if ci {
            bail!(
                "CI=true and {} suites were left out that the committed list does not name",
                self.unexpected.len()
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_list_reads_and_every_entry_says_why() {
        for Known { what, why } in committed().unwrap().left_out {
            assert!(!what.is_empty() && why.len() > 20, "{what} needs a reason");
        }
    }

    #[test]
    fn something_unlisted_fails_only_in_ci() {
        let mut left = LeftOut::default();
        assert!(left.close(true).is_ok());
        left.note("no such suite", "because").unwrap();
        assert!(left.close(false).is_ok());
        assert!(left.close(true).is_err());
    }

    #[test]
    fn something_listed_never_fails() {
        let mut left = LeftOut::default();
        let known = committed().unwrap().left_out.remove(0);
        left.note(&known.what, "because").unwrap();
        assert!(left.close(true).is_ok());
    }
}
