//! Reads of /proc: what rules and adoption need to know of a process.
//!
//! Every figure that could not be read is `None`. A process that ended, or whose pid passed to another one between two
//! reads, is an error, never a mixture of both. Nothing here watches or repeats: the kernel's events say when to read.

use std::path::{Path, PathBuf};

use ffrtmp_abi::ProcessKey;
use nix::unistd::{Uid, User};
use procfs::process::{Stat, StatFlags};
use procfs::{FromRead, ProcessCGroups};

use super::process::{Pinned, ProcessError, read_stat, same_start, tick_ns};
use super::{container, file};
use crate::core::facts::{Found, ProcessFacts};
use crate::core::rule::Needs;

/// Bytes of a command name the kernel keeps (`TASK_COMM_LEN` without the NUL).
const COMM_MAX: usize = 15;

/// Everything known of a live process. Its `started_ns` has the precision of a clock tick, as has its key.
///
/// A process in the middle of its exec may still show its old name; the exec event that follows tells the new one.
pub fn read_facts(pid: u32, found: Found, needs: Needs) -> Result<ProcessFacts, ProcessError> {
    let stat = read_stat(pid)?;
    let argv = read_cmdline(pid);
    let exe = read_exe(pid);
    let mut facts = ProcessFacts {
        key: ProcessKey::new(pid, stat.starttime * tick_ns()),
        found,
        started_ns: stat.starttime * tick_ns(),
        ppid: stat.ppid.cast_unsigned(),
        uid: read_uid(pid)?,
        user: None,
        basename: basename(&stat.comm, argv.as_deref(), exe.as_deref()),
        filename: exe.map_or_else(|| stat.comm.clone(), |exe| exe.display().to_string()),
        argv,
        parent: None,
        cwd: None,
        cgroup: None,
        container: None,
    };
    complete(&mut facts, needs)?;
    Ok(facts)
}

/// Adds to facts that came from the kernel what only /proc has: group, container, user, and what `needs` names. Gives the
/// list of its groups.
///
/// Fails, leaving the facts as they were, when the process has ended or its pid belongs to another one.
pub fn complete(facts: &mut ProcessFacts, needs: Needs) -> Result<Option<ProcessCGroups>, ProcessError> {
    let pid = facts.key.pid;
    let groups = read_cgroups(pid).ok();
    let container = container::of(pid, groups.as_ref(), needs.namespaces);
    let cwd = needs
        .cwd
        .then(|| std::fs::read_link(format!("/proc/{pid}/cwd")).ok())
        .flatten();
    let parent = needs.parent.then(|| read_comm(facts.ppid)).flatten();
    // What was read belongs to the key only if the pid still does.
    check_start(facts.key)?;
    facts.container = container;
    facts.cgroup = groups.as_ref().and_then(main_group);
    facts.cwd = cwd.or_else(|| facts.cwd.take());
    facts.parent = parent.or_else(|| facts.parent.take());
    if facts.user.is_none() {
        facts.user = user_name(facts.uid);
    }
    Ok(groups)
}

/// Fails unless the process of this key exists (it may be a zombie).
pub fn check_start(key: ProcessKey) -> Result<(), ProcessError> {
    let found = read_stat(key.pid)?.starttime;
    if same_start(key, found) {
        Ok(())
    } else {
        Err(ProcessError::Replaced {
            pid: key.pid,
            asked: key.start / tick_ns(),
            found,
        })
    }
}

/// One pass over the machine: every process that is no kernel thread and no zombie. Those that end meanwhile are left out.
pub fn all_processes(needs: Needs) -> Vec<ProcessFacts> {
    pids()
        .into_iter()
        .filter(|&pid| read_stat(pid).is_ok_and(|stat| !is_kernel_thread(&stat) && stat.state != 'Z'))
        .filter_map(|pid| read_facts(pid, Found::Adopted, needs).ok())
        .collect()
}

/// Every pid there is now, ascending.
pub fn pids() -> Vec<u32> {
    let mut pids: Vec<u32> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    pids
}

/// True for a thread of the kernel itself, which nobody may govern.
pub fn is_kernel_thread(stat: &Stat) -> bool {
    StatFlags::from_bits_truncate(stat.flags).contains(StatFlags::PF_KTHREAD)
}

/// Children, grandchildren and so on, alive now. For tiers and tools without the kernel's own list.
///
/// Reads /proc/PID/task/TID/children where the kernel has it (`CONFIG_PROC_CHILDREN`), else every process's parent.
pub fn descendants(pid: u32) -> Vec<ProcessKey> {
    let found = if Path::new("/proc/self/task")
        .join(std::process::id().to_string())
        .join("children")
        .exists()
    {
        descendants_by_children(pid)
    } else {
        descendants_by_parents(pid)
    };
    found
        .into_iter()
        .filter_map(|pid| Some(ProcessKey::new(pid, read_stat(pid).ok()?.starttime * tick_ns())))
        .collect()
}

fn descendants_by_children(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut open = vec![pid];
    while let Some(pid) = open.pop() {
        for task in std::fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let text = file::read(&task.path().join("children")).unwrap_or_default();
            for child in text.split_whitespace().filter_map(|word| word.parse().ok()) {
                if !found.contains(&child) {
                    found.push(child);
                    open.push(child);
                }
            }
        }
    }
    found
}

fn descendants_by_parents(pid: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = pids()
        .into_iter()
        .filter_map(|child| Some((child, read_stat(child).ok()?.ppid.cast_unsigned())))
        .collect();
    let mut found: Vec<u32> = Vec::new();
    let mut open = vec![pid];
    while let Some(parent) = open.pop() {
        for &(child, _) in parents
            .iter()
            .filter(|(child, of)| *of == parent && *child != pid)
        {
            if !found.contains(&child) {
                found.push(child);
                open.push(child);
            }
        }
    }
    found
}

/// Arguments, the program's name first. `None` for a kernel thread, a zombie, or a process that ended.
pub fn read_cmdline(pid: u32) -> Option<Vec<String>> {
    let text = file::read(format!("/proc/{pid}/cmdline").as_ref()).ok()?;
    let args: Vec<String> = text
        .strip_suffix('\0')
        .unwrap_or(&text)
        .split('\0')
        .map(str::to_owned)
        .collect();
    (!text.is_empty()).then_some(args)
}

/// Name of the process, at most 15 characters.
pub fn read_comm(pid: u32) -> Option<String> {
    let text = file::read(format!("/proc/{pid}/comm").as_ref()).ok()?;
    Some(text.trim_end_matches('\n').to_owned())
}

/// The executable, links resolved; the kernel's mark of a deleted file taken off.
pub fn read_exe(pid: u32) -> Option<PathBuf> {
    let exe = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    match exe.to_str().and_then(|text| text.strip_suffix(" (deleted)")) {
        Some(path) => Some(path.into()),
        None => Some(exe),
    }
}

/// The process's groups, one for each hierarchy.
pub fn read_cgroups(pid: u32) -> Result<ProcessCGroups, ProcessError> {
    let text =
        file::read(format!("/proc/{pid}/cgroup").as_ref()).map_err(|error| ProcessError::read(pid, error))?;
    ProcessCGroups::from_read(text.as_bytes()).map_err(|_| ProcessError::Parse { pid, file: "cgroup" })
}

/// The groups of a pinned process.
pub fn listed_of(process: &Pinned) -> Result<ProcessCGroups, ProcessError> {
    let listed = read_cgroups(process.pid())?;
    process.check()?;
    Ok(listed)
}

/// The v2 group, or where that is the root, the first v1 group that is not.
pub(crate) fn main_group(groups: &ProcessCGroups) -> Option<String> {
    let v2 = groups.0.iter().find(|group| group.hierarchy == 0);
    v2.filter(|group| group.pathname != "/")
        .or_else(|| groups.0.iter().find(|group| group.pathname != "/"))
        .or(v2)
        .or(groups.0.first())
        .map(|group| group.pathname.clone())
}

/// Real user of a process.
pub(crate) fn read_uid(pid: u32) -> Result<u32, ProcessError> {
    let text =
        file::read(format!("/proc/{pid}/status").as_ref()).map_err(|error| ProcessError::read(pid, error))?;
    text.lines()
        .find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next()?.parse().ok())
        .ok_or(ProcessError::Parse { pid, file: "status" })
}

/// Name of a user, where the machine knows one.
pub fn user_name(uid: u32) -> Option<String> {
    User::from_uid(Uid::from_raw(uid))
        .ok()
        .flatten()
        .map(|user| user.name)
}

/// The name a program was started by, as nearly as /proc still tells.
///
/// `comm` is the typed name cut to 15 characters, unless the program renamed itself. The whole name is the one of
/// argv[0], the script in argv[1], or the executable, whichever agrees with it.
fn basename(comm: &str, argv: Option<&[String]>, exe: Option<&Path>) -> String {
    let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let exe = exe.map(|exe| last(&exe.to_string_lossy()));
    let typed = argv.unwrap_or_default().iter().take(2).map(|arg| last(arg));
    typed
        .chain(exe.clone())
        .find(|name| !name.is_empty() && cut(name) == comm)
        .or(exe)
        .unwrap_or_else(|| comm.to_owned())
}

/// The first 15 bytes, never half a character.
fn cut(name: &str) -> &str {
    let mut end = name.len().min(COMM_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_typed_name_is_found_again() {
        for (comm, argv, exe, name) in [
            (
                "ffmpeg",
                &["/usr/bin/ffmpeg", "-i"][..],
                Some("/usr/bin/ffmpeg-6.1"),
                "ffmpeg",
            ),
            (
                "a-very-long-nam",
                &["a-very-long-name-of-a-tool"],
                Some("/bin/busybox"),
                "a-very-long-name-of-a-tool",
            ),
            (
                "ffmpeg",
                &["/bin/sh", "./ffmpeg", "x"],
                Some("/usr/bin/dash"),
                "ffmpeg",
            ),
            (
                "renamed",
                &["worker: idle"],
                Some("/usr/bin/gst-launch-1.0"),
                "gst-launch-1.0",
            ),
            (
                "gst-launch-1.0",
                &["gst"],
                Some("/usr/bin/gst-launch-1.0"),
                "gst-launch-1.0",
            ),
            ("kworker/0:1", &[], None, "kworker/0:1"),
        ] {
            let argv: Vec<String> = argv.iter().map(|&arg| arg.to_owned()).collect();
            assert_eq!(basename(comm, Some(&argv), exe.map(Path::new)), name);
        }
        assert_eq!(cut("fünfzehn-zeichen-ü"), "fünfzehn-zeich");
    }

    #[test]
    fn the_v2_group_is_the_main_one_unless_it_is_the_root() {
        for (text, main) in [
            ("4:memory:/m\n1:cpu:/\n0::/u\n", Some("/u")),
            ("9:name=systemd:/\n4:memory:/m\n1:cpu:/\n0::/\n", Some("/m")),
            ("1:cpu:/\n0::/\n", Some("/")),
            (
                "0::/system.slice/a b.service\n",
                Some("/system.slice/a b.service"),
            ),
            ("", None),
        ] {
            let groups = ProcessCGroups::from_read(text.as_bytes()).unwrap();
            assert_eq!(main_group(&groups).as_deref(), main, "{text:?}");
        }
    }

    #[test]
    fn facts_of_a_live_process_are_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new("sleep")
            .arg("60")
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        // A parent goes on a little before the kernel has renamed its exec'ing child.
        let renamed =
            || read_comm(child.id()).as_deref() == Some("sleep") && read_cmdline(child.id()).is_some();
        while !renamed() {
            std::thread::yield_now();
        }
        let needs = Needs {
            parent: true,
            cwd: true,
            namespaces: true,
        };
        let facts = read_facts(child.id(), Found::Attach, needs).unwrap();
        assert_eq!(facts.basename, "sleep");
        assert_eq!(
            facts.argv.as_deref(),
            Some(&["sleep".to_owned(), "60".to_owned()][..])
        );
        assert_eq!(facts.ppid, std::process::id());
        assert_eq!(facts.parent, read_comm(std::process::id()));
        assert_eq!(facts.uid, nix::unistd::getuid().as_raw());
        assert_eq!(
            facts.cwd.as_deref().map(|cwd| cwd.canonicalize().unwrap()),
            Some(dir.path().canonicalize().unwrap())
        );
        assert!(facts.cgroup.is_some());
        assert!(descendants(std::process::id()).contains(&facts.key));
        assert!(
            all_processes(Needs::default())
                .iter()
                .any(|one| one.key == facts.key)
        );

        let mut stranger = facts.clone();
        stranger.key.start += tick_ns();
        assert!(complete(&mut stranger, needs).unwrap_err().is_gone());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(
            read_facts(child.id(), Found::Attach, needs)
                .unwrap_err()
                .is_gone()
        );
    }

    #[test]
    fn grandchildren_are_found_both_ways() {
        let mut child = Command::new("sh")
            .args(["-c", "sleep 60 & echo $!; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(
            &mut std::io::BufReader::new(child.stdout.take().unwrap()),
            &mut line,
        )
        .unwrap();
        let grandchild: u32 = line.trim().parse().unwrap();
        let found = descendants_by_parents(std::process::id());
        assert!(found.contains(&child.id()) && found.contains(&grandchild));
        assert!(!found.contains(&std::process::id()));
        if Path::new("/proc/self/task")
            .join(std::process::id().to_string())
            .join("children")
            .exists()
        {
            let found = descendants_by_children(std::process::id());
            assert!(found.contains(&child.id()) && found.contains(&grandchild));
        }
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(grandchild.cast_signed()),
            nix::sys::signal::Signal::SIGKILL,
        )
        .unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn kernel_threads_are_told_from_processes() {
        assert!(!is_kernel_thread(&read_stat(std::process::id()).unwrap()));
        // Pid 2 is kthreadd wherever the pid namespace is the machine's own.
        if read_comm(2).as_deref() == Some("kthreadd") {
            assert!(is_kernel_thread(&read_stat(2).unwrap()));
            assert_eq!(read_cmdline(2), None);
            assert!(all_processes(Needs::default()).iter().all(|one| one.key.pid != 2));
        }
    }
}
