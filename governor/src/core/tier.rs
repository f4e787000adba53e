//! Where the facts about processes come from, best first, and why it is not the best one.
//!
//! The tier is chosen once, at start, from what could be had then; a governor never changes it while it runs.

/// A source of facts.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Programs in the kernel see every exec, fork and exit, and sum up what each job used.
    Kernel,
    /// The kernel's process connector tells of every exec, fork and exit.
    Connector,
    /// /proc is read at an interval.
    Scan,
}

/// What the configuration asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "TierChoice")]
pub enum Choice {
    /// The best that is to be had.
    #[default]
    Auto,
    /// The kernel programs or nothing.
    Kernel,
    /// The process connector or nothing.
    Connector,
    /// Reading /proc.
    Scan,
}

impl Choice {
    /// The one tier that may be used; `None` for any.
    pub fn only(self) -> Option<Tier> {
        match self {
            Self::Auto => None,
            Self::Kernel => Some(Tier::Kernel),
            Self::Connector => Some(Tier::Connector),
            Self::Scan => Some(Tier::Scan),
        }
    }
}

impl Tier {
    /// Its name in records, metrics and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Connector => "connector",
            Self::Scan => "scan",
        }
    }

    /// What it does not see, a sentence each. Figures of single jobs carry their reasons themselves.
    pub fn blind_spots(self) -> &'static [&'static str] {
        match self {
            Self::Kernel => &[],
            Self::Connector => &[
                "tier connector: a program that ends before its /proc entry is read has no name and is not governed",
                "tier connector: who sent a fatal signal (the out-of-memory killer too), and moves by others, are not told",
                "tier connector: disk bytes and switches are not summed up; cpu time is the one of the job's group",
            ],
            Self::Scan => &[
                "tier scan: what lives shorter than `scan_interval` is missed",
                "tier scan: further execs, who sent a fatal signal (the out-of-memory killer too), and moves by others are not told",
                "tier scan: exit statuses are known from Linux 6.15 on; before, an end is unobserved",
                "tier scan: disk bytes and switches are not summed up; cpu time is the one of the job's group",
            ],
        }
    }
}

/// Why the tier in use is not the best one: the steps that failed, best first. `None` for the best one.
pub fn reason(asked: Choice, failed: &[(Tier, String)]) -> Option<String> {
    match asked {
        Choice::Kernel => None,
        Choice::Connector | Choice::Scan => Some("the configuration asks for it".to_owned()),
        Choice::Auto if failed.is_empty() => None,
        Choice::Auto => {
            let why: Vec<String> = failed
                .iter()
                .map(|(tier, why)| format!("no {}: {why}", tier.name()))
                .collect();
            Some(why.join("; "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_down_has_its_reason() {
        let no_types = (Tier::Kernel, "no types".to_owned());
        let no_socket = (Tier::Connector, "no socket".to_owned());
        for (asked, failed, told) in [
            (Choice::Auto, vec![], None),
            (Choice::Auto, vec![no_types.clone()], Some("no kernel: no types")),
            (
                Choice::Auto,
                vec![no_types, no_socket],
                Some("no kernel: no types; no connector: no socket"),
            ),
            (Choice::Kernel, vec![], None),
            (Choice::Scan, vec![], Some("the configuration asks for it")),
        ] {
            assert_eq!(reason(asked, &failed).as_deref(), told);
        }
    }

    #[test]
    fn names_in_the_configuration_are_those_of_the_records() {
        for tier in [Tier::Kernel, Tier::Connector, Tier::Scan] {
            assert_eq!(serde_json::to_value(tier).unwrap(), tier.name());
            assert_eq!(tier.blind_spots().is_empty(), tier == Tier::Kernel);
        }
    }
}
