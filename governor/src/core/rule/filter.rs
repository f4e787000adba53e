//! The tests a rule makes beyond the program's name. Pure; unknown facts never decide in favour of a list.
//!
//! A failed test is told as the second half of a sentence that starts with the rule's name ("wants user in [alice],
//! this one belongs to bob"). Arguments are never repeated in such a sentence, because they may hold secrets.

use std::path::PathBuf;
use std::time::Duration;

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use crate::core::facts::ProcessFacts;
use crate::core::redact::harmless;

/// Largest compiled size of one pattern, bytes: some thousand characters of ordinary pattern, and a bound on what a
/// rule file can make the daemon allocate.
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// Bytes of a process's name as the kernel keeps it (`TASK_COMM_LEN` without its NUL).
const COMM_BYTES: usize = ffrtmp_abi::COMM_LEN - 1;

/// A compiled regular expression that compares and travels as its source.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(Regex);

impl Pattern {
    /// Compiles the pattern; one that would need more than a mebibyte is refused.
    pub fn parse(text: &str) -> Result<Self, regex::Error> {
        RegexBuilder::new(text)
            .size_limit(PATTERN_BYTES_MAX)
            .build()
            .map(Self)
    }

    /// The source.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The compiled expression.
    pub fn regex(&self) -> &Regex {
        &self.0
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Pattern {}

impl TryFrom<String> for Pattern {
    type Error = regex::Error;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.as_str().to_owned()
    }
}

/// An allow list and a block list about one fact. An empty list tests nothing; a hit in the block list wins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllowBlock<T> {
    /// Only these.
    pub allow: Vec<T>,
    /// Never these.
    pub block: Vec<T>,
}

impl<T> Default for AllowBlock<T> {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            block: Vec::new(),
        }
    }
}

impl<T> AllowBlock<T> {
    /// True when nothing is tested.
    pub fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.block.is_empty()
    }
}

/// A parent, by number or by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ParentRef {
    /// Its process id.
    Pid(u32),
    /// Its name; compared up to the 15 characters the kernel keeps.
    Name(String),
}

impl std::fmt::Display for ParentRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pid(pid) => write!(f, "{pid}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// What a rule wants about containers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ContainerTest {
    /// In any container, or in none.
    Inside(bool),
    /// In a container of one of these runtimes.
    Runtimes(Vec<String>),
}

/// Every test beyond the program; all must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filters {
    /// User names; an entry of digits is also compared with the uid.
    pub users: AllowBlock<String>,
    /// User ids.
    pub uids: AllowBlock<u32>,
    /// Parents.
    pub parents: AllowBlock<ParentRef>,
    /// Working directories; each means itself and everything below it.
    pub dirs: AllowBlock<PathBuf>,
    /// Control groups; each means itself and everything below it.
    pub cgroups: AllowBlock<PathBuf>,
    /// The control group's path must match.
    pub cgroup_pattern: Option<Pattern>,
    /// The arguments, joined by single blanks, must match.
    pub argv: Option<Pattern>,
    /// The arguments, joined by single blanks, must not match.
    pub not_argv: Option<Pattern>,
    /// Containers.
    pub container: Option<ContainerTest>,
    /// Youngest age, ms; a younger process is asked about again when it gets there.
    pub min_age_ms: Option<u64>,
    /// Oldest age, ms; meaningful for processes found alive.
    pub max_age_ms: Option<u64>,
}

impl Filters {
    /// True when some test wants the parent's name rather than its pid.
    pub(super) fn tests_parent_name(&self) -> bool {
        let named = |list: &[ParentRef]| list.iter().any(|parent| matches!(parent, ParentRef::Name(_)));
        named(&self.parents.allow) || named(&self.parents.block)
    }

    /// Makes every test but the minimum age. The error is the second half of the sentence.
    pub(super) fn check(&self, facts: &ProcessFacts, age_ms: u64) -> Result<(), String> {
        self.check_owner(facts)?;
        self.check_parent(facts)?;
        self.check_places(facts)?;
        self.check_container(facts)?;
        self.check_argv(facts)?;
        match self.max_age_ms {
            Some(max) if age_ms > max => Err(format!(
                "wants an age of at most {}, this one is {} old",
                age(max),
                age(age_ms)
            )),
            _ => Ok(()),
        }
    }

    fn check_owner(&self, facts: &ProcessFacts) -> Result<(), String> {
        let by_name = facts.user.as_ref().map_or_else(
            || format!("the user name of this one (uid {}) is unknown", facts.uid),
            |user| format!("this one belongs to {}", harmless(user)),
        );
        list(&self.users, "user", &by_name, |entry| {
            Some(entry) == facts.user.as_ref() || entry.parse() == Ok(facts.uid)
        })?;
        let by_id = format!("this one belongs to uid {}", facts.uid);
        list(&self.uids, "uid", &by_id, |&uid| uid == facts.uid)
    }

    fn check_parent(&self, facts: &ProcessFacts) -> Result<(), String> {
        let this = match &facts.parent {
            Some(name) => format!("this one's is {} (pid {})", harmless(name), facts.ppid),
            None => format!("the parent's name (pid {}) is unknown", facts.ppid),
        };
        list(&self.parents, "parent", &this, |entry| match entry {
            ParentRef::Pid(pid) => *pid == facts.ppid,
            ParentRef::Name(name) => facts
                .parent
                .as_deref()
                .is_some_and(|parent| cut(name) == cut(parent)),
        })
    }

    fn check_places(&self, facts: &ProcessFacts) -> Result<(), String> {
        let cwd = match &facts.cwd {
            Some(dir) => format!("this one's is {}", harmless(&dir.to_string_lossy())),
            None => "the working directory of this one is unknown".to_owned(),
        };
        let shown = display_paths(&self.dirs);
        list_shown(&self.dirs, &shown, "working directory", &cwd, |dir| {
            facts.cwd.as_ref().is_some_and(|cwd| cwd.starts_with(dir))
        })?;
        let group = match &facts.cgroup {
            Some(path) => format!("this one's is {}", harmless(path)),
            None => "the control group of this one is unknown".to_owned(),
        };
        let shown = display_paths(&self.cgroups);
        list_shown(&self.cgroups, &shown, "control group", &group, |prefix| {
            facts
                .cgroup
                .as_ref()
                .is_some_and(|path| std::path::Path::new(path).starts_with(prefix))
        })?;
        match (&self.cgroup_pattern, &facts.cgroup) {
            (Some(pattern), Some(path)) if pattern.0.is_match(path) => Ok(()),
            (Some(pattern), _) => Err(format!(
                "wants a control group matching `{}`, {group}",
                pattern.as_str()
            )),
            (None, _) => Ok(()),
        }
    }

    fn check_container(&self, facts: &ProcessFacts) -> Result<(), String> {
        let Some(test) = &self.container else {
            return Ok(());
        };
        let wants = match test {
            ContainerTest::Inside(true) => "wants a container".to_owned(),
            ContainerTest::Inside(false) => "wants no container".to_owned(),
            ContainerTest::Runtimes(runtimes) => format!("wants a container of [{}]", runtimes.join(", ")),
        };
        // Without the group's path nobody knows whether there is a container.
        let this = match (&facts.container, &facts.cgroup) {
            (Some(runtime), _) => format!("this one runs in {}", harmless(runtime)),
            (None, Some(_)) => "this one is in none".to_owned(),
            (None, None) => "the control group of this one is unknown".to_owned(),
        };
        let fits = match (test, &facts.container) {
            (ContainerTest::Inside(inside), Some(_)) => *inside,
            (ContainerTest::Inside(inside), None) => !inside && facts.cgroup.is_some(),
            (ContainerTest::Runtimes(runtimes), Some(runtime)) => runtimes.contains(runtime),
            (ContainerTest::Runtimes(_), None) => false,
        };
        if fits {
            Ok(())
        } else {
            Err(format!("{wants}, {this}"))
        }
    }

    fn check_argv(&self, facts: &ProcessFacts) -> Result<(), String> {
        if self.argv.is_none() && self.not_argv.is_none() {
            return Ok(());
        }
        let line = facts.argv.as_ref().map(|argv| argv.join(" "));
        if let Some(pattern) = &self.argv {
            let wants = format!("wants arguments matching `{}`", pattern.as_str());
            match &line {
                None => return Err(format!("{wants}, those of this one are unknown")),
                Some(line) if !pattern.0.is_match(line) => {
                    return Err(format!("{wants}, those of this one do not"));
                }
                Some(_) => {}
            }
        }
        match (&self.not_argv, &line) {
            (Some(pattern), Some(line)) if pattern.0.is_match(line) => Err(format!(
                "refuses arguments matching `{}`, those of this one do",
                pattern.as_str()
            )),
            _ => Ok(()),
        }
    }
}

fn list<T: std::fmt::Display>(
    lists: &AllowBlock<T>,
    what: &str,
    this: &str,
    hit: impl Fn(&T) -> bool,
) -> Result<(), String> {
    let texts = |entries: &[T]| entries.iter().map(ToString::to_string).collect();
    let shown = AllowBlock {
        allow: texts(&lists.allow),
        block: texts(&lists.block),
    };
    list_shown(lists, &shown, what, this, hit)
}

fn list_shown<T>(
    lists: &AllowBlock<T>,
    shown: &AllowBlock<String>,
    what: &str,
    this: &str,
    hit: impl Fn(&T) -> bool,
) -> Result<(), String> {
    if lists.block.iter().any(&hit) {
        return Err(format!("refuses {what} in [{}], {this}", shown.block.join(", ")));
    }
    if !lists.allow.is_empty() && !lists.allow.iter().any(&hit) {
        return Err(format!("wants {what} in [{}], {this}", shown.allow.join(", ")));
    }
    Ok(())
}

fn display_paths(lists: &AllowBlock<PathBuf>) -> AllowBlock<String> {
    let texts = |paths: &[PathBuf]| paths.iter().map(|path| path.display().to_string()).collect();
    AllowBlock {
        allow: texts(&lists.allow),
        block: texts(&lists.block),
    }
}

/// The part of a name that the kernel keeps.
fn cut(name: &str) -> &[u8] {
    &name.as_bytes()[..name.len().min(COMM_BYTES)]
}

fn age(ms: u64) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_millis(ms))
}
