//! The guest's files: a tree of host programs with every library they need, packed as an ext4 disk, and the small
//! first file system that mounts it.
//!
//! Files are copied, never linked, so that no write here can reach a file of the host.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use xshell::cmd;

use super::Step;
use super::kernel::Kernel;
use crate::{package, workspace};

/// Modules the guest loads: its disk, randomness, BFQ, without which no IO weight can act, and disks of a test's own.
const MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    "virtio_rng",
    "ext4",
    "bfq",
    "loop",
    "overlay",
];

/// Host packages whose programs the guest gets. The real ones and not busybox's applets: a test that execs `sleep`
/// must see an exec of a file named `sleep`.
const PROGRAM_PACKAGES: &[&str] = &[
    "bash",
    "coreutils",
    "dash",
    "e2fsprogs",
    "findutils",
    "grep",
    "mount",
    "procps",
    "sed",
    "util-linux",
];

/// Single programs of the host.
const PROGRAMS: &[&str] = &[
    "/bin/busybox",
    "/usr/bin/ffmpeg",
    "/usr/bin/ffprobe",
    "/usr/bin/gst-launch-1.0",
    "/usr/sbin/nginx",
    "/usr/lib/nginx/modules/ngx_rtmp_module.so",
    "/usr/lib/x86_64-linux-gnu/gstreamer1.0/gstreamer-1.0/gst-plugin-scanner",
];

/// GStreamer plugins that a test pipeline needs; each one more costs the guest's first start time.
const PLUGINS: &[&str] = &[
    "coreelements",
    "videotestsrc",
    "videoconvertscale",
    "jpeg",
    "theora",
    "vpx",
    "ogg",
];

/// Programs that a guest with a Debian of its own gets from the host.
const DEBIAN_PROGRAMS: &[&str] = &["/bin/busybox", "/usr/bin/ffmpeg"];

/// Users and groups of the guest. `media` is the unprivileged one.
const PASSWD: &str =
    "root:x:0:0:root:/root:/bin/bash\nmedia:x:1000:1000::/tmp:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n";
const GROUP: &str = "root:x:0:\nffrtmp:x:900:\nmedia:x:1000:\nnogroup:x:65534:\n";

/// Size of the disk beyond its content, in MiB: what tests may write.
const SPARE_MIB: u64 = 512;

/// What a guest's root file system begins as.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Root<'a> {
    /// Programs of the host and nothing else; the steps' runner is the first process.
    Bare,
    /// A copy of this Debian tree, which boots on its own and runs the steps as a service.
    Debian(&'a Path),
}

/// Makes the disk in this directory: the guest's programs, the given (host, guest) files with their libraries, and the steps.
pub(crate) fn disk(
    directory: &Path,
    root: Root<'_>,
    files: &[(PathBuf, PathBuf)],
    steps: &[Step],
) -> Result<PathBuf> {
    let tree = directory.join("root");
    if tree.exists() {
        fs::remove_dir_all(&tree).context("removing the last guest's tree")?;
    }
    let programs = match root {
        Root::Bare => {
            skeleton(&tree)?;
            programs()?
        }
        Root::Debian(base) => {
            super::systemd::clone_base(base, &tree)?;
            DEBIAN_PROGRAMS.iter().map(PathBuf::from).collect()
        }
    };
    executable(&tree.join("vm/steps.sh"), include_str!("steps.sh"))?;
    let sources: Vec<&Path> = programs
        .iter()
        .map(PathBuf::as_path)
        .chain(files.iter().map(|(host, _)| host.as_path()))
        .collect();
    for path in programs.iter().cloned().chain(libraries(&sources)?) {
        copy(&path, &inside(&tree, &path))?;
    }
    for (host, guest) in files {
        copy(host, &inside(&tree, guest))?;
    }
    write_steps(&tree, steps)?;
    pack(&tree, &directory.join("disk.ext4"))
}

fn inside(tree: &Path, path: &Path) -> PathBuf {
    tree.join(path.strip_prefix("/").unwrap_or(path))
}

fn skeleton(tree: &Path) -> Result<()> {
    for directory in [
        "usr/bin",
        "usr/sbin",
        "usr/lib",
        "usr/lib64",
        "proc",
        "sys",
        "dev",
        "tmp",
        "run",
        "root",
        "etc",
        "var/lib",
        "vm/steps",
    ] {
        fs::create_dir_all(tree.join(directory))
            .with_context(|| format!("creating the guest's /{directory}"))?;
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        symlink(format!("usr/{name}"), tree.join(name))
            .with_context(|| format!("linking the guest's /{name}"))?;
    }
    write(&tree.join("etc/passwd"), PASSWD)?;
    write(&tree.join("etc/group"), GROUP)?;
    write(&tree.join("etc/hosts"), "127.0.0.1 localhost\n")?;
    symlink("steps.sh", tree.join("vm/init")).context("linking the guest's init")
}

fn write_steps(tree: &Path, steps: &[Step]) -> Result<()> {
    for (number, step) in steps.iter().enumerate() {
        let directory = tree.join("vm/steps").join(format!("{number:02}-{}", step.name));
        fs::create_dir_all(&directory).with_context(|| format!("creating step {}", step.name))?;
        write(&directory.join("run"), &step.command)?;
        write(&directory.join("limit"), &format!("{}\n", step.limit.as_secs()))?;
    }
    Ok(())
}

/// Programs of the host that go to the same place in the guest.
fn programs() -> Result<Vec<PathBuf>> {
    let shell = workspace::shell()?;
    let listed = cmd!(shell, "dpkg -L {PROGRAM_PACKAGES...}")
        .quiet()
        .read()
        .context("listing programs")?;
    let mut programs: BTreeSet<PathBuf> = listed
        .lines()
        .filter(|line| {
            ["/bin/", "/sbin/", "/usr/bin/", "/usr/sbin/"]
                .iter()
                .any(|at| line.starts_with(at))
        })
        .map(PathBuf::from)
        .filter(|path| path.is_file())
        .collect();
    programs.insert("/bin/sh".into());
    for path in PROGRAMS.iter().map(PathBuf::from) {
        if !path.exists() {
            bail!(
                "{} is missing; `cargo xtask test` installs what the guest needs",
                path.display()
            );
        }
        programs.insert(path);
    }
    for plugin in PLUGINS {
        programs.insert(package::gstreamer_plugins().join(format!("libgst{plugin}.so")));
    }
    Ok(programs.into_iter().collect())
}

/// Every shared library the given files need, the loader included.
fn libraries(files: &[&Path]) -> Result<BTreeSet<PathBuf>> {
    let shell = workspace::shell()?;
    // ldd fails as a whole when one file is static or a script; what it found for the others still counts.
    let text = cmd!(shell, "ldd {files...}")
        .ignore_status()
        .quiet()
        .ignore_stderr()
        .read()
        .context("running ldd")?;
    parse_ldd(&text)
}

fn parse_ldd(text: &str) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for line in text.lines().map(str::trim) {
        if line.ends_with("=> not found") {
            bail!("ldd: {line}");
        }
        let path = line.split_once(" => ").map_or(line, |(_, path)| path);
        if let Some((path, _address)) = path.split_once(" (0x")
            && path.starts_with('/')
        {
            found.insert(PathBuf::from(path));
        }
    }
    Ok(found)
}

fn pack(tree: &Path, disk: &Path) -> Result<PathBuf> {
    let shell = workspace::shell()?;
    let used = cmd!(shell, "du -sm {tree}")
        .quiet()
        .read()
        .context("measuring the guest's tree")?;
    let used: u64 = used
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .context("reading du")?;
    let size = format!("{}M", used + used / 8 + SPARE_MIB);
    shell.remove_path(disk)?;
    // No journal and no lazy initialisation: the disk lives for one boot.
    cmd!(shell, "mke2fs -q -F -t ext4 -O ^has_journal -E root_owner=0:0,lazy_itable_init=0,nodiscard -d {tree} {disk} {size}")
        .env("PATH", sbin_path())
    .ignore_stdout()
        .quiet()
        .run()
        .context("packing the guest's disk")?;
    fs::remove_dir_all(tree).context("removing the guest's tree")?;
    Ok(disk.to_owned())
}

/// Makes the first file system for one kernel: busybox, modules and the script that mounts the disk.
pub(crate) fn first_file_system(directory: &Path, kernel: &Kernel) -> Result<PathBuf> {
    let shell = workspace::shell()?;
    let tree = directory.join("initrd");
    shell.remove_path(&tree)?;
    fs::create_dir_all(tree.join("modules")).context("creating the initrd's tree")?;
    copy(Path::new("/bin/busybox"), &tree.join("bin/busybox"))?;
    executable(&tree.join("init"), include_str!("init.sh"))?;
    let mut order = String::new();
    for path in kernel.modules(MODULES)? {
        let file = path
            .file_name()
            .and_then(|name| name.to_str())
            .context("a module without a name")?;
        let to = tree.join("modules").join(file);
        copy(&path, &to)?;
        let unpacked = file.strip_suffix(".xz");
        if unpacked.is_some() {
            cmd!(shell, "xz -d {to}")
                .quiet()
                .run()
                .with_context(|| format!("unpacking {file}"))?;
        }
        order.push_str(unpacked.unwrap_or(file));
        order.push('\n');
    }
    write(&tree.join("modules/order"), &order)?;
    let archive = directory.join(format!("initrd-{}.cpio", kernel.release));
    let _here = shell.push_dir(&tree);
    let list = cmd!(shell, "find . -mindepth 1")
        .quiet()
        .read()
        .context("listing the initrd")?;
    let bytes = cmd!(shell, "cpio --quiet -o -H newc -R 0:0")
        .stdin(list)
        .quiet()
        .output()
        .context("packing the initrd")?;
    fs::write(&archive, bytes.stdout).with_context(|| format!("writing {}", archive.display()))?;
    Ok(archive)
}

fn sbin_path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
    }
    // A Debian tree has absolute links; writing through one would reach a file of the host.
    if to.is_symlink() {
        fs::remove_file(to).with_context(|| format!("removing the link {}", to.display()))?;
    }
    fs::copy(from, to).with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
    Ok(())
}

pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

pub(super) fn executable(path: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("making {} executable", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ldd_is_read_with_the_loader_and_without_the_vdso() {
        let text = "/usr/bin/a:\n\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/libc.so.6 (0x00007f1)\n\t\
                    /lib64/ld-linux-x86-64.so.2 (0x00007f2)\n/usr/bin/b:\n\tnot a dynamic executable\n";
        let found: Vec<_> = parse_ldd(text).unwrap().into_iter().collect();
        assert_eq!(
            found,
            [
                PathBuf::from("/lib/libc.so.6"),
                PathBuf::from("/lib64/ld-linux-x86-64.so.2")
            ]
        );
    }

    #[test]
    fn a_missing_library_is_an_error_with_its_name() {
        let error = parse_ldd("\tlibmissing.so.1 => not found\n").unwrap_err();
        assert!(error.to_string().contains("libmissing.so.1"));
    }
}
