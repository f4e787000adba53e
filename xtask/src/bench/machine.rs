//! What machine the figures are from. Reads and never changes.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Serialize;

/// The machine at the start of a run. `None` is unknown.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    cpu: Option<String>,
    cores: Option<usize>,
    kernel: String,
    hz: Option<u32>,
    cgroups: &'static str,
    /// Whether any hierarchy was mounted with `favordynmods`, which makes lone moves cheap.
    favordynmods: bool,
    load_before: f64,
    date: String,
}

impl Machine {
    /// Looks at this machine.
    pub(super) fn read() -> Result<Self> {
        let mounts = mounts()?;
        Ok(Self {
            cpu: cpu_model(&fs::read_to_string("/proc/cpuinfo").context("reading /proc/cpuinfo")?),
            cores: std::thread::available_parallelism().ok().map(Into::into),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .context("reading the kernel's version")?
                .trim()
                .to_owned(),
            hz: hz(),
            cgroups: layout(&mounts),
            favordynmods: mounts.iter().any(|mount| mount.options.contains("favordynmods")),
            load_before: load()?,
            date: date()?,
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unknown = || "?".to_owned();
        write!(
            to,
            "{}, {} cores, Linux {}, HZ {}, cgroups {}, favordynmods {}, load {:.2}, {}",
            self.cpu.clone().unwrap_or_else(unknown),
            self.cores.map_or_else(unknown, |cores| cores.to_string()),
            self.kernel,
            self.hz.map_or_else(unknown, |hz| hz.to_string()),
            self.cgroups,
            if self.favordynmods { "on" } else { "off" },
            self.load_before,
            self.date
        )
    }
}

/// A mounted control group hierarchy.
pub(super) struct Mount {
    point: PathBuf,
    kind: String,
    options: String,
}

/// Load average of the last minute.
pub(super) fn load() -> Result<f64> {
    let text = fs::read_to_string("/proc/loadavg").context("reading /proc/loadavg")?;
    let first = text.split_whitespace().next().unwrap_or_default();
    first.parse().context("reading /proc/loadavg")
}

/// Where the hierarchy that holds CPU limits is mounted: version 1's, else version 2's.
pub(super) fn cpu_hierarchy() -> Result<PathBuf> {
    let mounts = mounts()?;
    let has_cpu =
        |mount: &&Mount| mount.kind == "cgroup" && mount.options.split(',').any(|word| word == "cpu");
    let chosen = mounts
        .iter()
        .find(has_cpu)
        .or_else(|| mounts.iter().find(|mount| mount.kind == "cgroup2"));
    Ok(chosen
        .context("no control group hierarchy is mounted")?
        .point
        .clone())
}

fn mounts() -> Result<Vec<Mount>> {
    let text = fs::read_to_string("/proc/self/mountinfo").context("reading /proc/self/mountinfo")?;
    Ok(text.lines().filter_map(mount).collect())
}

/// One line of mountinfo, if it is a control group hierarchy.
fn mount(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut right = right.split_whitespace();
    let kind = right.next().filter(|kind| kind.starts_with("cgroup"))?;
    let options = right.nth(1)?;
    Some(Mount {
        point: PathBuf::from(left.split_whitespace().nth(4)?),
        kind: kind.to_owned(),
        options: options.to_owned(),
    })
}

fn layout(mounts: &[Mount]) -> &'static str {
    let old = mounts
        .iter()
        .any(|mount| mount.kind == "cgroup" && !mount.options.contains("name="));
    let new = mounts.iter().any(|mount| mount.kind == "cgroup2");
    match (old, new) {
        (true, true) => "hybrid",
        (true, false) => "v1",
        (false, true) => "v2",
        (false, false) => "none",
    }
}

fn cpu_model(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The kernel's tick rate, where its configuration is to be had.
fn hz() -> Option<u32> {
    let output = Command::new("zcat").arg("/proc/config.gz").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .find_map(|line| line.strip_prefix("CONFIG_HZ="))?
        .parse()
        .ok()
}

fn date() -> Result<String> {
    let output = Command::new("date")
        .args(["--utc", "+%Y-%m-%d %H:%M UTC"])
        .output()
        .context("asking for the date")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "33 32 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu";
    const V2: &str = "42 32 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup rw,favordynmods";
    const NAMED: &str = "41 32 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd";

    #[test]
    fn layouts_are_told_apart() {
        let mounts = |lines: &[&str]| lines.iter().filter_map(|line| mount(line)).collect::<Vec<_>>();
        assert_eq!(layout(&mounts(&[V1, V2])), "hybrid");
        assert_eq!(layout(&mounts(&[V2, NAMED])), "v2");
        assert_eq!(layout(&mounts(&[V1])), "v1");
        assert_eq!(layout(&mounts(&["1 0 0:1 / /proc rw - proc proc rw"])), "none");
    }

    #[test]
    fn the_models_name_is_found() {
        assert_eq!(
            cpu_model("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n").as_deref(),
            Some("Some CPU @ 2 GHz")
        );
        assert_eq!(cpu_model("processor\t: 0\n"), None);
    }
}
