//! Control groups on the real kernel, proved by effect rather than by what files say.
//!
//! Needs root, `sh` and `sleep` (busybox will do), /proc, /sys and at least one mounted cgroup hierarchy with the cpu and
//! memory controllers: v2, v1 or hybrid. A missing fact fails the test and names it. Every test works below a slice of
//! its own in the group this process is in, ends only what it started, and leaves no group behind.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking, its helpers included"
)]

mod bases;
mod limits;
mod moves;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ffrtmp_api::Limits;
use ffrtmp_governor::host::cgroup::{CgroupBase, Prepared, Tree, TreeOptions};
use ffrtmp_governor::host::process::Pinned;

/// CPU shares are measured, so only one test runs at a time.
static ALONE: Mutex<()> = Mutex::new(());
static SLICES: AtomicU32 = AtomicU32::new(0);

/// A tree of its own, the processes started in it, and the promise to remove both.
struct Bench {
    tree: Tree,
    children: Vec<Child>,
    slice: String,
    _alone: MutexGuard<'static, ()>,
}

impl Bench {
    fn new() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "these tests need root");
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let number = SLICES.fetch_add(1, Ordering::Relaxed);
        let slice = format!("ffrtmp-test-{}-{number}.slice", std::process::id());
        let options = TreeOptions {
            base: CgroupBase::Auto,
            slice: slice.clone(),
        };
        Self {
            tree: Tree::open(options).expect("a cgroup hierarchy"),
            children: Vec::new(),
            slice,
            _alone: alone,
        }
    }

    fn prepare(&self, limits: &Limits) -> Prepared {
        let prepared = self.tree.prepare("test", "job", limits).unwrap();
        assert_eq!(prepared.warnings, Vec::<String>::new());
        prepared
    }

    /// Starts a shell that waits for a line before it runs `script`.
    fn waiting(&mut self, script: &str) -> Pinned {
        let child = Command::new("sh")
            .arg("-c")
            .arg(format!("read go; {script}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pinned = Pinned::of_pid(child.id()).unwrap();
        self.children.push(child);
        pinned
    }

    fn child(&mut self, process: &Pinned) -> &mut Child {
        let pid = process.pid();
        self.children.iter_mut().find(|child| child.id() == pid).unwrap()
    }

    fn go(&mut self, process: &Pinned) {
        self.child(process)
            .stdin
            .as_mut()
            .unwrap()
            .write_all(b"go\n")
            .unwrap();
    }

    /// Starts `script` inside a group with these limits.
    fn limited(&mut self, script: &str, limits: &Limits) -> (Prepared, Pinned) {
        let prepared = self.prepare(limits);
        let process = self.waiting(script);
        let moved = self.tree.place(&prepared.group, &[], &process, Vec::new).unwrap();
        assert!(moved.refused.is_empty() && moved.warnings.is_empty(), "{moved:?}");
        assert!(self.tree.contains(&prepared.group, &process));
        self.go(&process);
        (prepared, process)
    }

    /// Kills what is in the group, reaps our children, removes the group, and proves that it is gone.
    fn finish(&mut self, prepared: &Prepared) {
        self.tree.signal_all(&prepared.group, libc::SIGKILL).unwrap();
        for child in &mut self.children {
            let _maybe_ended = child.kill();
            child.wait().unwrap();
        }
        eventually("the group is empty", || prepared.group.pids().unwrap().is_empty());
        let retired = self.tree.retire(&prepared.group);
        assert!(retired.left.is_empty(), "{:?}", retired.left);
        for path in prepared.group.paths() {
            assert!(!PathBuf::from(&path).exists(), "{path} is still there");
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _maybe_ended = child.kill();
            let _maybe_reaped = child.wait();
        }
        for left in self.tree.leftovers().unwrap_or_default() {
            let _ended = self.tree.signal_all(&left.group, libc::SIGKILL);
            let _removed = self.tree.retire(&left.group);
        }
        self.tree.cleanup();
        if !std::thread::panicking() {
            for hierarchy in &self.tree.layout().hierarchies {
                let trace = hierarchy.base.join(&self.slice);
                assert!(!trace.exists(), "{} was left behind", trace.display());
            }
        }
    }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_mins(1);
    while !holds() {
        assert!(Instant::now() < end, "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
