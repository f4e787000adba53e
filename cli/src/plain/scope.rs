//! A group without privilege: the user's own service manager makes a scope, in the part of the tree that the system's
//! manager handed to it (`Delegate=` of `user@.service`).
//!
//! Only for processes that `run` holds back before their exec: those of others are where somebody put them.

use ffrtmp_api::{JobId, LimitsReport, PlacementReport};
use ffrtmp_governor::core::unit::scope_of;
use ffrtmp_governor::host::cgroup::{Tree, TreeOptions};
use ffrtmp_governor::host::file::chain;
use ffrtmp_governor::host::process::Pinned;
use ffrtmp_governor::host::systemd;

/// A scope of the user's manager around the process, with what it enforces added to the report; or why there is none.
pub(super) async fn of_user(
    process: &Pinned,
    id: Option<&JobId>,
    report: &mut LimitsReport,
) -> Result<PlacementReport, String> {
    if let Some(why) = systemd::absent() {
        return Err(why);
    }
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        return Err("XDG_RUNTIME_DIR is not set, so there is no service manager of yours".to_owned());
    }
    let name = id.map_or("job", JobId::as_str);
    let scope = scope_of(&format!("{name}-{}", process.pid()));
    systemd::user_scope(&scope, process.pid(), &report.asked)
        .await
        .map_err(|error| chain(&error))?;
    let tree = Tree::open(TreeOptions::default()).map_err(|error| chain(&error))?;
    let group = tree
        .group_named(process, &scope)
        .ok_or_else(|| format!("your service manager made {scope}, but the process is not in it"))?;
    let done = tree.adopt(group, &report.asked);
    report.applied.extend(done.applied);
    report.warnings.extend(done.warnings);
    Ok(PlacementReport {
        mode: "scope".to_owned(),
        groups: done.group.paths(),
        ..PlacementReport::default()
    })
}
