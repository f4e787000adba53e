//! How many tests passed and failed, read from the closing lines of cargo's test runner.
//!
//! It counts what ran; whether a suite that ran nothing is acceptable is for the caller to judge.

use std::fmt;
use std::ops::AddAssign;

/// Tests, or checks that are not tests, by result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Passed.
    pub(crate) passed: u64,
    /// Failed.
    pub(crate) failed: u64,
}

impl Counts {
    /// One check that is no test of cargo's.
    pub(crate) fn one(passed: bool) -> Self {
        Self {
            passed: u64::from(passed),
            failed: u64::from(!passed),
        }
    }

    /// Sums every `test result:` line.
    pub(crate) fn read(lines: &[String]) -> Self {
        let mut counts = Self::default();
        for line in lines {
            // Output of a test without a newline at its end may stand before the runner's own line.
            if let Some((_, result)) = line.split_once("test result: ") {
                counts.passed += number_before(result, " passed");
                counts.failed += number_before(result, " failed");
            }
        }
        counts
    }
}

fn number_before(text: &str, word: &str) -> u64 {
    let before = text.split_once(word).map_or("", |(before, _)| before);
    before
        .rsplit(|c: char| !c.is_ascii_digit())
        .next()
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0)
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_summed_and_others_ignored() {
        let lines = [
            "running 3 tests",
            "test a ... ok",
            "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 4 filtered out; finished in 0.10s",
            "no newline heretest result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out",
            "5 passed was said by somebody else",
        ]
        .map(str::to_owned);
        let counts = Counts::read(&lines);
        assert_eq!(
            counts,
            Counts {
                passed: 14,
                failed: 1
            }
        );
        assert_eq!(counts.to_string(), "14 passed, 1 failed");
    }
}
