//! A place in the cgroup tree that belongs to one test.

use std::path::PathBuf;

use crate::unique_name;

/// A group's name in every hierarchy, for `cgroup: {base: …}`. On v1 memory it lies below the group of this process,
/// where some machines demand it. Dropping it removes what is empty; nothing that holds a process can be removed.
#[derive(Debug)]
pub struct Base {
    name: String,
}

impl Base {
    /// One that nobody has. It is made by whoever uses it first.
    pub fn new() -> Self {
        let own = std::fs::read_to_string("/proc/self/cgroup").expect("own groups");
        let memory = own
            .lines()
            .find_map(|line| line.split_once(":memory:"))
            .map_or("/", |(_, group)| group);
        let name = format!("{}/{}", memory.trim_end_matches('/'), unique_name("ffrtmp-base"));
        Self {
            name: name.trim_start_matches('/').to_owned(),
        }
    }

    /// Path from the root of every hierarchy, without a leading slash.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its directory in each hierarchy that is mounted, whether it exists or not.
    pub fn dirs(&self) -> Vec<PathBuf> {
        hierarchies()
            .into_iter()
            .map(|mount| mount.join(&self.name))
            .collect()
    }
}

impl Default for Base {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        for mount in hierarchies() {
            let dir = mount.join(&self.name);
            remove_tree(&dir);
            // The levels above were made with it; the kernel keeps those that others use.
            for above in dir.ancestors().skip(1).take_while(|above| **above != mount) {
                let _used = std::fs::remove_dir(above);
            }
        }
    }
}

fn remove_tree(dir: &std::path::Path) {
    for below in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if below.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&below.path());
        }
    }
    let _populated = std::fs::remove_dir(dir);
}

/// Where each cgroup hierarchy is mounted.
pub fn hierarchies() -> Vec<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
    mounts
        .lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let kind = *words.get(2)?;
            (kind == "cgroup" || kind == "cgroup2").then(|| PathBuf::from(words[1]))
        })
        .collect()
}
