//! Groups outside our tree that we write to all the same, because systemd handed them over: a scope's, and one of ours
//! inside a delegated unit.
//!
//! Only groups that carry systemd's mark of delegation are divided, and no process of somebody else's is moved.

use std::path::{Path, PathBuf};

use ffrtmp_api::{LimitOutcome, Limits};

use super::super::file;
use super::super::process::Pinned;
use super::super::procfs::read_cgroups;
use super::group::{Group, GroupDir, Prepared, Tree, Trouble, check_name};
use super::layout::has_delegate_mark;
use super::levels::enable_delegated;
use crate::core::plan::{Controller, Version, not_enforced, plan};
use crate::core::readback::holding;
use crate::core::unit::{Unit, is_our_scope};

impl Tree {
    /// The group of this name that the process is in, in each hierarchy. `None` when it is in no such group.
    pub fn group_named(&self, process: &Pinned, name: &str) -> Option<Group> {
        let listed = read_cgroups(process.pid()).ok()?;
        let dirs = self.layout.hierarchies.iter().enumerate();
        let dirs = dirs.filter_map(|(number, hierarchy)| {
            let one = listed.0.iter().find(|one| one.hierarchy == hierarchy.number)?;
            let path = hierarchy.dir_of(&one.pathname)?;
            (path.file_name()? == name).then_some(GroupDir {
                hierarchy: number,
                path,
            })
        });
        self.group_of(dirs.collect())
    }

    /// The scope of ours that a record names by its group's paths, if it still is.
    pub fn scope_at(&self, paths: &[String]) -> Option<(Group, String)> {
        let name = Path::new(paths.first()?).file_name()?.to_str()?.to_owned();
        if !is_our_scope(&name) {
            return None;
        }
        let mut dirs = Vec::new();
        for path in paths.iter().map(PathBuf::from) {
            let hierarchy = self
                .layout
                .hierarchies
                .iter()
                .position(|one| path.starts_with(&one.mount))?;
            if !path.is_dir() || path.file_name()? != name.as_str() {
                return None;
            }
            dirs.push(GroupDir { hierarchy, path });
        }
        Some((self.group_of(dirs)?, name))
    }

    fn group_of(&self, dirs: Vec<GroupDir>) -> Option<Group> {
        let id = self.v2_id(&dirs);
        (!dirs.is_empty()).then_some(Group { dirs, id })
    }

    /// A group that somebody made and gave limits: those that hold are noted, the others are written.
    pub fn adopt(&self, group: Group, limits: &Limits) -> Prepared {
        let plan = plan(limits, &self.offers, self.layout.sharing);
        let mut prepared = Prepared {
            name: String::new(),
            group,
            applied: Vec::new(),
            warnings: plan.warnings,
        };
        for write in &plan.writes {
            let dir = prepared
                .group
                .dirs
                .iter()
                .find(|dir| dir.hierarchy == write.hierarchy);
            let Some(path) = dir.map(|dir| dir.path.join(write.file)) else {
                prepared.warn(not_enforced(
                    write.limit,
                    "the scope has no group in that hierarchy",
                ));
                continue;
            };
            match file::read(&path)
                .ok()
                .and_then(|read| holding(write.file, &write.value, &read))
            {
                Some(value) => prepared.applied.push(LimitOutcome {
                    limit: write.limit.to_owned(),
                    target: path.display().to_string(),
                    value,
                }),
                None => prepared.write(write),
            }
        }
        prepared
    }

    /// A group for one job inside a systemd unit. The error says why the unit cannot have one.
    ///
    /// `may` says which of the unit's own processes may be moved aside, within the unit.
    pub fn prepare_inside(
        &self,
        unit: &Unit,
        name: &str,
        limits: &Limits,
        may: impl Fn(u32) -> bool,
    ) -> Result<Prepared, String> {
        check_name(name).map_err(|error| error.to_string())?;
        let v2 = |one: &super::Hierarchy| one.version == Version::V2;
        let hierarchy = self.layout.hierarchies.iter().position(v2);
        let hierarchy = hierarchy.ok_or("there is no cgroup v2 hierarchy")?;
        let dir = self.layout.hierarchies[hierarchy]
            .dir_of(&unit.group)
            .ok_or_else(|| format!("{} is not visible here", unit.group))?;
        if !has_delegate_mark(&dir) {
            return Err(format!(
                "{} is not delegated; add `Delegate=yes` to its [Service] section, or use --placement scope",
                unit.name
            ));
        }
        let mut offer = self.offers[hierarchy].clone();
        let text = file::read(&dir.join("cgroup.controllers")).unwrap_or_default();
        offer.controllers = Controller::ALL
            .into_iter()
            .filter(|one| text.split_whitespace().any(|word| word == one.name(Version::V2)))
            .collect();
        let plan = plan(limits, &[offer], self.layout.sharing);
        let mut trouble = Trouble::default();
        let parent = GroupDir { hierarchy, path: dir };
        let mut absent = Vec::new();
        for &(_, controller) in &plan.controllers {
            if let Err(why) = enable_delegated(&parent.path, controller, &may) {
                absent.push((controller, why));
            }
        }
        let made = self.make_unique(std::slice::from_ref(&parent), name, &mut trouble);
        let (group, name) = made.map_err(|error| file::chain(&error))?;
        let mut prepared = Prepared {
            group,
            name,
            applied: Vec::new(),
            warnings: plan.warnings,
        };
        for mut write in plan.writes {
            // The plan was made for this hierarchy alone.
            write.hierarchy = hierarchy;
            match absent
                .iter()
                .find(|(controller, _)| *controller == write.controller)
            {
                Some((_, why)) => prepared.warn(not_enforced(write.limit, why)),
                None => prepared.write(&write),
            }
        }
        Ok(prepared)
    }
}
