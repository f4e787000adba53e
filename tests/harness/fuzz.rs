//! What the fuzz targets run, as plain functions, so that ordinary tests replay their seeds.
//!
//! Each takes any bytes and panics only when a promise is broken: nothing else may make it fail. The targets in
//! `tests/fuzz` hold nothing but a call; their seeds live in `tests/data/fuzz/TARGET/`.

use ffrtmp_abi::decode::{self, Entry};
use ffrtmp_abi::{LiveRow, Record, TaskRow};
use ffrtmp_governor::config;
use ffrtmp_governor::core::redact::{MASK, Redactor, is_harmful};
use ffrtmp_governor::host::follow::message;
use ffrtmp_scheduler::security::token;

/// Kernel records: any bytes decode or are refused, and what decodes is no longer than what came in.
pub fn record_decode(bytes: &[u8]) {
    if let Ok(Entry::Exec(exec)) = decode::entry(bytes) {
        let argv: usize = exec.argv.iter().map(Vec::len).sum();
        assert!(
            exec.filename.len() + argv <= bytes.len(),
            "an exec is longer than its entry"
        );
    }
    if let Ok(record) = decode::read::<Record>(bytes) {
        assert_eq!(decode::bytes_of(&record), &bytes[..size_of::<Record>()]);
        let sender = decode::text(&record.kill_comm);
        assert!(!sender.contains('\0'));
    }
    let row = decode::read::<LiveRow>(bytes).is_ok();
    assert_eq!(row, bytes.len() >= size_of::<LiveRow>());
    let row = decode::read::<TaskRow>(bytes).is_ok();
    assert_eq!(row, bytes.len() >= size_of::<TaskRow>());
}

/// Configuration: any text is taken or refused with the file's name, and a refusal is safe to print.
pub fn config_yaml(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match config::parse("fuzz", &text) {
        Ok(config) => {
            let again = serde_json::to_string(&config.rules).and_then(|text| serde_json::from_str(&text));
            assert!(again.is_ok_and(|rules: ffrtmp_governor::core::rule::RuleSet| rules == config.rules));
        }
        Err(error) => {
            let message = error.to_string();
            for line in message.lines() {
                assert!(line.starts_with("fuzz:"), "{line:?}");
                assert!(!line.contains(is_harmful), "{line:?}");
            }
        }
    }
}

/// Command lines, arguments ending in NUL: as many come out as went in, none harmful, no password after its option.
pub fn redact(bytes: &[u8]) {
    let argv: Vec<String> = decode::split_argv(bytes)
        .iter()
        .map(|arg| String::from_utf8_lossy(arg).into_owned())
        .collect();
    let clean = Redactor::default().clean(&argv);
    assert_eq!(clean.len(), argv.len());
    for (raw, clean) in argv.windows(2).zip(clean.windows(2)) {
        if raw[0] == "-password" {
            assert_eq!(clean[1], MASK);
        }
    }
    assert!(clean.iter().all(|arg| !arg.contains(is_harmful)));
}

/// Cursors of pages: any text is refused or is what its meaning is written as.
pub fn cursor(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(cursor) = text.parse::<ffrtmp_api::Cursor>() {
        assert_eq!(cursor.to_string(), text, "two texts are one cursor");
        assert!(cursor.number() >= 0);
    }
}

/// Keys: any text is refused or taken apart without a rest, and only its own secret fits its hash.
pub fn api_key(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Some(parsed) = token::parse(&text) else { return };
    let tail = parsed.tail.map_or_else(String::new, |tail| format!("_{tail}"));
    let rest = format!("_{}_{}{tail}", parsed.id, parsed.secret);
    assert!(text.ends_with(&rest) && text.len() == rest.len() + 3, "{text:?}");
    let hash = token::SecretHash::of(parsed.secret);
    assert!(hash.matches(parsed.secret) && !hash.matches(&format!("{}x", parsed.secret)));
}

/// Filters of lists: any query string is refused by the name of a field, in words safe to print, or is within bounds.
pub fn filter(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match ffrtmp_scheduler::http::filter(&text) {
        Ok((filter, paging)) => {
            assert!(filter.validate().is_ok() && paging.validate().is_ok());
        }
        Err(problem) => {
            assert_eq!(problem.status, 400);
            assert!(!problem.errors.is_empty(), "{problem:?}");
            assert!(!problem.detail.contains(is_harmful), "{:?}", problem.detail);
        }
    }
}

/// Messages of the proc connector: any bytes are read or refused, and no message is made of nothing.
pub fn connector(bytes: &[u8]) {
    /// A netlink header, a connector header, and an event without the words of its kind.
    const LEAST: usize = 16 + 20 + 16;
    let read = message::messages(bytes).flatten().count();
    assert!(read * LEAST <= bytes.len());
    let errors = message::messages(bytes).filter(Result::is_err).count();
    assert!(errors <= 1, "an error ends a datagram");
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    fn replay(target: &str, run: fn(&[u8])) {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("data/fuzz")
            .join(target);
        let mut seeds = 0;
        for entry in std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            // Every prefix too: truncation is what a ring or a half-written file does.
            for end in (0..bytes.len()).step_by(bytes.len() / 64 + 1) {
                run(&bytes[..end]);
            }
            run(&bytes);
            seeds += 1;
        }
        assert!(seeds >= 5, "only {seeds} seeds in {}", dir.display());
    }

    #[test]
    fn record_seeds_break_no_promise() {
        replay("record_decode", super::record_decode);
    }

    #[test]
    fn configuration_seeds_break_no_promise() {
        replay("config_yaml", super::config_yaml);
    }

    #[test]
    fn connector_seeds_break_no_promise() {
        replay("connector", super::connector);
    }

    #[test]
    fn command_line_seeds_break_no_promise() {
        replay("redact", super::redact);
    }

    #[test]
    fn cursor_seeds_break_no_promise() {
        replay("cursor", super::cursor);
    }

    #[test]
    fn key_seeds_break_no_promise() {
        replay("api_key", super::api_key);
    }

    #[test]
    fn filter_seeds_break_no_promise() {
        replay("filter", super::filter);
    }
}
