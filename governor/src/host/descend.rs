//! Descendants by their parents in /proc, for callers without the kernel's programs.
//!
//! A child whose parent ended belongs to somebody else by then and is not found; the kernel's maps have no such gap.

use std::collections::BTreeSet;

use ffrtmp_abi::ProcessKey;

use super::process::{owners, read_stat, tick_ns};

/// Processes below this one that run as the same user, by their parents in /proc.
pub fn descendants(root: ProcessKey) -> Vec<ProcessKey> {
    let Some(own) = owners(root) else {
        return Vec::new();
    };
    let all: Vec<(u32, u32, u64)> = procfs::process::all_processes()
        .into_iter()
        .flatten()
        .filter_map(|process| {
            let stat = read_stat(process.ok()?.pid.cast_unsigned()).ok()?;
            let pid = stat.pid.cast_unsigned();
            Some((pid, stat.ppid.cast_unsigned(), stat.starttime))
        })
        .collect();
    let mut inside = BTreeSet::from([root.pid]);
    let mut found = Vec::new();
    loop {
        let before = found.len();
        for (pid, parent, start) in &all {
            if inside.contains(parent) && inside.insert(*pid) {
                let key = ProcessKey::new(*pid, start * tick_ns());
                if owners(key) == Some(own) {
                    found.push(key);
                }
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::host::process::Pinned;

    #[test]
    fn a_grandchild_is_found_and_a_stranger_is_not() {
        let mut shell = Command::new("sh")
            .args(["-c", "sh -c 'sleep 30 & echo $!; wait'"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = shell.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
        let sleeper: u32 = line.trim().parse().unwrap();
        let root = Pinned::of_pid(shell.id()).unwrap().key();
        let found = descendants(root);
        assert!(found.iter().any(|key| key.pid == sleeper), "{found:?}");
        assert!(
            found
                .iter()
                .all(|key| key.pid != root.pid && key.pid != std::process::id())
        );
        for key in &found {
            let _ended = Pinned::open(*key).and_then(|process| process.signal(libc::SIGKILL));
        }
        shell.kill().unwrap();
        shell.wait().unwrap();
    }
}
