//! Who may depend on whom among our own crates.
//!
//! `abi` and `api` are leaves and never meet; xtask must run when nothing else compiles.

use std::path::Path;

use cargo_metadata::{DependencyKind, Metadata};

use super::Finding;

/// What a crate may depend on.
enum May {
    /// These of ours and no other.
    Only(&'static [&'static str]),
    /// Every crate of ours.
    All,
}

fn rule(package: &str) -> Option<May> {
    Some(match package {
        "ffrtmp-abi" | "ffrtmp-api" | "xtask" => May::Only(&[]),
        "ffrtmp-governor" => May::Only(&["ffrtmp-abi", "ffrtmp-api"]),
        "ffrtmp-scheduler" => May::Only(&["ffrtmp-api"]),
        "ffrtmp-cli" => May::Only(&["ffrtmp-governor", "ffrtmp-api"]),
        "ffrtmp-tests" => May::All,
        _ => return None,
    })
}

/// Every dependency that the rule of its crate does not allow, and every crate without a rule.
pub(super) fn findings(metadata: &Metadata) -> Vec<Finding> {
    let ours: Vec<&str> = metadata
        .packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    let mut findings = Vec::new();
    for package in &metadata.packages {
        // A dev-dependency never reaches a user, and tests may look at anything.
        let dependencies: Vec<&str> = package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind != DependencyKind::Development)
            .map(|dependency| dependency.name.as_str())
            .filter(|name| ours.contains(name))
            .collect();
        let manifest = package.manifest_path.strip_prefix(&metadata.workspace_root);
        let manifest = manifest.unwrap_or(&package.manifest_path).as_std_path();
        findings.extend(broken(manifest, package.name.as_str(), &dependencies));
    }
    findings
}

fn broken(manifest: &Path, package: &str, dependencies: &[&str]) -> Vec<Finding> {
    let Some(rule) = rule(package) else {
        return vec![Finding::new(
            manifest,
            1,
            format!("{package} has no rule in xtask/src/tidy/edges.rs"),
        )];
    };
    let May::Only(allowed) = rule else {
        return Vec::new();
    };
    let wrong = dependencies.iter().filter(|name| !allowed.contains(name));
    wrong
        .map(|name| Finding::new(manifest, 1, format!("{package} may not depend on {name}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_edges_of_the_design_are_allowed() {
        let broken =
            |package, dependencies: &[&str]| broken(Path::new("Cargo.toml"), package, dependencies).len();
        assert_eq!(broken("ffrtmp-governor", &["ffrtmp-abi", "ffrtmp-api"]), 0);
        assert_eq!(
            broken(
                "ffrtmp-tests",
                &["ffrtmp-abi", "ffrtmp-governor", "ffrtmp-scheduler"]
            ),
            0
        );
        assert_eq!(broken("ffrtmp-abi", &["ffrtmp-api"]), 1);
        assert_eq!(broken("ffrtmp-scheduler", &["ffrtmp-governor", "ffrtmp-api"]), 1);
        assert_eq!(broken("xtask", &["ffrtmp-api"]), 1);
        assert_eq!(broken("ffrtmp-newcomer", &[]), 1);
    }
}
