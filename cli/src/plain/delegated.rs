//! Groups without a governor: the part of the tree that was handed to this user (a delegated user service, a chowned
//! group), used as the governor would use the whole.
//!
//! Without one nothing here is made, and the caller says what that costs.

use std::sync::Arc;

use ffrtmp_api::{LimitsReport, PlacementReport, Usage};
use ffrtmp_governor::control::types::AttachRequest;
use ffrtmp_governor::core::rule::PlacementMode;
use ffrtmp_governor::host::cgroup::{CgroupBase, Group, Tree, TreeOptions};
use ffrtmp_governor::host::descend::descendants;
use ffrtmp_governor::host::file::chain;
use ffrtmp_governor::host::process::Pinned;

/// The user's own part of the tree.
#[derive(Debug, Clone)]
pub(super) struct Delegated {
    tree: Arc<Tree>,
}

impl Delegated {
    /// Finds it. Empty groups of wrappers that were killed are removed on the way.
    pub(super) fn find() -> Option<Self> {
        let options = TreeOptions {
            base: CgroupBase::Own,
            ..TreeOptions::default()
        };
        let tree = Tree::open(options).ok()?;
        // What cannot go is somebody's, or goes next time.
        let _left = tree.adopt_leftovers();
        Some(Self { tree: Arc::new(tree) })
    }

    /// Where limits are written, a line for each hierarchy.
    pub(super) fn describe(&self) -> Vec<String> {
        self.tree.describe()
    }

    /// Puts a process and its descendants into a group under the limits that need one. Warnings say what is not in
    /// force; `None` when there is no group at all.
    pub(super) fn place(
        &self,
        process: &Pinned,
        request: &AttachRequest,
        class: &str,
        report: &mut LimitsReport,
    ) -> Option<Group> {
        if matches!(
            request.placement,
            Some(PlacementMode::InPlace | PlacementMode::Observe)
        ) {
            return None;
        }
        let name = match &request.job_id {
            Some(id) => id.to_string(),
            None => format!("{class}-{}", process.pid()),
        };
        let mut prepared = match self.tree.prepare(class, &name, &request.limits) {
            Ok(prepared) => prepared,
            Err(error) => {
                report.warnings.push(chain(&error));
                return None;
            }
        };
        let root = process.key();
        match self
            .tree
            .place(&prepared.group, &[], process, || descendants(root))
        {
            Ok(moved) => prepared.settle(&moved),
            Err(error) => {
                report.warnings.push(chain(&error));
                self.tree.retire(&prepared.group);
                return None;
            }
        }
        report.applied.extend(prepared.applied);
        report.warnings.extend(prepared.warnings);
        Some(prepared.group)
    }

    /// Reads the group for the last time and removes it; one that still holds processes stays for the next call.
    pub(super) fn retire(&self, group: &Group, usage: &mut Usage) {
        let found = self.tree.usage(group);
        usage.memory_peak_bytes = found.memory_peak;
        self.tree.retire(group);
        self.tree.cleanup();
    }
}

/// As a report shows a placement.
pub(super) fn report_of(group: &Group) -> PlacementReport {
    PlacementReport {
        mode: "place".to_owned(),
        groups: group.paths(),
        ..PlacementReport::default()
    }
}
