//! What the machine must have besides Rust: one table, package → why, and the one place that installs.
//!
//! Only Debian's packages and crates are installed, only when their command is missing, and never without saying so.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use xshell::{Shell, cmd};

use crate::workspace;

/// Who needs a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Building C parts of dependencies (SQLite).
    Build,
    /// Real workloads for the demo and the node tests.
    Media,
    /// A media server that starts workloads by itself, for the node tests of edge duty.
    Edge,
    /// Real kernels in QEMU.
    Vm,
    /// A Debian with systemd in QEMU.
    Debian,
    /// Rebuilding the kernel programs.
    Ebpf,
    /// The peers and the referee of the benchmark.
    Bench,
}

/// One Debian package: present when `probe` exists.
struct Package {
    name: &'static str,
    probe: &'static str,
    need: Need,
    why: &'static str,
}

const fn package(need: Need, name: &'static str, probe: &'static str, why: &'static str) -> Package {
    Package {
        name,
        probe,
        need,
        why,
    }
}

const GST: &str = "/usr/lib/x86_64-linux-gnu/gstreamer-1.0";

/// Every package we ever install.
const PACKAGES: &[Package] = &[
    package(Need::Build, "gcc", "cc", "compiles the bundled SQLite"),
    package(Need::Build, "libc6-dev", "/usr/include/stdio.h", "headers for it"),
    package(Need::Media, "ffmpeg", "ffmpeg", "the workload"),
    package(
        Need::Media,
        "gstreamer1.0-tools",
        "gst-launch-1.0",
        "the other workload",
    ),
    package(
        Need::Media,
        "gstreamer1.0-plugins-base",
        "/usr/lib/x86_64-linux-gnu/gstreamer-1.0/libgstvideotestsrc.so",
        "its test source and Theora encoder",
    ),
    package(
        Need::Media,
        "gstreamer1.0-plugins-good",
        "/usr/lib/x86_64-linux-gnu/gstreamer-1.0/libgstjpeg.so",
        "its JPEG encoder",
    ),
    package(
        Need::Edge,
        "nginx-core",
        "nginx",
        "a server that starts an ffmpeg for each client",
    ),
    package(
        Need::Edge,
        "libnginx-mod-rtmp",
        "/usr/lib/nginx/modules/ngx_rtmp_module.so",
        "its RTMP module",
    ),
    package(
        Need::Vm,
        "qemu-system-x86",
        "qemu-system-x86_64",
        "runs the kernels",
    ),
    package(Need::Vm, "busybox-static", "busybox", "the guest's first process"),
    package(Need::Vm, "cpio", "cpio", "packs the guest's first file system"),
    package(Need::Vm, "kmod", "modprobe", "resolves the guest's modules"),
    package(Need::Vm, "xz-utils", "xz", "unpacks the guest's modules"),
    package(Need::Vm, "e2fsprogs", "mke2fs", "makes the guest's disk"),
    package(
        Need::Debian,
        "debootstrap",
        "debootstrap",
        "makes the guest with systemd",
    ),
    package(
        Need::Bench,
        "linux-perf",
        "perf",
        "the referee: records tracepoints",
    ),
    package(Need::Bench, "bpftool", "bpftool", "names the kernel programs"),
    package(
        Need::Bench,
        "cgroup-tools",
        "cgrulesengd",
        "a peer that is told of execs by the kernel's connector",
    ),
    package(
        Need::Bench,
        "libbpf-tools",
        "execsnoop",
        "a peer that is told by BPF, and places nothing",
    ),
    package(
        Need::Ebpf,
        "rustc-web",
        "/usr/bin/rustc",
        "a compiler whose core sources are packaged",
    ),
    package(
        Need::Ebpf,
        "rust-web-src",
        "/usr/lib/rustlib/src/rust/library/core",
        "those sources: the BPF target has no prebuilt core",
    ),
    package(
        Need::Ebpf,
        "llvm-22-dev",
        "/usr/lib/llvm-22/bin/llvm-config",
        "bpf-linker is built on it",
    ),
    package(
        Need::Ebpf,
        "llvm-22",
        "/usr/bin/llvm-objcopy-22",
        "strips the object",
    ),
];

/// Directory of the GStreamer plugins that [`PACKAGES`] brings.
pub(crate) fn gstreamer_plugins() -> &'static Path {
    Path::new(GST)
}

/// Where cargo keeps crates and the tools it installs.
pub(crate) fn cargo_home() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cargo");
    std::env::var_os("CARGO_HOME").map_or_else(home, PathBuf::from)
}

/// True when a path exists, or a command can be found.
pub(crate) fn present(probe: &str) -> bool {
    if probe.starts_with('/') {
        return Path::new(probe).exists();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    // An unprivileged PATH lacks the sbin directories in which mke2fs and modprobe live.
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into(), cargo_home().join("bin")])
        .any(|directory| directory.join(probe).exists())
}

/// Installs the packages of the given needs that are missing. Needs root only when something is.
pub(crate) fn ensure(needs: &[Need]) -> Result<()> {
    let missing: Vec<&Package> = PACKAGES
        .iter()
        .filter(|package| needs.contains(&package.need) && !present(package.probe))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("== installing what is missing");
    for package in &missing {
        println!("   {:<28} {}", package.name, package.why);
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    if !workspace::is_root() {
        bail!(
            "run as root, or first: apt-get install -y --no-install-recommends {}",
            names.join(" ")
        );
    }
    let shell = workspace::shell()?;
    if install(&shell, &names).is_err() {
        // The package lists of a fresh image are old or absent; they are fetched only when that shows.
        refresh(&shell)?;
        install(&shell, &names)?;
    }
    if missing.iter().any(|package| package.need == Need::Edge) {
        // Debian enables what it installs; a machine that tests need not serve after its next boot.
        cmd!(shell, "update-rc.d nginx disable")
            .run()
            .context("disabling nginx's own service")?;
    }
    match missing.iter().find(|package| !present(package.probe)) {
        Some(package) => bail!(
            "{} was installed but {} is still missing",
            package.name,
            package.probe
        ),
        None => Ok(()),
    }
}

fn install(shell: &Shell, names: &[&str]) -> Result<()> {
    let _no_services = NoServices::ask()?;
    cmd!(shell, "apt-get install -y -qq --no-install-recommends {names...}")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .ignore_stdout()
        .run()
        .context("installing Debian packages")
}

/// Keeps packages from starting the services they bring, as long as it lives: nginx would take port 80.
///
/// `invoke-rc.d` asks this program before it starts anything (Debian's policy-rc.d); one that is there already is the
/// machine owner's word and stays.
struct NoServices {
    ours: bool,
}

impl NoServices {
    const POLICY: &str = "/usr/sbin/policy-rc.d";

    fn ask() -> Result<Self> {
        let ours = !Path::new(Self::POLICY).exists();
        if ours {
            std::fs::write(Self::POLICY, "#!/bin/sh\nexit 101\n").context("writing policy-rc.d")?;
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(Self::POLICY, mode).context("making policy-rc.d a program")?;
        }
        Ok(Self { ours })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = std::fs::remove_file(Self::POLICY)
        {
            println!("   {} stays: {error}", Self::POLICY);
        }
    }
}

/// Fetches Debian's package lists.
pub(crate) fn refresh(shell: &Shell) -> Result<()> {
    cmd!(shell, "apt-get update -qq")
        .run()
        .context("fetching Debian's package lists")
}

/// Installs a cargo subcommand or tool that is missing.
pub(crate) fn ensure_crate(
    command: &str,
    version: &str,
    arguments: &[&str],
    env: &[(&str, &str)],
) -> Result<()> {
    if present(command) {
        return Ok(());
    }
    println!("== installing {command} {version} with cargo");
    let shell = workspace::shell()?;
    let mut install = cmd!(
        shell,
        "cargo install --quiet --locked {command} --version {version} {arguments...}"
    );
    for (name, value) in env {
        install = install.env(name, value);
    }
    install.run().with_context(|| format!("installing {command}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_a_path_or_a_command() {
        assert!(present("/proc/self/stat"));
        assert!(present("sh"));
        assert!(!present("/nonexistent"));
        assert!(!present("no-such-command-of-ours"));
    }

    #[test]
    fn every_package_says_why() {
        for package in PACKAGES {
            assert!(
                !package.why.is_empty() && !package.probe.is_empty(),
                "{}",
                package.name
            );
        }
    }
}
