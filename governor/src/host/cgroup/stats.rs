//! What a group counted: peak memory, time throttled, out-of-memory kills.
//!
//! Each figure is `None` with a reason where the kernel, the version or the missing controller does not give it.

use std::path::Path;

use super::super::file;
use super::group::{Group, GroupDir, Tree};
use crate::core::event::GroupUsage;
use crate::core::plan::{Controller, Version};

impl Tree {
    /// Reads the group's figures. To be called before [`Tree::retire`]; the last reading is the total.
    pub fn usage(&self, group: &Group) -> GroupUsage {
        let mut usage = GroupUsage::default();
        let absent = &mut usage.absent;
        match self.dir_with(group, Controller::Memory) {
            Ok((dir, Version::V2)) => {
                usage.memory_peak = take(
                    absent,
                    "memory_peak",
                    number(&dir.join("memory.peak"), " (Linux 5.19)"),
                );
                let events = text(&dir.join("memory.events"), "");
                let value = |key| {
                    events
                        .clone()
                        .and_then(|text| value_of(&text, key).ok_or_else(|| missing("memory.events", key)))
                };
                usage.oom_kills = take(absent, "oom_kills", value("oom_kill"));
                usage.memory_max_hits = value("max").ok();
            }
            Ok((dir, Version::V1)) => {
                let peak = number(&dir.join("memory.max_usage_in_bytes"), "");
                usage.memory_peak = take(absent, "memory_peak", peak);
                usage.oom_kills = take(
                    absent,
                    "oom_kills",
                    keyed(&dir.join("memory.oom_control"), "oom_kill"),
                );
                usage.memory_max_hits = number(&dir.join("memory.failcnt"), "").ok();
            }
            Err(why) => {
                absent.push(format!("memory_peak: {why}"));
                absent.push(format!("oom_kills: {why}"));
            }
        }
        if let Ok((dir, _)) = self.dir_with(group, Controller::Pids) {
            usage.pids_max_hits = keyed(&dir.join("pids.events"), "max").ok();
        }
        let (throttled, periods) = self.throttling(group);
        usage.throttled_ns = take(absent, "throttled_ns", throttled);
        usage.cpu_periods = periods;
        usage.cpu_ns = self.cpu_ns(group);
        usage
    }

    /// How long its quota held it back, ns, and in how many periods of how many.
    fn throttling(&self, group: &Group) -> (Result<u64, String>, Option<(u64, u64)>) {
        let (key, unit_ns, stat) = match self.dir_with(group, Controller::Cpu) {
            Ok((dir, Version::V2)) => ("throttled_usec", 1_000, text(&dir.join("cpu.stat"), "")),
            Ok((dir, Version::V1)) => ("throttled_time", 1, text(&dir.join("cpu.stat"), "")),
            Err(why) => return (Err(why), None),
        };
        let stat = match stat {
            Ok(stat) => stat,
            Err(why) => return (Err(why), None),
        };
        let periods = value_of(&stat, "nr_throttled").zip(value_of(&stat, "nr_periods"));
        let throttled = value_of(&stat, key).map(|value| value.saturating_mul(unit_ns));
        (throttled.ok_or_else(|| missing("cpu.stat", key)), periods)
    }

    /// CPU time of the group. Every v2 group counts it, with or without a controller; v1 is not asked.
    fn cpu_ns(&self, group: &Group) -> Option<u64> {
        let is_v2 = |dir: &&GroupDir| self.layout.hierarchies[dir.hierarchy].version == Version::V2;
        let dir = group.dirs.iter().find(is_v2)?;
        let us = keyed(&dir.path.join("cpu.stat"), "usage_usec").ok()?;
        Some(us.saturating_mul(1_000))
    }

    /// The group's directory where this controller is on.
    pub(super) fn dir_with<'a>(
        &self,
        group: &'a Group,
        controller: Controller,
    ) -> Result<(&'a Path, Version), String> {
        let name = controller.name(Version::V2);
        let here = |dir: &&GroupDir| {
            let offered = &self.layout.hierarchies[dir.hierarchy].controllers;
            offered.contains(&controller)
        };
        let dir = group
            .dirs
            .iter()
            .find(here)
            .ok_or_else(|| format!("the job has no group of its own in a {name} hierarchy"))?;
        let version = self.layout.hierarchies[dir.hierarchy].version;
        if version == Version::V2 {
            let on = text(&dir.path.join("cgroup.controllers"), "")?;
            if !on.split_whitespace().any(|word| word == name) {
                return Err(format!("the {name} controller is not on in the job's group"));
            }
        }
        Ok((dir.path.as_path(), version))
    }
}

fn take(absent: &mut Vec<String>, figure: &str, read: Result<u64, String>) -> Option<u64> {
    match read {
        Ok(value) => Some(value),
        Err(why) => {
            absent.push(format!("{figure}: {why}"));
            None
        }
    }
}

fn text(path: &Path, since: &str) -> Result<String, String> {
    file::read(path).map_err(|error| {
        if error.is_gone() {
            format!("this group has no {}{since}", name(path))
        } else {
            file::chain(&error)
        }
    })
}

pub(super) fn number(path: &Path, since: &str) -> Result<u64, String> {
    text(path, since)?
        .trim()
        .parse()
        .map_err(|_| format!("{} is not understood", name(path)))
}

/// The value of one key of a file of `KEY VALUE` lines.
pub(super) fn keyed(path: &Path, key: &str) -> Result<u64, String> {
    value_of(&text(path, "")?, key).ok_or_else(|| missing(&name(path), key))
}

/// The value of one key among `KEY VALUE` lines.
pub(super) fn value_of(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(' ')?;
        (found == key).then(|| value.trim().parse().ok())?
    })
}

fn missing(file: &str, key: &str) -> String {
    format!("{file} of this kernel has no {key}")
}

fn name(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_or_absent_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("memory.peak"), "4096\n").unwrap();
        std::fs::write(path("bad"), "many\n").unwrap();
        std::fs::write(
            path("cpu.stat"),
            "usage_usec 5\nnr_throttled 1\nthrottled_usec 77\n",
        )
        .unwrap();
        std::fs::write(path("root.stat"), "usage_usec 5\n").unwrap();
        assert_eq!(number(&path("memory.peak"), ""), Ok(4096));
        assert_eq!(number(&path("bad"), ""), Err("bad is not understood".to_owned()));
        assert_eq!(
            number(&path("none"), " (Linux 5.19)"),
            Err("this group has no none (Linux 5.19)".to_owned())
        );
        assert_eq!(keyed(&path("cpu.stat"), "throttled_usec"), Ok(77));
        assert_eq!(
            keyed(&path("root.stat"), "throttled_usec"),
            Err("root.stat of this kernel has no throttled_usec".to_owned())
        );
        let mut absent = Vec::new();
        assert_eq!(take(&mut absent, "x", keyed(&path("none"), "y")), None);
        assert_eq!(absent, ["x: this group has no none"]);
    }
}
