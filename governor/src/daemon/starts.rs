//! Starts that did not end well: three within a minute, and the next one changes nothing on any process.
//!
//! A governor that crashes while it places would crash again and again, and each time move and limit something first. What
//! is counted is in a file beside the socket, a start a line; a stop that was asked for empties it. Once the fallback is
//! in force only being told otherwise ends it: a reload of the configuration, or `ffrtmp-governor --cleanup`.

use std::io;
use std::path::{Path, PathBuf};

/// So many starts that nobody ended are a fault and no accident.
const CRASHES: usize = 3;
/// Within this time, ns of the boot-time clock.
const WITHIN_NS: u64 = 60_000_000_000;
/// The line that stands for the fallback.
const FALLBACK: &str = "observe";

/// The file that remembers starts.
#[derive(Debug, Clone)]
pub(super) struct Starts {
    path: PathBuf,
}

impl Starts {
    /// The file beside this socket.
    pub(super) fn beside(socket: &Path) -> Self {
        Self {
            path: socket.with_extension("starts"),
        }
    }

    /// Notes a start. True when it must only observe.
    pub(super) fn note(&self, now_ns: u64) -> io::Result<bool> {
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let recent = |at: &u64| *at <= now_ns && now_ns - at <= WITHIN_NS;
        let mut starts: Vec<u64> = text
            .lines()
            .filter_map(|line| line.parse().ok())
            .filter(recent)
            .collect();
        let observe = text.lines().any(|line| line == FALLBACK) || starts.len() >= CRASHES;
        starts.push(now_ns);
        let mut lines: Vec<String> = starts.iter().map(u64::to_string).collect();
        if observe {
            lines.insert(0, FALLBACK.to_owned());
        }
        std::fs::write(&self.path, lines.join("\n"))?;
        Ok(observe)
    }

    /// This start ended as it was told to. A fallback stays.
    pub(super) fn ended_well(&self, observing: bool) -> io::Result<()> {
        if observing {
            return std::fs::write(&self.path, FALLBACK);
        }
        self.forget().map(drop)
    }

    /// Told otherwise: everything is forgotten. True when there was something.
    pub(super) fn forget(&self) -> io::Result<bool> {
        match std::fs::remove_file(&self.path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn the_start_after_three_crashes_within_a_minute_observes_until_told_otherwise() {
        let dir = tempfile::tempdir().unwrap();
        let starts = Starts::beside(&dir.path().join("governor.sock"));
        for (second, observes) in [(100, false), (110, false), (120, false), (130, true), (900, true)] {
            assert_eq!(starts.note(second * SECOND).unwrap(), observes, "at {second} s");
        }
        starts.ended_well(true).unwrap();
        assert!(
            starts.note(2_000 * SECOND).unwrap(),
            "an ordered stop is not the word to govern"
        );
        assert!(starts.forget().unwrap());
        assert!(!starts.note(2_001 * SECOND).unwrap());
    }

    #[test]
    fn slow_crashes_and_ordered_stops_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let starts = Starts::beside(&dir.path().join("governor.sock"));
        for second in [0, 31, 62, 93, 124] {
            assert!(!starts.note(second * SECOND).unwrap(), "at {second} s");
        }
        for second in 200..210 {
            assert!(!starts.note(second * SECOND).unwrap(), "at {second} s");
            starts.ended_well(false).unwrap();
        }
    }
}
