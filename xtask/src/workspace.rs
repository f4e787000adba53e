//! Where things are: the repository's root, its target directory, its packages as cargo knows them.
//!
//! Nothing here changes a file outside the target directory.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};
use cargo_metadata::{Metadata, MetadataCommand, TargetKind};
use xshell::{Shell, cmd};

/// Selects what we ship and its tests. Always the same selection: with another one cargo unifies features anew and
/// compiles half of the dependencies a second time. xtask itself would change that selection, and is tested apart.
pub(crate) const PRODUCT: [&str; 3] = ["--workspace", "--exclude", "xtask"];

/// The repository's root: the directory above this package.
pub(crate) fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

/// A shell that stands in the root.
pub(crate) fn shell() -> Result<Shell> {
    let shell = Shell::new().context("opening a shell")?;
    shell.change_dir(root());
    Ok(shell)
}

/// What `cargo metadata` says of our own packages.
pub(crate) fn metadata() -> Result<&'static Metadata> {
    static METADATA: OnceLock<Metadata> = OnceLock::new();
    if let Some(metadata) = METADATA.get() {
        return Ok(metadata);
    }
    let metadata = MetadataCommand::new()
        .current_dir(root())
        .no_deps()
        .exec()
        .context("cargo metadata")?;
    Ok(METADATA.get_or_init(|| metadata))
}

/// The target directory.
pub(crate) fn target() -> Result<PathBuf> {
    Ok(metadata()?.target_directory.clone().into_std_path_buf())
}

/// A directory of ours below the target directory, made if it is missing.
pub(crate) fn scratch(name: &str) -> Result<PathBuf> {
    let directory = target()?.join(name);
    std::fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
    Ok(directory)
}

/// Integration test targets as (package, test).
pub(crate) fn integration_tests() -> Result<Vec<(String, String)>> {
    let mut tests = Vec::new();
    for package in &metadata()?.packages {
        for target in &package.targets {
            if target.kind.contains(&TargetKind::Test) {
                tests.push((package.name.to_string(), target.name.clone()));
            }
        }
    }
    tests.sort();
    Ok(tests)
}

/// Names of the programs that [`PRODUCT`] selects.
pub(crate) fn programs() -> Result<Vec<String>> {
    let packages = metadata()?
        .packages
        .iter()
        .filter(|package| package.name.as_str() != "xtask");
    let targets = packages.flat_map(|package| &package.targets);
    let programs = targets.filter(|target| target.kind.contains(&TargetKind::Bin));
    Ok(programs.map(|target| target.name.clone()).collect())
}

/// Builds one integration test and returns its binary.
pub(crate) fn test_binary(package: &str, test: &str) -> Result<PathBuf> {
    let shell = shell()?;
    let text = cmd!(
        shell,
        "cargo test --quiet --no-run --message-format=json {PRODUCT...} --test {test}"
    )
    .quiet()
    .read()
    .with_context(|| format!("building test {test} of {package}"))?;
    for message in cargo_metadata::Message::parse_stream(text.as_bytes()) {
        if let cargo_metadata::Message::CompilerArtifact(artifact) =
            message.context("reading cargo's messages")?
            && artifact.target.name == test
            && artifact.profile.test
            && let Some(binary) = artifact.executable
        {
            return Ok(binary.into_std_path_buf());
        }
    }
    bail!("cargo built no binary for test {test} of {package}")
}

/// True when this runs as root.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
