//! A governor for the demo and the benchmarks: started in a directory of its own with its own socket, ledger and port,
//! and taken down without a trace. It never talks to a governor that was there before.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::Value;

/// How long the governor may take to answer its socket, or to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Exit status of `ffrtmp doctor` where processes are governed and something is off.
const SOMETHING_OFF: i32 = 3;

/// Name of the directory below which the governor keeps its groups.
const SLICE: &str = "ffrtmp.slice";

/// Whether the kernel's side outlives the governor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pins {
    /// No: it ends with the governor.
    Off,
    /// Yes, on a bpffs in the session's directory. The caller is in a mount namespace of its own.
    Own,
}

/// A running governor and its files.
pub(crate) struct Session {
    directory: tempfile::TempDir,
    governor: Child,
    binaries: PathBuf,
    groups_before: Vec<PathBuf>,
    pins: Pins,
}

impl Session {
    /// Starts the governor with the given rules and waits until it answers.
    pub(crate) fn start(binaries: &Path, rules: &str) -> Result<Self> {
        Self::with(binaries, rules, Pins::Off)
    }

    /// The same with pins.
    pub(crate) fn with(binaries: &Path, rules: &str, pins: Pins) -> Result<Self> {
        let mut session = Self::launch(binaries, rules, pins)?;
        session.wait_until_ready()?;
        Ok(session)
    }

    /// Starts the governor with the given rules and does not wait for it.
    fn launch(binaries: &Path, rules: &str, pins: Pins) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("ffrtmp-xtask-")
            .tempdir()
            .context("making a directory")?;
        let path = directory.path();
        let pinned = match pins {
            Pins::Off => "off".to_owned(),
            Pins::Own => path.join("bpf").display().to_string(),
        };
        let config = format!(
            "pins: {pinned}\nlisten: 127.0.0.1:{}\nsocket: {}\nledger: {}\n{rules}",
            free_port()?,
            path.join("governor.sock").display(),
            path.join("governor.db").display(),
        );
        fs::write(path.join("governor.yaml"), config).context("writing the rules")?;
        fs::create_dir(path.join("work")).context("making the jobs' directory")?;
        let groups_before = slices();
        Ok(Self {
            governor: spawn(binaries, path)?,
            directory,
            binaries: binaries.to_owned(),
            groups_before,
            pins,
        })
    }

    /// Ends the governor with a signal, if it runs, and waits for its end. Its files and pins stay.
    pub(crate) fn end(&mut self, signal: Signal) -> Result<()> {
        kill(pid(&self.governor), signal).context("ending the governor")?;
        self.governor.wait().context("waiting for the governor")?;
        Ok(())
    }

    /// Starts the governor again after [`Session::end`] and does not wait for it.
    pub(crate) fn relaunch(&mut self) -> Result<()> {
        self.governor = spawn(&self.binaries, self.directory.path())?;
        Ok(())
    }

    /// Sends the governor a signal that does not end it.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        kill(pid(&self.governor), signal).with_context(|| format!("sending the governor {signal}"))
    }

    /// Path of the governor's program.
    pub(crate) fn program(&self) -> PathBuf {
        self.binaries.join("ffrtmp-governor")
    }

    /// The ledger's file.
    pub(crate) fn ledger(&self) -> PathBuf {
        self.directory.path().join("governor.db")
    }

    /// What the governor says of itself, as `ffrtmp doctor` prints it.
    pub(crate) fn status(&self) -> Result<Value> {
        Ok(self.ask(&["doctor"])?["status"].take())
    }

    /// Where jobs may write.
    pub(crate) fn work(&self) -> PathBuf {
        self.directory.path().join("work")
    }

    /// Waits until the governor answers.
    pub(crate) fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.governor.try_wait().context("looking after the governor")? {
                bail!("the governor ended with {status}; it said:\n{}", self.log());
            }
            match self.jobs() {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    return Err(
                        error.context(format!("the governor does not answer; it said:\n{}", self.log()))
                    );
                }
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// Pid of the governor.
    pub(crate) fn governor_pid(&self) -> u32 {
        self.governor.id()
    }

    /// Every job the governor knows, as `ffrtmp ps` prints them; it keeps a limited number of closed ones.
    pub(crate) fn jobs(&self) -> Result<Vec<Value>> {
        let value = self.ask(&["ps", "--all"])?;
        serde_json::from_value(value).context("reading what ffrtmp ps printed")
    }

    /// How one process was judged, as `ffrtmp explain` prints it.
    pub(crate) fn explain(&self, pid: u32) -> Result<Value> {
        self.ask(&["explain", &pid.to_string()])
    }

    fn ask(&self, words: &[&str]) -> Result<Value> {
        let socket = self.directory.path().join("governor.sock");
        let output = Command::new(self.binaries.join("ffrtmp"))
            .arg("--socket")
            .arg(&socket)
            .args(words)
            .args(["--output", "json"])
            .output()
            .context("starting ffrtmp")?;
        // `doctor` has that status where anything at all is off.
        let fine = output.status.success() || output.status.code() == Some(SOMETHING_OFF);
        if !fine || !socket.exists() {
            bail!(
                "ffrtmp {}: {}: {}",
                words.join(" "),
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        serde_json::from_slice(&output.stdout).with_context(|| format!("reading ffrtmp {}", words.join(" ")))
    }

    /// What the governor logged.
    pub(crate) fn log(&self) -> String {
        let text = fs::read(self.directory.path().join("governor.log")).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Runs a shell script in the jobs' directory until all that it started has ended.
    pub(crate) fn shell(&self, script: &Path, limit: Duration) -> Result<()> {
        let mut shell = Command::new("/bin/sh")
            .arg(script)
            .current_dir(self.work())
            .stdin(Stdio::null())
            .stdout(log(&self.work())?)
            .stderr(log(&self.work())?)
            .process_group(0)
            .spawn()
            .context("starting a shell")?;
        let group = pid(&shell);
        if wait(&mut shell, limit)?.is_none() {
            // Not reaped yet, so the group is still ours and ends with all it started.
            killpg(group, Signal::SIGKILL).context("ending the jobs")?;
            shell.wait().context("waiting for the jobs")?;
            bail!("the jobs took longer than {} s", limit.as_secs());
        }
        Ok(())
    }

    /// Ends the governor and removes what it made. Returns a line for each thing that stayed.
    pub(crate) fn close(mut self) -> Result<Vec<String>> {
        let mut left = self.stop()?;
        for slice in slices()
            .into_iter()
            .filter(|slice| !self.groups_before.contains(slice))
        {
            remove_groups(&slice);
            if slice.exists() {
                left.push(slice.display().to_string());
            }
        }
        Ok(left)
    }

    fn stop(&mut self) -> Result<Vec<String>> {
        if self
            .governor
            .try_wait()
            .context("looking after the governor")?
            .is_some()
        {
            return Ok(Vec::new());
        }
        kill(pid(&self.governor), Signal::SIGTERM).context("stopping the governor")?;
        if wait(&mut self.governor, PATIENCE)?.is_none() {
            self.governor.kill().context("killing the governor")?;
            self.governor.wait().context("waiting for the governor")?;
            return Ok(vec!["the governor ignored SIGTERM and was killed".to_owned()]);
        }
        Ok(Vec::new())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // On the way out of an error nobody is left to tell; what can still be ended is ended.
        drop(self.stop());
        if self.pins == Pins::Own {
            // Of the mount namespace that is ours alone; a bpffs that was never mounted is none to unmount.
            let _not_mounted = umount2(&self.directory.path().join("bpf"), MntFlags::MNT_DETACH);
        }
    }
}

fn spawn(binaries: &Path, directory: &Path) -> Result<Child> {
    Command::new(binaries.join("ffrtmp-governor"))
        .arg("--config")
        .arg(directory.join("governor.yaml"))
        .stdin(Stdio::null())
        .stdout(log(directory)?)
        .stderr(log(directory)?)
        .spawn()
        .context("starting ffrtmp-governor")
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id() as i32)
}

/// Waits for our own child; `None` when the time is up.
fn wait(child: &mut Child, limit: Duration) -> Result<Option<std::process::ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().context("waiting for a child")? {
            return Ok(Some(status));
        }
        if Instant::now() > deadline {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn log(directory: &Path) -> Result<fs::File> {
    let path = directory.join("governor.log");
    fs::File::options()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("opening {}", path.display()))
}

/// A port that was free a moment ago; we must not meet a governor at work.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("looking for a free port")?;
    Ok(listener.local_addr().context("looking for a free port")?.port())
}

/// Every group directory with the governor's name.
fn slices() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = open.pop() {
        for child in children(&directory) {
            if child.ends_with(SLICE) {
                found.push(child);
            } else {
                open.push(child);
            }
        }
    }
    found
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    // Symbolic links (`cpu` beside `cpu,cpuacct`) would be walked twice.
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// Removes a tree of groups from its leaves up. The kernel refuses a group that still holds a process, and so do we.
fn remove_groups(group: &Path) {
    for child in children(group) {
        remove_groups(&child);
    }
    // Whether it is gone is looked at by the caller.
    drop(fs::remove_dir(group));
}
