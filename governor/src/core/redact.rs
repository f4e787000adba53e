//! Makes foreign text fit to store and show: secrets replaced by `***`, control characters harmless.
//!
//! Owns the one gate between what processes wrote into their command lines and everything that keeps or shows it:
//! ledger, socket, logs, exports. It errs towards replacing too much: a value that looks like a secret is gone even
//! when it was none, while a secret that looks like nothing (a key in the path of an HTTPS upload) needs a pattern of
//! the site's own. It never changes the number or the order of arguments.

mod name;
mod text;
mod url;

use regex::Regex;

use name::OptionKind;

/// What stands in a secret's place.
pub const MASK: &str = "***";

/// Replaces secrets in arguments. Built once from the configured patterns.
#[derive(Debug, Clone)]
pub struct Redactor {
    /// The site's own patterns, applied first.
    own: Vec<Regex>,
    defaults: Built,
}

/// The default patterns. Should they ever fail to compile, everything is masked rather than shown.
#[derive(Debug, Clone)]
enum Built {
    On(Box<text::Defaults>),
    Off,
    Broken,
}

impl Default for Redactor {
    /// The default patterns and no others.
    fn default() -> Self {
        Self::new(Vec::new(), true)
    }
}

impl Redactor {
    /// Own patterns beside the defaults, or alone. Of a match, the first capturing group is replaced, or all of it
    /// when the pattern has no group.
    pub fn new(own: Vec<Regex>, defaults: bool) -> Self {
        Self {
            own,
            defaults: match (defaults, text::Defaults::new()) {
                (false, _) => Built::Off,
                (true, Ok(patterns)) => Built::On(Box::new(patterns)),
                (true, Err(_)) => Built::Broken,
            },
        }
    }

    /// The arguments with every secret replaced and every control character escaped.
    pub fn clean(&self, argv: &[String]) -> Vec<String> {
        let stream_is_key = argv.iter().any(|arg| arg.starts_with("rtmp2s"));
        let mut next = OptionKind::Plain;
        argv.iter()
            .map(|arg| {
                let kind = std::mem::replace(&mut next, OptionKind::Plain);
                // A masked value is still asked whether it is an option: `--token` may be a switch, and then what
                // follows it is not its value.
                if !matches!(self.defaults, Built::Off) {
                    next = name::option_kind(arg);
                }
                let clean = match kind {
                    OptionKind::Secret => MASK.to_owned(),
                    OptionKind::UserAndPassword => self.secrets(&text::after_colon(arg), stream_is_key),
                    OptionKind::Plain => self.secrets(arg, stream_is_key),
                };
                harmless(&clean)
            })
            .collect()
    }

    /// One piece of text, such as a line of a log, cleaned as a single argument would be.
    pub fn text(&self, text: &str) -> String {
        harmless(&self.secrets(text, false))
    }

    fn secrets(&self, arg: &str, stream_is_key: bool) -> String {
        let mut clean = arg.to_owned();
        for pattern in &self.own {
            clean = text::mask_matches(pattern, &clean);
        }
        match &self.defaults {
            Built::On(patterns) => patterns.apply(&clean, stream_is_key),
            Built::Off => clean,
            Built::Broken => MASK.to_owned(),
        }
    }
}

/// The text with control characters (C0, C1, DEL, and the Unicode ones that hide or reorder text) escaped: `\n`, `\r`
/// and `\t` so, all others as `\u{..}`. Everything else, all ordinary UTF-8 included, stays.
pub fn harmless(text: &str) -> String {
    if !text.contains(is_harmful) {
        return text.to_owned();
    }
    let mut clean = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => clean.push_str("\\n"),
            '\r' => clean.push_str("\\r"),
            '\t' => clean.push_str("\\t"),
            c if is_harmful(c) => clean.extend(c.escape_unicode()),
            c => clean.push(c),
        }
    }
    clean
}

/// Characters that a terminal obeys, or that make text read other than it is.
pub fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' // soft hyphen
            | '\u{61c}' | '\u{180e}' // Arabic letter mark, Mongolian vowel separator
            | '\u{200b}'..='\u{200f}' // zero-width characters and direction marks
            | '\u{2028}'..='\u{202e}' // line and paragraph separators, embeddings and overrides
            | '\u{2060}'..='\u{206f}' // joiners, invisible operators, isolates, deprecated controls
            | '\u{feff}' // byte order mark
            | '\u{fff9}'..='\u{fffb}' // interlinear annotation
            | '\u{e0000}'..='\u{e007f}' // tags
        )
}

#[cfg(test)]
mod tests;
