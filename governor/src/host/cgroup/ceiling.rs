//! Limits of the groups above the jobs: the slice (what all jobs together may use) and single classes.
//!
//! Each file written is noted with what it held before, so that it can be given back; one that somebody else has changed
//! since is left alone. v1 takes no CPU quota below that of a group's children, so those are cut first and noted too.

use std::path::{Path, PathBuf};

use ffrtmp_api::{CpuMax, LimitOutcome, Limits};
use serde::{Deserialize, Serialize};

use super::super::file::{self, IoError, chain};
use super::group::Tree;
use super::levels::{advised, enable};
use super::retire::subdirs;
use crate::core::plan::{Controller, Version, Write, not_enforced, plan};
use crate::core::readback::holding;

/// v1 quota and period of one group.
const QUOTA: &str = "cpu.cfs_quota_us";
const PERIOD: &str = "cpu.cfs_period_us";
/// `min_cfs_quota_period` of kernel/sched/core.c, µs.
const LEAST_QUOTA_US: u64 = 1_000;

/// One file we wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Which.
    pub path: PathBuf,
    /// What it held before.
    pub before: String,
    /// What it shows since.
    pub ours: String,
}

/// What came of limiting a group above the jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ceiling {
    /// Files written, in order.
    pub held: Vec<Held>,
    /// Limits the kernel shows as asked.
    pub applied: Vec<LimitOutcome>,
    /// Limits it does not, with the reason.
    pub warnings: Vec<String>,
}

impl Tree {
    /// Has every job from now on join the hierarchies of these controllers. On v1 a job that asks for no limit of a
    /// controller stays outside its hierarchy, and no ceiling there would count it.
    pub fn join_always(&mut self, controllers: &[Controller]) {
        let homes = self.layout.hierarchies.iter().enumerate();
        self.always = homes
            .filter(|(_, one)| one.controllers.iter().any(|has| controllers.contains(has)))
            .map(|(number, _)| number)
            .collect();
    }

    /// Puts limits on a class, or on the slice and so on all classes together; its groups are made when missing.
    pub fn hold(&self, class: Option<&str>, limits: &Limits) -> Ceiling {
        let mut done = Ceiling::default();
        let plan = plan(limits, &self.layout.offers(), self.layout.sharing);
        done.warnings = plan.warnings;
        for write in &plan.writes {
            match self.holder(write, class) {
                Ok(dir) => done.write(&dir, write),
                Err(why) => done.warnings.push(not_enforced(write.limit, why)),
            }
        }
        done
    }

    /// The directory of the slice or class in the hierarchy of this write, with the controller passed on to it.
    fn holder(&self, write: &Write, class: Option<&str>) -> Result<PathBuf, String> {
        let made = self.make_level(write.hierarchy, class);
        let dir = made.map_err(|error| chain(&error))?;
        if self.layout.hierarchies[write.hierarchy].version == Version::V2 {
            let levels = self.levels(write.hierarchy, class.unwrap_or_default());
            // A group's own files come with what the groups above it pass on.
            for level in levels.iter().take_while(|level| **level != dir) {
                enable(level, write.controller).map_err(|error| advised(&error))?;
            }
        }
        Ok(dir)
    }

    fn make_level(&self, hierarchy: usize, class: Option<&str>) -> Result<PathBuf, IoError> {
        match class {
            Some(class) => self.make_class(hierarchy, class),
            None => self.make_slice(hierarchy),
        }
    }

    /// The group of a class in the unified hierarchy, made when it does not exist; `None` where there is no such
    /// hierarchy.
    pub fn v2_class(&self, class: &str) -> Result<Option<PathBuf>, IoError> {
        let v2 = |one: &super::Hierarchy| one.version == Version::V2;
        match self.layout.hierarchies.iter().position(v2) {
            Some(hierarchy) => self.make_level(hierarchy, Some(class)).map(Some),
            None => Ok(None),
        }
    }

    /// True for a job's group below this class.
    pub fn is_of_class(group: &super::Group, class: &str) -> bool {
        let parent =
            |dir: &super::GroupDir| dir.path.parent().and_then(Path::file_name).map(ToOwned::to_owned);
        group
            .dirs
            .iter()
            .any(|dir| parent(dir).is_some_and(|name| name == class))
    }

    /// Takes the CPU quota of an empty v1 group away. The kernel counts a removed group for a moment longer, and takes no
    /// quota above it that is lower.
    pub fn lift_quota(&self, group: &super::Group) {
        for dir in &group.dirs {
            if self.layout.hierarchies[dir.hierarchy].version == Version::V1 {
                // A hierarchy without the controller has no such file.
                let _absent = file::write(&dir.path.join(QUOTA), "-1");
            }
        }
    }

    /// Writes the CPU quota of a job's group anew: a ceiling above it may have cut it.
    pub fn raise_again(&self, group: &super::Group, limits: &Limits) {
        let only = Limits {
            cpu_max: limits.cpu_max,
            ..Limits::default()
        };
        let plan = plan(&only, &self.layout.offers(), self.layout.sharing);
        for write in &plan.writes {
            let dir = group.dirs.iter().find(|dir| dir.hierarchy == write.hierarchy);
            let Some(dir) = dir else { continue };
            let asked = (write.file == QUOTA).then(|| write.value.parse().ok()).flatten();
            let cut = asked.and_then(|asked| quota_below(&dir.path, asked));
            let value = cut.map_or_else(|| write.value.clone(), |cut| cut.to_string());
            if let Err(error) = file::write(&dir.path.join(write.file), &value) {
                tracing::warn!(error = chain(&error), "a job's CPU quota stays cut");
            }
        }
    }
}

impl Ceiling {
    fn write(&mut self, dir: &Path, write: &Write) {
        if write.file == QUOTA
            && let Ok(quota) = write.value.parse()
        {
            let period = read_number(&dir.join(PERIOD)).unwrap_or(CpuMax::DEFAULT_PERIOD_US);
            for below in subdirs(dir).unwrap_or_default() {
                self.cut(&below, (quota, period));
            }
        }
        let path = dir.join(write.file);
        match self.put(&path, &write.value) {
            Err(error) => self.warnings.push(not_enforced(write.limit, chain(&error))),
            Ok(read) => match holding(write.file, &write.value, &read) {
                Some(value) => self.applied.push(LimitOutcome {
                    limit: write.limit.to_owned(),
                    target: path.display().to_string(),
                    value,
                }),
                None => self.warnings.push(format!(
                    "{} is not as asked: {} was given `{}` and shows `{}`",
                    write.limit,
                    path.display(),
                    write.value,
                    read.trim()
                )),
            },
        }
    }

    /// Writes and notes; gives what the file shows then.
    fn put(&mut self, path: &Path, value: &str) -> Result<String, IoError> {
        let before = first_line(&file::read(path)?);
        file::write(path, value)?;
        let read = file::read(path)?;
        let ours = first_line(&read);
        self.held.push(Held {
            path: path.to_owned(),
            before,
            ours,
        });
        Ok(read)
    }

    /// Cuts the quotas of a group and of those below it to a rate, deepest first.
    fn cut(&mut self, dir: &Path, (quota, period): (u64, u64)) {
        for below in subdirs(dir).unwrap_or_default() {
            self.cut(&below, (quota, period));
        }
        let path = dir.join(QUOTA);
        let (Some(own), Some(own_period)) = (read_number(&path), read_number(&dir.join(PERIOD))) else {
            return;
        };
        if let Some(cut) = cut_to((own, own_period), (quota, period))
            && let Err(error) = self.put(&path, &cut.to_string())
            && !error.is_gone()
        {
            self.warnings
                .push(format!("a job's CPU quota was not cut: {}", chain(&error)));
        }
    }
}

/// The quota that fits below a ceiling, when the present one does not.
fn cut_to((own, own_period): (u64, u64), (quota, period): (u64, u64)) -> Option<u64> {
    let fits = u128::from(own) * u128::from(period) <= u128::from(quota) * u128::from(own_period);
    // The kernel compares rates rounded down, so one microsecond less is never refused.
    let cut = u128::from(quota) * u128::from(own_period) / u128::from(period.max(1));
    (!fits).then(|| u64::try_from(cut).unwrap_or(own).max(LEAST_QUOTA_US))
}

/// The tightest quota of the v1 groups above a job's, as a quota over the job's own period: what a job that asks for
/// more than its class or the slice may have gets instead. `None` where nothing above limits it.
pub(super) fn quota_below(job: &Path, asked: u64) -> Option<u64> {
    let period = read_number(&job.join(PERIOD))?;
    let above = job.ancestors().skip(1).take_while(|dir| dir.join(QUOTA).exists());
    above
        .filter_map(|dir| Some((read_number(&dir.join(QUOTA))?, read_number(&dir.join(PERIOD))?)))
        .filter_map(|ceiling| cut_to((asked, period), ceiling))
        .min()
}

/// Gives a file back what it held before, unless somebody else has written it since. Gives a line for what was done.
/// `Err` is the sentence for a file that could not be given back.
pub fn give_back(held: &Held) -> Result<Option<String>, String> {
    let path = held.path.display();
    let now = match file::read(&held.path) {
        Ok(text) => first_line(&text),
        // The group is gone and its limits with it.
        Err(error) if error.is_gone() => return Ok(None),
        Err(error) => return Err(chain(&error)),
    };
    if now == held.before {
        return Ok(None);
    }
    if now != held.ours {
        return Err(format!(
            "{path} is left at `{now}`: it was set to that by somebody else, we had written `{}`",
            held.ours
        ));
    }
    file::write(&held.path, &held.before)
        .map(|()| Some(format!("{path} back to `{}`", held.before)))
        .map_err(|error| chain(&error))
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim().to_owned()
}

/// A number that is not negative: -1 stands for no quota.
fn read_number(path: &Path) -> Option<u64> {
    file::read(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_above_its_ceiling_is_cut_to_the_same_rate() {
        for (own, ceiling, cut) in [
            ((200_000, 100_000), (150_000, 100_000), Some(150_000)),
            ((100_000, 50_000), (150_000, 100_000), Some(75_000)),
            ((50_000, 100_000), (150_000, 100_000), None),
            ((150_000, 100_000), (150_000, 100_000), None),
            ((50_000, 1_000), (1_000, 1_000_000), Some(1_000)),
        ] {
            assert_eq!(cut_to(own, ceiling), cut, "{own:?} below {ceiling:?}");
        }
    }

    #[test]
    fn children_are_cut_before_their_class_and_all_is_given_back_in_the_other_order() {
        let class = tempfile::tempdir().unwrap();
        let job = class.path().join("job");
        std::fs::create_dir(&job).unwrap();
        for (dir, quota) in [(class.path(), "-1\n"), (job.as_path(), "80000\n")] {
            std::fs::write(dir.join(QUOTA), quota).unwrap();
            std::fs::write(dir.join(PERIOD), "100000\n").unwrap();
        }
        let mut done = Ceiling::default();
        let write = Write {
            hierarchy: 0,
            controller: Controller::Cpu,
            file: QUOTA,
            value: "50000".to_owned(),
            limit: "cpu_max",
        };
        // A plain file keeps the rest of a longer text, so the test writes what has the same length.
        std::fs::write(job.join(QUOTA), "80000").unwrap();
        std::fs::write(class.path().join(QUOTA), "-1   ").unwrap();
        done.write(class.path(), &write);
        assert_eq!(done.warnings, [""; 0]);
        let paths: Vec<_> = done.held.iter().map(|held| held.path.clone()).collect();
        assert_eq!(paths, [job.join(QUOTA), class.path().join(QUOTA)]);
        assert_eq!(quota_below(&job, 90_000), Some(50_000));
        assert_eq!(quota_below(&job, 40_000), None);
        std::fs::write(job.join(QUOTA), "30000").unwrap();
        assert!(give_back(&done.held[0]).unwrap_err().contains("somebody else"));
        assert!(
            give_back(&done.held[1])
                .unwrap()
                .unwrap()
                .ends_with("back to `-1`")
        );
    }

    #[test]
    fn a_group_that_is_gone_needs_nothing_back() {
        let held = Held {
            path: "/nowhere/cpu.max".into(),
            before: "max 100000".to_owned(),
            ours: "1 2".to_owned(),
        };
        assert_eq!(give_back(&held), Ok(None));
    }
}
