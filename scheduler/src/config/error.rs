//! What is wrong with a file, where, and what would be right. Turns the YAML crate's errors into the same shape.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use serde_saphyr::{Error as YamlError, Localizer, Location, UserMessageFormatter};

use super::at::At;

/// How alike two keys must be to be offered as a correction (Jaro-Winkler, 0 to 1); below it all keys are listed.
const ALIKE: f64 = 0.82;

/// Why a configuration was not taken. Nothing of it is in force then.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read configuration {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file was read and is wrong; one line for each problem.
    #[error("{}", Listing { file, problems })]
    Invalid {
        /// Name of the file.
        file: String,
        /// Everything found, in the order of the file; never empty.
        problems: Vec<Problem>,
    },
}

/// One thing wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Line, from 1; 0 when the file as a whole is meant.
    pub line: u64,
    /// Column in characters, from 1.
    pub column: u64,
    /// Keys that lead there, such as `tls.cert`; empty at the top.
    pub path: String,
    /// What is wrong and what is allowed.
    pub text: String,
}

struct Listing<'a> {
    file: &'a str,
    problems: &'a [Problem],
}

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.problems.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            f.write_str(self.file)?;
            if problem.line > 0 {
                write!(f, ":{}:{}", problem.line, problem.column)?;
            }
            f.write_str(": ")?;
            if !problem.path.is_empty() {
                write!(f, "{}: ", problem.path)?;
            }
            f.write_str(&problem.text)?;
        }
        Ok(())
    }
}

/// The text without control characters, so that a file cannot write to a terminal.
fn harmless(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// Collects problems while a file is lowered.
#[derive(Debug, Default)]
pub(super) struct Problems {
    found: Vec<Problem>,
}

impl Problems {
    /// Notes a problem with the value at this place. A value reached on two ways is complained of once.
    pub(super) fn add<T>(&mut self, at: &At<T>, path: &str, text: impl Into<String>) {
        let problem = Problem {
            line: at.line,
            column: at.column,
            path: harmless(path),
            text: harmless(&text.into()),
        };
        let known = |other: &Problem| {
            (other.line, other.column, &other.text) == (problem.line, problem.column, &problem.text)
        };
        if !self.found.iter().any(known) {
            self.found.push(problem);
        }
    }

    /// The error, if there was any problem.
    pub(super) fn into_result(mut self, file: &str) -> Result<(), ConfigError> {
        if self.found.is_empty() {
            return Ok(());
        }
        self.found.sort();
        Err(ConfigError::Invalid {
            file: file.to_owned(),
            problems: self.found,
        })
    }
}

/// The YAML crate's error with the path that serde was at, if it got that far.
pub(super) fn from_yaml(
    file: &str,
    path: Option<&serde_path_to_error::Path>,
    error: &YamlError,
) -> ConfigError {
    let error = error.without_snippet();
    let (line, column) = error.location().map_or((0, 0), |at| (at.line(), at.column()));
    // An unknown key is quoted in the text; the path says where it stands.
    let unknown = matches!(error, YamlError::SerdeUnknownField { .. });
    let path = path
        .map(|path| harmless(&key_path(path, usize::from(unknown))))
        .unwrap_or_default();
    let problem = Problem {
        line,
        column,
        path,
        text: harmless(&text_of(error)),
    };
    ConfigError::Invalid {
        file: file.to_owned(),
        problems: vec![problem],
    }
}

/// Keys and indices, without the steps that only our position wrapper adds and without the last few.
fn key_path(path: &serde_path_to_error::Path, without: usize) -> String {
    use serde_path_to_error::Segment;
    let mut steps: Vec<String> = Vec::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => steps.push(format!("[{index}]")),
            Segment::Map { key } if key == "value" => {}
            Segment::Map { key } if steps.is_empty() => steps.push(key.clone()),
            Segment::Map { key } => steps.push(format!(".{key}")),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    steps.truncate(steps.len().saturating_sub(without));
    steps.concat()
}

fn text_of(error: &YamlError) -> String {
    match error {
        YamlError::SerdeUnknownField { field, expected, .. } => {
            format!("unknown key \"{field}\"; {}", suggestion(field, expected))
        }
        YamlError::SerdeUnknownVariant {
            variant, expected, ..
        } => {
            format!("\"{variant}\" is not possible; write {}", or_list(expected))
        }
        YamlError::DuplicateMappingKey { key: Some(key), .. } => {
            format!("key \"{key}\" is given twice; keep one")
        }
        YamlError::Unexpected { expected, .. } => format!("write {}", expected_name(expected)),
        YamlError::InvalidScalar { ty, .. } => format!("write {}", scalar_name(ty)),
        YamlError::SerdeInvalidType {
            unexpected, expected, ..
        } => format!("found {unexpected}; write {}", expected_name(expected)),
        YamlError::MultipleDocuments { .. } => {
            "a second document starts here; keep one document in the file".to_owned()
        }
        YamlError::AliasError { error, .. } => text_of(error),
        other => other.render_with_formatter(&UserMessageFormatter.with_localizer(&NoPosition)),
    }
}

/// The position stands in front of the text already.
struct NoPosition;

impl Localizer for NoPosition {
    fn attach_location<'a>(&self, base: Cow<'a, str>, _: Location) -> Cow<'a, str> {
        base
    }
}

/// The nearest key, or all of them.
fn suggestion(found: &str, expected: &[&'static str]) -> String {
    let nearest = expected
        .iter()
        .map(|key| (strsim::jaro_winkler(&found.to_ascii_lowercase(), key), key))
        .max_by(|(one, _), (other, _)| one.total_cmp(other));
    match nearest {
        Some((likeness, key)) if likeness >= ALIKE => format!("did you mean \"{key}\"?"),
        _ => format!("allowed here: {}", expected.join(", ")),
    }
}

fn or_list(words: &[&'static str]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [one] => (*one).to_owned(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

/// What a scalar of this Rust type is called in a file.
fn scalar_name(ty: &str) -> &'static str {
    match ty {
        "i64" => "a whole number",
        "bool" | "boolean" => "true or false",
        _ => "another value",
    }
}

/// What serde or the YAML crate expected, in the words of a file rather than of Rust.
fn expected_name(expected: &str) -> &str {
    match expected {
        "mapping start" | "a map" => "keys below it, indented",
        "sequence start" | "a sequence" => "a list, such as [a, b]",
        "string scalar" | "a string" => "one text",
        other if other.starts_with("struct ") => "keys below it, indented",
        other => other,
    }
}
