//! Queues and priorities: the two words by which a submission says how urgent it is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A word that is not one of a closed list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} `{found}`; write one of {allowed}")]
pub struct UnknownWord {
    /// What was expected, for instance `queue`.
    pub what: &'static str,
    /// What was written, control characters escaped.
    pub found: String,
    /// The words that exist, separated by commas.
    pub allowed: String,
}

/// Gives a closed list of words `ALL`, `as_str`, `Display` and `FromStr`.
macro_rules! words {
    ($type:ident, $what:literal, { $($variant:ident => $word:literal),+ $(,)? }) => {
        impl $type {
            /// Every word, in the order of the declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word as it is written on the wire.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::UnknownWord;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::ALL
                    .iter()
                    .copied()
                    .find(|word| word.as_str() == text)
                    .ok_or_else(|| $crate::UnknownWord {
                        what: $what,
                        found: text.escape_debug().take(64).collect(),
                        allowed: Self::ALL.iter().map(|word| word.as_str()).collect::<Vec<_>>().join(", "),
                    })
            }
        }
    };
}
pub(crate) use words;

/// Which line a job stands in. `live` is served before all others; `default` and `batch` share what is left.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Queue {
    /// Streams that somebody watches now.
    Live,
    /// Everything else.
    #[default]
    Default,
    /// Work nobody waits for.
    Batch,
}

words!(Queue, "queue", { Live => "live", Default => "default", Batch => "batch" });

/// Order inside a queue; first in, first out among equals.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// First.
    Live,
    /// Second.
    High,
    /// Third, and what a submission that says nothing gets.
    #[default]
    Medium,
    /// Fourth.
    Low,
    /// Last.
    Batch,
}

words!(Priority, "priority", {
    Live => "live", High => "high", Medium => "medium", Low => "low", Batch => "batch",
});

/// A queue and a priority together: 15 bands, 0 the most urgent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Band {
    /// The queue.
    pub queue: Queue,
    /// The priority inside it.
    pub priority: Priority,
}

impl Band {
    /// How many bands there are.
    pub const COUNT: usize = 15;

    /// Place of the band in the order of urgency, 0 to 14.
    pub fn index(self) -> usize {
        self.queue as usize * Priority::ALL.len() + self.priority as usize
    }

    /// The band at that place.
    pub fn from_index(index: usize) -> Option<Self> {
        let queue = *Queue::ALL.get(index / Priority::ALL.len())?;
        let priority = *Priority::ALL.get(index % Priority::ALL.len())?;
        Some(Self { queue, priority })
    }
}

impl fmt::Display for Band {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.queue, self.priority)
    }
}

/// Which program does the work.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// The node chooses by queue, output and hardware.
    #[default]
    Auto,
    /// `ffmpeg`.
    Ffmpeg,
    /// `gst-launch-1.0`.
    Gstreamer,
}

words!(Engine, "engine", { Auto => "auto", Ffmpeg => "ffmpeg", Gstreamer => "gstreamer" });

/// What a submission is for; only production counts towards the SLA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Classification {
    /// Work somebody waits for.
    #[default]
    Production,
    /// A trial.
    Test,
    /// A measurement.
    Benchmark,
    /// A search for a fault.
    Debug,
}

words!(Classification, "classification", {
    Production => "production", Test => "test", Benchmark => "benchmark", Debug => "debug",
});

/// Parses a band out of `QUEUE/PRIORITY`.
impl FromStr for Band {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (queue, priority) = text.split_once('/').unwrap_or((text, "medium"));
        Ok(Self {
            queue: queue.parse()?,
            priority: priority.parse()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_are_ordered_by_urgency_and_round_trip() {
        let all: Vec<Band> = (0..Band::COUNT).filter_map(Band::from_index).collect();
        assert_eq!(all.len(), Band::COUNT);
        assert_eq!(Band::from_index(Band::COUNT), None);
        assert!(all.is_sorted());
        for band in all {
            assert_eq!(Band::from_index(band.index()), Some(band));
            assert_eq!(band.to_string().parse(), Ok(band));
        }
    }

    #[test]
    fn an_unknown_word_is_refused_with_the_words_that_exist() {
        let error = "urgent".parse::<Queue>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown queue `urgent`; write one of live, default, batch"
        );
    }

    #[test]
    fn words_on_the_wire_are_those_that_parse() {
        for queue in Queue::ALL {
            assert_eq!(serde_json::to_value(queue).unwrap(), queue.as_str());
        }
        for engine in Engine::ALL {
            assert_eq!(serde_json::to_value(engine).unwrap(), engine.as_str());
        }
    }
}
