//! Values of the file, judged one at a time: what is wrong is noted with its place, and the default stands in.
//!
//! Nothing here knows a key by name; [`super::file`] does.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::at::At;
use super::error::Problems;

/// Ten years of 365.25 days, as `humantime` counts them.
pub(super) const TEN_YEARS: Duration = Duration::from_hours(87_660);

/// Problems found so far, with the judgements as methods: each takes a value that may be absent and its key.
#[derive(Debug, Default)]
pub(super) struct Checker {
    /// What was found.
    pub(super) problems: Problems,
}

impl Checker {
    /// An address with its port.
    pub(super) fn address(&mut self, at: Option<&At<String>>, key: &str) -> Option<SocketAddr> {
        let at = at?;
        let address = at.value.parse().ok();
        if address.is_none() {
            let text = format!(
                "\"{}\" is no address; write IP:PORT, such as 0.0.0.0:8080 or [::]:8080",
                at.value
            );
            self.problems.add(at, key, text);
        }
        address
    }

    /// A path, relative ones counted from the working directory.
    pub(super) fn path(&mut self, at: Option<&At<String>>, key: &str) -> Option<PathBuf> {
        let at = at?;
        let path = PathBuf::from(&at.value);
        if path.file_name().is_some() {
            return Some(path);
        }
        self.problems
            .add(at, key, format!("\"{}\" names no file", at.value));
        None
    }

    /// A whole number between two.
    pub(super) fn number<T: TryFrom<i64> + PartialOrd + std::fmt::Display>(
        &mut self,
        at: Option<&At<i64>>,
        key: &str,
        (least, most): (T, T),
    ) -> Option<T> {
        let at = at?;
        let number = T::try_from(at.value)
            .ok()
            .filter(|number| (&least..=&most).contains(&number));
        if number.is_none() {
            let text = format!("{} is not possible; write {least} to {most}", at.value);
            self.problems.add(at, key, text);
        }
        number
    }

    /// A span of time between two.
    pub(super) fn span(
        &mut self,
        at: Option<&At<String>>,
        key: &str,
        (least, most): (Duration, Duration),
    ) -> Option<Duration> {
        let at = at?;
        match humantime::parse_duration(&at.value) {
            Ok(span) if (least..=most).contains(&span) => Some(span),
            Ok(_) => {
                let (least, most) = (
                    humantime::format_duration(least),
                    humantime::format_duration(most),
                );
                let text = format!("{} is not possible; write {least} to {most}", at.value);
                self.problems.add(at, key, text);
                None
            }
            Err(_) => {
                let text = format!(
                    "\"{}\" is no span of time; write a number with its unit, such as 30s, 5m, 7d",
                    at.value
                );
                self.problems.add(at, key, text);
                None
            }
        }
    }

    /// Values that parse one by one.
    pub(super) fn list<T>(
        &mut self,
        list: Option<&[At<String>]>,
        key: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let list = list?;
        let mut values = Vec::with_capacity(list.len());
        for (index, at) in list.iter().enumerate() {
            match parse(&at.value) {
                Ok(value) => values.push(value),
                Err(text) => self.problems.add(at, &format!("{key}[{index}]"), text),
            }
        }
        Some(values)
    }
}
