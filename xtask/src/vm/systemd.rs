//! The guest that systemd runs: a minimal Debian made once by debootstrap, its copy with our programs and units, and
//! the suite that runs in it as a service.
//!
//! The base is kept below the target directory and never booted itself. Its mirror is the one apt uses on this machine,
//! so nothing here names a host.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use anyhow::{Context, Result, bail};
use xshell::cmd;

use super::image::{Root, executable, write};
use super::kernel::Series;
use super::{Step, count, product_binaries, quoted, run};
use crate::package::{self, Need};
use crate::test::{Counts, SYSTEMD_SUITE};
use crate::workspace;

/// The kernel: Debian 12's own, as its systemd was released with.
pub(super) const SERIES: Series = Series::V6_1;

/// What the base has beyond Debian's essential packages.
const PACKAGES: &[&str] = &[
    "systemd",
    "systemd-sysv",
    "dbus",
    "dbus-user-session",
    "libpam-systemd",
    "cron",
    "procps",
    "sudo",
    "podman",
    "crun",
    "netavark",
];

/// Units that would write to the console, wait for hardware that is not there, or look for containers at every boot.
const MASKED: &[&str] = &[
    "serial-getty@ttyS0.service",
    "getty@tty1.service",
    "getty.target",
    "podman.service",
    "podman.socket",
    "podman-auto-update.service",
    "podman-auto-update.timer",
    "podman-clean-transient.service",
    "podman-restart.service",
];

/// Runs the steps once the machine is up. `TasksMax` and the like stay as an administrator's service has them.
const RUNNER: &str = "[Unit]\nDescription=Steps of cargo xtask vm\nAfter=multi-user.target\n\n[Service]\nType=exec\n\
                      ExecStart=/bin/bash /vm/steps.sh\nStandardOutput=tty\nStandardError=tty\nTTYPath=/dev/ttyS0\n";

/// Where programs of ours are in the guest.
const BIN: &str = "/usr/bin";
/// Where the test's binary is in the guest.
const TEST: &str = "/usr/lib/ffrtmp-tests/systemd";

/// The base tree, made unless it is there already.
fn base() -> Result<PathBuf> {
    let directory = workspace::scratch("vm/systemd")?.join("base");
    let stamp = directory.with_extension("complete");
    let content = [PACKAGES, MASKED].concat().join(" ");
    // Other lists make another base, and a half-made one is none.
    if fs::read_to_string(&stamp).is_ok_and(|text| text == content) {
        return Ok(directory);
    }
    println!("== making a Debian with systemd; this happens once");
    let _turn = super::PREPARING.lock().unwrap_or_else(PoisonError::into_inner);
    package::ensure(&[Need::Debian])?;
    let shell = workspace::shell()?;
    shell.remove_path(&stamp)?;
    shell.remove_path(&directory)?;
    let codename = codename()?;
    let mirror = mirror(&codename)?;
    let include = format!("--include={}", PACKAGES.join(","));
    let log = directory.with_extension("log");
    let output = cmd!(
        shell,
        // debootstrap mounts /proc inside the tree; in a namespace of its own no mount reaches the host.
        "unshare --mount --propagation private debootstrap --variant=minbase {include} {codename} {directory} {mirror}"
    )
    .env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()))
    .quiet()
    .ignore_status()
    .output()
    .context("starting debootstrap")?;
    fs::write(&log, [output.stdout, output.stderr].concat()).context("writing debootstrap's log")?;
    if !output.status.success() {
        bail!("debootstrap: {}; see {}", output.status, log.display());
    }
    shell.remove_path(directory.join("var/cache/apt/archives"))?;
    settle(&directory)?;
    write(&stamp, &content)?;
    Ok(directory)
}

/// Debian's release name here. The guest must have the same one, because it gets programs with libraries of this host.
fn codename() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("reading /etc/os-release")?;
    text.lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|name| name.trim_matches('"').to_owned())
        .context("/etc/os-release names no release; the systemd guest needs a Debian host")
}

/// The mirror apt fetches this release's main component from.
fn mirror(codename: &str) -> Result<String> {
    let shell = workspace::shell()?;
    let format = "$(RELEASE) $(COMPONENT) $(REPO_URI)";
    let list = || {
        cmd!(shell, "apt-get indextargets --format {format}")
            .quiet()
            .read()
            .context("asking apt for its mirror")
    };
    let wanted = format!("{codename} main ");
    let find = |text: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(&wanted))
            .map(str::to_owned)
    };
    if let Some(mirror) = find(&list()?) {
        return Ok(mirror);
    }
    package::refresh(&shell)?;
    find(&list()?).with_context(|| format!("apt has no mirror of {codename} main"))
}

/// What every guest of this base has: an identity, the users, nothing on the console, the service of the steps.
fn settle(tree: &Path) -> Result<()> {
    write(&tree.join("etc/machine-id"), "0f0f0f0f0f0f4f0f8f0f0f0f0f0f0f0f\n")?;
    write(&tree.join("etc/hostname"), "ffrtmp-vm\n")?;
    write(&tree.join("etc/hosts"), "127.0.0.1 localhost ffrtmp-vm\n")?;
    let append = |file: &str, line: &str| {
        let path = tree.join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        write(&path, &format!("{text}{line}\n"))
    };
    append("etc/passwd", "media:x:1000:1000::/home/media:/bin/sh")?;
    append("etc/shadow", "media:*:19000:0:99999:7:::")?;
    append("etc/group", "ffrtmp:x:900:")?;
    append("etc/group", "media:x:1000:")?;
    let home = tree.join("home/media");
    fs::create_dir_all(&home).context("making the user's home")?;
    std::os::unix::fs::chown(&home, Some(1000), Some(1000)).context("giving the user its home")?;
    let units = tree.join("etc/systemd/system");
    for unit in MASKED {
        symlink("/dev/null", units.join(unit)).with_context(|| format!("masking {unit}"))?;
    }
    write(&units.join("vm-steps.service"), RUNNER)?;
    let wants = units.join("multi-user.target.wants");
    fs::create_dir_all(&wants).context("making the target's wants")?;
    symlink("../vm-steps.service", wants.join("vm-steps.service")).context("enabling the steps")?;
    fs::create_dir_all(tree.join("vm/steps")).context("making room for steps")?;
    executable(
        &tree.join("vm/init"),
        "#!/bin/sh\nexec /usr/lib/systemd/systemd\n",
    )
}

/// A copy of the base for one boot.
pub(super) fn clone_base(base: &Path, tree: &Path) -> Result<()> {
    let shell = workspace::shell()?;
    cmd!(shell, "cp -a --reflink=auto {base} {tree}")
        .quiet()
        .run()
        .context("copying the guest's Debian")
}

/// Programs of ours where packages put them, and what `deploy/systemd` installs.
fn installed() -> Result<Vec<(PathBuf, PathBuf)>> {
    let mut files = Vec::new();
    for binary in product_binaries()? {
        let name = binary.file_name().context("a program without a name")?.to_owned();
        files.push((binary, Path::new(BIN).join(name)));
    }
    let units = workspace::root().join("deploy/systemd");
    let shell = workspace::shell()?;
    let listed = cmd!(shell, "git ls-files -co --exclude-standard -- deploy/systemd")
        .quiet()
        .read()
        .context("listing units")?;
    for path in listed.lines().map(|line| workspace::root().join(line)) {
        let below = path
            .strip_prefix(&units)
            .context("a unit outside deploy/systemd")?;
        let guest = Path::new("/etc/systemd/system").join(below);
        files.push((path, guest));
    }
    Ok(files)
}

/// Runs the suite.
pub(crate) fn run_suite() -> Result<Counts> {
    run_some(&[], &[], None)
}

/// Runs the suite, or these commands in its place.
pub(super) fn run_some(commands: &[String], more: &[PathBuf], filter: Option<&str>) -> Result<Counts> {
    let mut files = installed()?;
    for path in more {
        let name = path.file_name().context("a file without a name")?;
        files.push((path.clone(), Path::new(BIN).join(name)));
    }
    let mut steps: Vec<Step> = commands
        .iter()
        .map(|command| Step::new("command", command, 600))
        .collect();
    if steps.is_empty() {
        let binary = workspace::test_binary(SYSTEMD_SUITE.package, SYSTEMD_SUITE.test)?;
        files.push((binary, TEST.into()));
        let filter = quoted(filter.unwrap_or_default());
        let command =
            format!("cd /tmp && export FFRTMP_BIN_DIR={BIN} && exec {TEST} --test-threads=1 {filter}");
        steps.push(Step::new(
            SYSTEMD_SUITE.test,
            &command,
            SYSTEMD_SUITE.vm_limit_sec,
        ));
    }
    let base = base()?;
    let output = run(SERIES, Root::Debian(&base), &files, &steps)?;
    let mut counts = count(&output);
    if !commands.is_empty() && output.passed() {
        counts += Counts::one(true);
    }
    Ok(counts)
}
