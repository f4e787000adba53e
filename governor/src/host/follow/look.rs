//! What /proc shows of a process that an event or a pass named. Keeps nothing.

use std::path::Path;

use ffrtmp_abi::{COMM_LEN, ProcessKey, TaskRow};
use procfs::process::Stat;

use super::super::process::{read_stat, tick_ns};
use super::super::procfs::{is_kernel_thread, pids, read_cmdline, read_exe, read_uid};
use super::book::Image;

/// Identity of a live process, to the precision of a tick.
pub(super) fn key(pid: u32) -> Option<ProcessKey> {
    read_stat(pid).ok().map(|stat| key_of(pid, &stat))
}

pub(super) fn key_of(pid: u32, stat: &Stat) -> ProcessKey {
    ProcessKey::new(pid, stat.starttime * tick_ns())
}

/// True when its last thread has ended, be it reaped or not. A first thread that ended before the others is a zombie as
/// well, but not the only thread.
pub(super) fn has_ended(key: ProcessKey) -> bool {
    match read_stat(key.pid) {
        Ok(stat) => key_of(key.pid, &stat).start / tick_ns() != key.start / tick_ns() || is_over(&stat),
        Err(_) => true,
    }
}

fn is_over(stat: &Stat) -> bool {
    matches!(stat.state, 'Z' | 'X' | 'x') && stat.num_threads <= 1
}

/// The name a program was started by, cut as the kernel cuts it; the one thing read of every exec.
pub(super) fn comm(pid: u32) -> Option<[u8; COMM_LEN]> {
    let text = std::fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(padded(text.strip_suffix(b"\n").unwrap_or(&text)))
}

/// A name as the kernel keeps it.
pub(super) fn padded(name: &[u8]) -> [u8; COMM_LEN] {
    let mut comm = [0; COMM_LEN];
    let len = name.len().min(COMM_LEN - 1);
    comm[..len].copy_from_slice(&name[..len]);
    comm
}

/// A process right after its exec. `None` when it is gone.
pub(super) fn image(pid: u32, at_ns: u64) -> Option<(ProcessKey, Image)> {
    let stat = read_stat(pid).ok()?;
    let argv = read_cmdline(pid).unwrap_or_default();
    let filename = typed(&stat.comm, &argv, read_exe(pid).as_deref());
    let image = Image {
        at_ns,
        ppid: stat.ppid.cast_unsigned(),
        uid: read_uid(pid).ok()?,
        comm: padded(stat.comm.as_bytes()),
        filename,
        argv: argv.into_iter().map(String::into_bytes).collect(),
    };
    Some((key_of(pid, &stat), image))
}

/// The path a program was started by, as nearly as /proc still tells. The name in `comm` is the typed one; the path is
/// the argument or executable that ends in it.
fn typed(comm: &str, argv: &[String], exe: Option<&Path>) -> String {
    let is_it = |path: &&str| padded(last(path).as_bytes()) == padded(comm.as_bytes());
    let exe_text = exe.map(|exe| exe.to_string_lossy().into_owned());
    let argument = argv.iter().take(2).map(String::as_str).find(is_it);
    match (argument, exe_text.as_deref()) {
        (Some(path), _) if path.contains('/') => path.to_owned(),
        (Some(name), Some(exe)) if last(exe) == name => exe.to_owned(),
        (Some(name), _) => beside(exe, name).unwrap_or_else(|| name.to_owned()),
        (None, Some(exe)) if is_it(&exe) => exe.to_owned(),
        (None, _) => comm.to_owned(),
    }
}

/// A link of this name beside the executable it leads to.
fn beside(exe: Option<&Path>, name: &str) -> Option<String> {
    let exe = exe?;
    let link = exe.with_file_name(name);
    (std::fs::canonicalize(&link).ok()? == exe).then(|| link.to_string_lossy().into_owned())
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// Every process there is, in the form of the kernel's iterator; `member` says which belong to a job.
pub(super) fn rows(member: impl Fn(ProcessKey) -> bool) -> Vec<TaskRow> {
    let row = |pid| {
        let stat = read_stat(pid).ok()?;
        if is_over(&stat) {
            return None;
        }
        let key = key_of(pid, &stat);
        Some(TaskRow {
            key,
            ppid: stat.ppid.cast_unsigned(),
            uid: read_uid(pid).ok()?,
            kernel_thread: u32::from(is_kernel_thread(&stat)),
            member: u32::from(member(key)),
            comm: padded(stat.comm.as_bytes()),
        })
    };
    pids().into_iter().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_typed_path_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap().join("ffmpeg-7.1");
        std::fs::write(&real, "").unwrap();
        let link = real.with_file_name("ffmpeg");
        std::os::unix::fs::symlink("ffmpeg-7.1", &link).unwrap();
        let real = real.to_str().unwrap();
        let link = link.to_str().unwrap();
        for (comm, argv, exe, path) in [
            (
                "ffmpeg",
                &["/usr/bin/ffmpeg", "-i"][..],
                Some("/usr/bin/ffmpeg"),
                "/usr/bin/ffmpeg",
            ),
            (
                "ffmpeg",
                &["ffmpeg", "-i"],
                Some("/usr/bin/ffmpeg"),
                "/usr/bin/ffmpeg",
            ),
            ("ffmpeg", &["ffmpeg"], Some(real), link),
            ("ffmpeg", &["ffmpeg"], Some("/opt/other"), "ffmpeg"),
            (
                "ffmpeg",
                &["/bin/sh", "./ffmpeg", "x"],
                Some("/usr/bin/dash"),
                "./ffmpeg",
            ),
            (
                "a-very-long-nam",
                &["a-very-long-name-of-a-tool"],
                Some("/b/x"),
                "a-very-long-name-of-a-tool",
            ),
            (
                "ffmpeg",
                &["stream 7"],
                Some("/usr/bin/ffmpeg"),
                "/usr/bin/ffmpeg",
            ),
            ("ffmpeg", &[], None, "ffmpeg"),
        ] {
            let argv: Vec<String> = argv.iter().map(|&arg| arg.to_owned()).collect();
            assert_eq!(typed(comm, &argv, exe.map(Path::new)), path, "{comm} {argv:?}");
        }
    }

    #[test]
    fn an_end_is_seen_before_the_parent_has_reaped_it() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let key = key(child.id()).unwrap();
        assert!(!has_ended(key));
        assert!(
            rows(|_| false)
                .iter()
                .any(|row| row.key == key && row.kernel_thread == 0)
        );
        assert!(
            has_ended(ProcessKey::new(key.pid, key.start + tick_ns())),
            "another one's pid"
        );
        child.kill().unwrap();
        // A zombie now, because nobody waits for it.
        while !has_ended(key) {
            std::thread::yield_now();
        }
        assert!(rows(|_| false).iter().all(|row| row.key != key));
        child.wait().unwrap();
        assert!(has_ended(key));
    }
}
