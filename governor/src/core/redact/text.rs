//! The default patterns on one argument: URLs, `name=value`, headers, options inside a shell line, well-known tokens.
//! Each pass leaves everything but the secret as it was; all passes together are idempotent.

use regex::{Captures, Regex};

use super::{MASK, name, url};

/// Tokens known by their look alone: AWS access keys, JSON web tokens, GitHub, Slack and Google tokens, private-key
/// blocks, Twitch and `YouTube` stream keys.
const TOKENS: &str = r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_[A-Za-z0-9_]{20,}|\bxox[abprs]-[A-Za-z0-9-]{10,}|\bAIza[A-Za-z0-9_-]{30,}|\blive_[0-9]{4,}_[A-Za-z0-9]{16,}|\b[a-z0-9]{4}(?:-[a-z0-9]{4}){4}\b";
/// `name=value`; a value in quotes may hold blanks. Ends where options and queries end, not at `:` or `,`, which occur
/// inside secrets.
const PAIR: &str = r#"([A-Za-z_][A-Za-z0-9_.-]*)(\s*=\s*)("(?:[^"\\]|\\.)*"?|'[^']*'?|[^\s&;|\]"']+)"#;
/// A whole argument that is one pair.
const WHOLE_PAIR: &str = r"(?s)^(-{0,2}[A-Za-z_][A-Za-z0-9_.-]*)=(.+)$";
/// A header, up to the end of its line; typed escapes (`\r\n`) end it as real ones do.
const HEADER: &str = r"(?m)(^|\s|\\r|\\n)([A-Za-z][A-Za-z0-9-]*)([ \t]*:[ \t]*)([^\r\n]+?)(\\r|\\n|\r|\n|$)";
/// A header in quotes, up to the closing one.
const QUOTED_HEADER: &str =
    r#"(["'])([A-Za-z][A-Za-z0-9-]*)([ \t]*:[ \t]*)([^"'\r\n]+?)(\\r|\\n|["'\r\n]|$)"#;
/// `"name": "value"` of JSON.
const JSON: &str = r#""([A-Za-z_][A-Za-z0-9_.-]*)"(\s*:\s*)"(?:[^"\\]|\\.)*"?"#;
/// An option with its value inside one argument (`sh -c "ffmpeg -password x"`).
const INLINE_OPTION: &str =
    r#"(^|\s)(--?)([A-Za-z][A-Za-z0-9_-]*)(:[A-Za-z0-9:]+)?([ \t]+|=)("[^"]*"?|'[^']*'?|[^\s"']+)"#;
/// `Bearer TOKEN`, wherever it stands.
const BEARER: &str = r"(?i)\b(bearer\s+)[A-Za-z0-9._~+/=-]{4,}";

/// The compiled default patterns.
#[derive(Debug, Clone)]
pub(super) struct Defaults {
    leading_url: Regex,
    url: Regex,
    whole_pair: Regex,
    pair: Regex,
    quoted_header: Regex,
    header: Regex,
    json: Regex,
    inline_option: Regex,
    bearer: Regex,
    tokens: Regex,
}

impl Defaults {
    /// Compiles all patterns.
    pub(super) fn new() -> Result<Self, regex::Error> {
        Ok(Self {
            leading_url: Regex::new(url::LEADING)?,
            url: Regex::new(url::ANYWHERE)?,
            whole_pair: Regex::new(WHOLE_PAIR)?,
            pair: Regex::new(PAIR)?,
            quoted_header: Regex::new(QUOTED_HEADER)?,
            header: Regex::new(HEADER)?,
            json: Regex::new(JSON)?,
            inline_option: Regex::new(INLINE_OPTION)?,
            bearer: Regex::new(BEARER)?,
            tokens: Regex::new(TOKENS)?,
        })
    }

    /// One argument with its secrets masked. `stream_is_key`: the command line has an `rtmp2` element, whose `stream`
    /// property is the key.
    pub(super) fn apply(&self, arg: &str, stream_is_key: bool) -> String {
        if let Some(pair) = self.whole_pair.captures(arg) {
            let name = &pair[1];
            let bare = name.trim_start_matches('-');
            let secret = if bare.len() == name.len() {
                name::is_secret(name)
            } else {
                name::is_secret_option(bare)
            };
            if !goes_on_after_quotes(&pair[2]) && (secret || (stream_is_key && name == "stream")) {
                return format!("{name}={MASK}");
            }
        }
        let text = self.leading_url.replace_all(arg, url::mask);
        let text = self.url.replace_all(&text, url::mask);
        let text = self.quoted_header.replace_all(&text, mask_header);
        let text = self.header.replace_all(&text, mask_header);
        let text = self.json.replace_all(&text, |found: &Captures<'_>| {
            if name::is_secret(&found[1]) {
                format!("\"{}\"{}\"{MASK}\"", &found[1], &found[2])
            } else {
                found[0].to_owned()
            }
        });
        let text = self.pair.replace_all(&text, |found: &Captures<'_>| {
            if name::is_secret(&found[1]) {
                format!("{}{}{MASK}", &found[1], &found[2])
            } else {
                found[0].to_owned()
            }
        });
        let text = self.inline_option.replace_all(&text, mask_option);
        let text = self
            .bearer
            .replace_all(&text, |found: &Captures<'_>| format!("{}{MASK}", &found[1]));
        self.tokens.replace_all(&text, MASK).into_owned()
    }
}

/// True for `"value" and more`, a shell line that only begins with a pair, and for what an earlier pass left of one.
fn goes_on_after_quotes(value: &str) -> bool {
    if value.strip_prefix(MASK).is_some_and(|rest| rest.starts_with(' ')) {
        return true;
    }
    let Some(quote) = value.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
        return false;
    };
    let inner = &value[1..];
    inner
        .find(quote)
        .is_some_and(|end| inner[end + 1..].starts_with([' ', '\t', ';']))
}

fn mask_header(found: &Captures<'_>) -> String {
    if !name::is_secret_header(&found[2]) {
        return found[0].to_owned();
    }
    format!("{}{}{}{MASK}{}", &found[1], &found[2], &found[3], &found[5])
}

fn mask_option(found: &Captures<'_>) -> String {
    if !name::is_secret_option(&found[3]) {
        return found[0].to_owned();
    }
    let specifier = found.get(4).map_or("", |part| part.as_str());
    format!(
        "{}{}{}{specifier}{}{MASK}",
        &found[1], &found[2], &found[3], &found[5]
    )
}

/// `user:password` with the password masked; a URL or a lone word stays.
pub(super) fn after_colon(arg: &str) -> String {
    match arg.split_once(':') {
        Some((user, rest)) if !rest.starts_with("//") && !rest.is_empty() => format!("{user}:{MASK}"),
        _ => arg.to_owned(),
    }
}

/// Masks the first group of every match, or the whole match where the pattern has no group.
pub(super) fn mask_matches(pattern: &Regex, text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut done = 0;
    for found in pattern.captures_iter(text) {
        let Some(part) = found.get(1).or_else(|| found.get(0)) else {
            continue;
        };
        if part.is_empty() {
            continue;
        }
        clean.push_str(&text[done..part.start()]);
        clean.push_str(MASK);
        done = part.end();
    }
    clean.push_str(&text[done..]);
    clean
}
