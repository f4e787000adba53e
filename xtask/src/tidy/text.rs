//! Laws of every file, whatever its language: links of Markdown lead somewhere, and nothing names the machine that
//! wrote it.

use std::path::{Component, Path, PathBuf};

use pulldown_cmark::{Event, Parser, Tag};

use super::Finding;

/// Strings that must not be committed.
pub(super) struct Banned {
    words: Vec<(String, &'static str)>,
}

impl Banned {
    /// What is banned for a tree that lies at `root`.
    pub(super) fn here(root: &Path) -> Self {
        let home = std::env::var_os("HOME").map(PathBuf::from);
        Self::new(root, home.as_deref())
    }

    fn new(root: &Path, home: Option<&Path>) -> Self {
        let mut words = Vec::new();
        for directory in root.parent().into_iter().chain(home) {
            // A first-level directory as such (`/tmp`, `/root`) is everybody's; something below it is this machine's.
            if directory != Path::new("/") {
                words.push((format!("{}/", directory.display()), "is a path of this machine"));
            }
        }
        // Put together here, because this file may not name them either.
        for (host, domain) in [
            ("index.crates", "io"),
            ("static.crates", "io"),
            ("deb.debian", "org"),
            ("security.debian", "org"),
            ("pypi", "org"),
            ("pythonhosted", "org"),
            ("registry.npmjs", "org"),
            ("proxy.golang", "org"),
        ] {
            words.push((format!("{host}.{domain}"), "is a package registry's host"));
        }
        Self { words }
    }

    /// Every banned string in a file.
    pub(super) fn findings(&self, path: &Path, bytes: &[u8]) -> Vec<Finding> {
        let text = String::from_utf8_lossy(bytes);
        let mut findings = Vec::new();
        for (number, line) in text.lines().enumerate() {
            for (word, why) in &self.words {
                if stands_alone(line, word) {
                    findings.push(Finding::new(path, number + 1, format!("`{word}` {why}")));
                }
            }
        }
        findings
    }
}

/// True when `word` occurs and is not the tail of a longer path: `/var/tmp/` does not name `/tmp/`.
fn stands_alone(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !word.starts_with('/') || !before.is_some_and(|c| c.is_alphanumeric() || "._-$}".contains(c))
    })
}

/// Relative links of a Markdown file that lead nowhere. `exists` is asked for paths relative to the root.
pub(super) fn links(path: &Path, content: &str, exists: impl Fn(&Path) -> bool) -> Vec<Finding> {
    let directory = path.parent().unwrap_or(Path::new(""));
    let mut findings = Vec::new();
    for (event, range) in Parser::new(content).into_offset_iter() {
        let Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) = event else {
            continue;
        };
        let target = dest_url.split(['#', '?']).next().unwrap_or_default();
        let elsewhere = dest_url.contains("://") || dest_url.starts_with("mailto:");
        if elsewhere || target.is_empty() {
            continue;
        }
        if !normal(&directory.join(target)).is_some_and(|to| exists(&to)) {
            let line = content[..range.start].lines().count().max(1);
            findings.push(Finding::new(
                path,
                line,
                format!("links to `{target}`, which does not exist"),
            ));
        }
    }
    findings
}

/// The path without `.` and `..`; `None` when it leaves the tree.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            Component::ParentDir => {
                if !clean.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_machine_are_found_and_longer_paths_are_not() {
        let banned = Banned::new(Path::new("/build/here/repo"), Some(Path::new("/home/me")));
        let lines = |text: &str| banned.findings(Path::new("a"), text.as_bytes()).len();
        assert_eq!(lines("see /build/here/repo/x"), 1);
        assert_eq!(lines("\"/home/me/.cargo\"\nfine\n/home/me/x"), 2);
        assert_eq!(lines("/srv/build/here/x and /home/meagan/x"), 0);
        assert_eq!(lines(&["https://index.crates", ".io/x"].concat()), 1);
    }

    #[test]
    fn relative_links_must_exist_and_others_are_left_alone() {
        let text = "# A\n[a](b.md) [b](../c.md#part) [c](https://x.y/z) [d](#here)\n\n![e](img/f.png)\n[g](../../h)\n";
        let found = links(Path::new("docs/a.md"), text, |to| to == Path::new("c.md"));
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(
            found[0].contains("`b.md`") && found[1].contains("img/f.png") && found[2].contains("../../h")
        );
    }
}
