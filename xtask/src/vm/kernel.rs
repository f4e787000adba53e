//! Debian's cloud kernels: which is the newest of a series, fetched and unpacked below the target directory.
//!
//! Nothing is installed on the host: packages are downloaded by apt and unpacked by dpkg into a directory of ours.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use xshell::{Shell, cmd};

use crate::{package, workspace};

/// A kernel series that the kernel programs must load on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Series {
    /// Debian 12's own.
    #[value(name = "6.1")]
    V6_1,
    /// Debian 13's, packaged for Debian 12 too.
    #[value(name = "6.12")]
    V6_12,
}

impl Series {
    /// Every series, oldest first.
    pub(crate) const ALL: [Self; 2] = [Self::V6_1, Self::V6_12];

    /// As people write it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
        }
    }

    /// Whether a Debian package is a kernel of this series: `linux-image-6.1.0-56-cloud-amd64` is,
    /// the meta-package `linux-image-6.12-cloud-amd64` is not.
    fn owns(self, package: &str) -> bool {
        package
            .strip_prefix("linux-image-")
            .and_then(|rest| rest.strip_suffix("-cloud-amd64"))
            .and_then(|version| version.strip_prefix(self.name()))
            .is_some_and(|rest| rest.starts_with('.'))
    }
}

/// An unpacked kernel.
#[derive(Debug, Clone)]
pub(crate) struct Kernel {
    /// Its release, as `uname -r` shows it.
    pub(crate) release: String,
    /// What QEMU boots.
    pub(crate) image: PathBuf,
    /// Directory that holds `lib/modules`.
    directory: PathBuf,
}

/// The newest kernel of a series, downloaded unless it is there already.
pub(crate) fn obtain(series: Series) -> Result<Kernel> {
    let shell = workspace::shell()?;
    let name = if let Some(name) = newest_listed(&shell, series)? {
        name
    } else {
        package::refresh(&shell)?;
        newest_listed(&shell, series)?
            .with_context(|| format!("apt lists no linux-image-{}.*-cloud-amd64", series.name()))?
    };
    let directory = workspace::scratch("vm/kernels")?.join(&name);
    if !directory.join("complete").exists() {
        download(&shell, &name, &directory)?;
    }
    let release = name.trim_start_matches("linux-image-").to_owned();
    let image = directory.join("boot").join(format!("vmlinuz-{release}"));
    if !image.exists() {
        bail!("package {name} brought no {}", image.display());
    }
    Ok(Kernel {
        release,
        image,
        directory,
    })
}

fn newest_listed(shell: &Shell, series: Series) -> Result<Option<String>> {
    let text = cmd!(shell, "apt-cache pkgnames linux-image-")
        .quiet()
        .read()
        .context("listing kernels")?;
    Ok(newest(series, text.lines()))
}

/// The highest version, compared number by number: 6.12.9 is older than 6.12.10.
fn newest<'a>(series: Series, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let numbers = |name: &str| -> Vec<u64> {
        name.split(|c: char| !c.is_ascii_digit())
            .filter_map(|word| word.parse().ok())
            .collect()
    };
    names
        .filter(|name| series.owns(name))
        .max_by_key(|name| numbers(name))
        .map(str::to_owned)
}

fn download(shell: &Shell, name: &str, directory: &Path) -> Result<()> {
    println!("== fetching {name}");
    // A half-unpacked kernel of an interrupted run would boot and then miss modules.
    shell.remove_path(directory)?;
    shell.create_dir(directory)?;
    let _here = shell.push_dir(directory);
    let get = || cmd!(shell, "apt-get download -qq {name}").ignore_stderr().run();
    if get().is_err() {
        package::refresh(shell)?;
        get().with_context(|| format!("downloading {name}"))?;
    }
    let archive = shell
        .read_dir(directory)?
        .into_iter()
        .find(|path| path.extension().is_some_and(|end| end == "deb"))
        .with_context(|| format!("apt-get download left no package of {name}"))?;
    cmd!(shell, "dpkg -x {archive} .")
        .run()
        .with_context(|| format!("unpacking {name}"))?;
    let release = name.trim_start_matches("linux-image-");
    cmd!(shell, "depmod -b {directory} {release}")
        .run()
        .context("listing the kernel's modules")?;
    shell.remove_path(archive)?;
    shell.write_file(directory.join("complete"), "")?;
    Ok(())
}

impl Kernel {
    /// Files of the modules that `wanted` need, in the order they must be loaded. Built-in ones need no file.
    pub(crate) fn modules(&self, wanted: &[&str]) -> Result<Vec<PathBuf>> {
        let shell = workspace::shell()?;
        let (directory, release) = (&self.directory, &self.release);
        let text = cmd!(
            shell,
            "modprobe -d {directory} -S {release} --show-depends -a {wanted...}"
        )
        .quiet()
        .read()
        .with_context(|| format!("resolving the modules {} of {release}", wanted.join(", ")))?;
        let mut files = Vec::new();
        for line in text.lines() {
            if let Some(path) = line.strip_prefix("insmod ") {
                let path = PathBuf::from(path.trim());
                if !files.contains(&path) {
                    files.push(path);
                }
            }
        }
        Ok(files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_is_chosen_by_number_and_the_meta_package_left_out() {
        let names = [
            "linux-image-6.12-cloud-amd64",
            "linux-image-6.12.9+deb12-cloud-amd64",
            "linux-image-6.12.10+deb12-cloud-amd64",
            "linux-image-6.12.11+deb12-amd64",
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-6.1.0-57-cloud-amd64-dbg",
        ];
        let newest = |series| newest(series, names.into_iter());
        assert_eq!(
            newest(Series::V6_12).as_deref(),
            Some("linux-image-6.12.10+deb12-cloud-amd64")
        );
        assert_eq!(
            newest(Series::V6_1).as_deref(),
            Some("linux-image-6.1.0-56-cloud-amd64")
        );
    }
}
