//! The governor of one test.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ffrtmp_api::Report;
use ffrtmp_governor::control::types::JobView;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::eventually;
use crate::workload::{Workload, unique_name};

/// Worlds share the machine's control groups and its two CPUs, so there is one at a time.
static STAGE: Mutex<()> = Mutex::new(());

/// Path of a program of this repository.
pub fn bin(name: &str) -> PathBuf {
    if let Some(dir) = std::env::var_os("FFRTMP_BIN_DIR") {
        return PathBuf::from(dir).join(name);
    }
    let test = std::env::current_exe().expect("own path");
    // target/debug/deps/node-HASH -> target/debug
    let dir = test.parent().and_then(Path::parent).expect("target directory");
    let path = dir.join(name);
    assert!(
        path.exists(),
        "{} is not built; `cargo build --workspace` first",
        path.display()
    );
    path
}

/// How the governor of a world is configured.
#[derive(Debug, Default)]
pub struct Options {
    /// Whether the kernel's side outlives the governor, on a bpffs in the world's directory.
    pub pinned: bool,
    /// More lines of the configuration file, after the rules.
    pub config: String,
    /// More arguments of the daemon.
    pub args: Vec<String>,
    /// What the daemon is started by, for instance `unshare -n`; it must end in an exec.
    pub launcher: Vec<String>,
    /// Action lines of the rule for the world's workload, for instance `limits: {cpu_quota: 50}`.
    pub rule: String,
}

/// A running governor with one rule, for workloads of the world's own name.
#[derive(Debug)]
pub struct World {
    dir: tempfile::TempDir,
    daemon: Option<Child>,
    args: Vec<String>,
    launcher: Vec<String>,
    /// Whether a start forgets the crashes before it, as a test that kills its governor on purpose needs it.
    pub forgives: bool,
    _stage: MutexGuard<'static, ()>,
    /// The workload its rule knows.
    pub workload: Workload,
    /// Its basename.
    pub name: String,
}

impl World {
    /// A governor with one plain rule.
    pub fn new() -> Self {
        Self::with(Options::default())
    }

    /// A governor with one rule and more.
    pub fn with(options: Options) -> Self {
        let world = Self::idle(options);
        world.started()
    }

    /// A world whose governor does not run yet.
    pub fn idle(options: Options) -> Self {
        // A test that failed leaves a world that was cleaned up all the same.
        let stage = STAGE.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = tempfile::Builder::new()
            .prefix("ffrtmp-test-")
            .tempdir()
            .expect("directory");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.path(), mode).expect("permissions");
        let name = unique_name("ffmpeg");
        let workload = Workload::new(dir.path(), &name);
        let config = format!(
            "pins: {}\nrules:\n  - name: the-test\n    commands: [{name}]\n{}\n{}\n",
            if options.pinned {
                dir.path().join("bpf").display().to_string()
            } else {
                "off".to_owned()
            },
            indent(&options.rule),
            options.config
        );
        std::fs::write(dir.path().join("governor.yaml"), config).expect("config");
        Self {
            dir,
            daemon: None,
            args: options.args,
            launcher: options.launcher,
            forgives: true,
            _stage: stage,
            workload,
            name,
        }
    }

    /// Starts the governor and waits until it answers.
    #[must_use]
    pub fn started(mut self) -> Self {
        self.start();
        self
    }

    /// Starts the governor and waits until it answers.
    pub fn start(&mut self) {
        if self.forgives {
            let _absent = std::fs::remove_file(self.path("governor.starts"));
        }
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("governor.log"))
            .expect("log");
        let mut words: Vec<_> = self.launcher.iter().map(Into::into).collect();
        words.push(bin("ffrtmp-governor").into_os_string());
        let child = Command::new(&words[0])
            .args(&words[1..])
            .arg("--config")
            .arg(self.path("governor.yaml"))
            .arg("--socket")
            .arg(self.socket())
            .arg("--ledger")
            .arg(self.path("governor.db"))
            .args(["--metrics", "127.0.0.1:0"])
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .spawn()
            .expect("start the governor");
        self.daemon = Some(child);
        eventually("the governor to answer", || {
            let ended = self
                .daemon
                .as_mut()
                .and_then(|child| child.try_wait().ok().flatten());
            assert!(ended.is_none(), "the governor ended: {}", self.log());
            std::os::unix::net::UnixStream::connect(self.socket()).ok()
        });
    }

    /// Ends the governor with a signal and waits for it.
    pub fn stop(&mut self, signal: Signal) {
        if let Some(mut child) = self.daemon.take() {
            let _gone = kill(Pid::from_raw(child.id().cast_signed()), signal);
            child.wait().expect("wait for the governor");
        }
    }

    /// Sends the governor a signal and does not wait.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.governor_pid().cast_signed()), signal).expect("a running governor");
    }

    /// Runs `ffrtmp-governor --cleanup` on this world.
    pub fn cleanup(&self) -> Output {
        Command::new(bin("ffrtmp-governor"))
            .arg("--cleanup")
            .arg("--config")
            .arg(self.path("governor.yaml"))
            .arg("--socket")
            .arg(self.socket())
            .arg("--ledger")
            .arg(self.path("governor.db"))
            .output()
            .expect("run the cleanup")
    }

    /// Pid of the governor.
    pub fn governor_pid(&self) -> u32 {
        self.daemon.as_ref().expect("a running governor").id()
    }

    /// A file of the world.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.path("governor.sock")
    }

    /// What the governor logged so far.
    pub fn log(&self) -> String {
        let mut text = String::new();
        let file = std::fs::File::open(self.path("governor.log"));
        let _absent = file.and_then(|mut file| file.read_to_string(&mut text));
        text
    }

    /// The command line tool, talking to this world's governor.
    pub fn ffrtmp(&self, args: &[&str]) -> Command {
        let mut command = Command::new(bin("ffrtmp"));
        command
            .env("FFRTMP_SOCKET", self.socket())
            .args(args)
            .stdin(Stdio::null());
        command
    }

    /// Runs the command line tool to its end.
    pub fn output(&self, args: &[&str]) -> Output {
        self.ffrtmp(args).output().expect("run ffrtmp")
    }

    /// Every job the governor knows.
    pub fn jobs(&self) -> Vec<JobView> {
        jobs_of(&self.output(&["ps", "--all", "--output", "json"]))
    }

    /// The job of a process, once its record is closed.
    pub fn closed(&self, pid: u32) -> JobView {
        eventually(
            &format!("the record of {pid} to close; log: {}", self.log()),
            || {
                self.jobs()
                    .into_iter()
                    .find(|job| job.report.pid == pid && job.state == "closed")
            },
        )
    }

    /// The job of a live process, once it is judged.
    pub fn job(&self, pid: u32) -> JobView {
        eventually(&format!("a job of process {pid}; log: {}", self.log()), || {
            self.jobs()
                .into_iter()
                .find(|job| job.report.pid == pid && job.state != "placing")
        })
    }

    /// The workload doing these steps from the moment the governor has placed it: an emulated machine may be late by seconds.
    pub fn spawn_placed(&self, steps: &[&str]) -> Child {
        let mut child = self
            .workload
            .command(&[&["read-stdin", "1"], steps].concat())
            .stdin(Stdio::piped())
            .spawn()
            .expect("start the target");
        self.job(child.id());
        drop(child.stdin.take());
        child
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of the governor\n{}", self.log());
        }
        self.stop(Signal::SIGTERM);
        let bpffs = self.path("bpf");
        if bpffs.exists() {
            // The pins and their programs go with it.
            let _not_mounted = nix::mount::umount2(&bpffs, nix::mount::MntFlags::MNT_DETACH);
        }
    }
}

/// The jobs in the output of `ffrtmp ps --output json`.
pub fn jobs_of(output: &Output) -> Vec<JobView> {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!(
            "no job list ({error}): {text}\n{}",
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

/// The report in the output of `ffrtmp run --json` or `attach --json`.
pub fn report_of(output: &Output) -> Report {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!(
            "no report ({error}): {}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

fn indent(lines: &str) -> String {
    lines.lines().flat_map(|line| ["    ", line, "\n"]).collect()
}
