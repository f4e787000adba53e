//! One boot: starts QEMU, reads its console, and says how each step ended.
//!
//! The emulator runs without KVM, so seconds inside mean nothing but ratios. It is our own child and is always reaped.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::kernel::Kernel;
use super::{Output, Step, StepResult};

/// What a boot, the first mount and the power-off may take together on a busy machine.
const BOOT_LIMIT: Duration = Duration::from_mins(4);

/// Memory of the guest in MiB. The root file system is a disk, so this is for the tests alone.
const MEMORY_MIB: &str = "1536";

/// Boots `kernel` with the disk and follows the steps to the power-off; each line of its console is shown behind the
/// label.
pub(crate) fn boot(
    label: &str,
    kernel: &Kernel,
    first: &Path,
    disk: &Path,
    steps: &[Step],
) -> Result<Output> {
    let started = Instant::now();
    let limit = steps.iter().map(|step| step.limit).sum::<Duration>() + BOOT_LIMIT;
    let mut child = qemu(kernel, first, disk)
        .spawn()
        .context("starting qemu-system-x86_64")?;
    let lines = reader(&mut child)?;
    let mut console = Console::new(label);
    let ended = follow(&lines, &mut console, started + limit);
    if ended.is_err() {
        // Ours, and unreaped, so the pid cannot belong to anybody else.
        child.kill().context("ending qemu")?;
    }
    child.wait().context("waiting for qemu")?;
    ended?;
    console.finish(steps, started.elapsed())
}

fn qemu(kernel: &Kernel, first: &Path, disk: &Path) -> Command {
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args([
            "-accel",
            // One host thread for all CPUs: with one each, a CPU may run a stale translation of code that another has patched
            // since, and attaching to a tracepoint then ends in "Oops: int3".
            "tcg,thread=single",
            "-smp",
            "2",
            "-m",
            MEMORY_MIB,
            "-cpu",
            "max",
        ])
        .args([
            "-nodefaults",
            "-display",
            "none",
            "-serial",
            "stdio",
            "-no-reboot",
        ])
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(first)
        .arg("-drive")
        // Writes go to a temporary file of QEMU's, so one disk serves both kernels.
        .arg(format!(
            "file={},if=virtio,format=raw,snapshot=on,cache=unsafe",
            disk.display()
        ))
        .args(["-device", "virtio-rng-pci"])
        .args([
            "-append",
            "console=ttyS0 quiet loglevel=3 panic=-1 net.ifnames=0 systemd.show_status=false",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    command
}

fn reader(child: &mut Child) -> Result<Receiver<String>> {
    let stdout = child.stdout.take().context("qemu has no console")?;
    let (send, lines) = mpsc::channel();
    std::thread::spawn(move || {
        let mut console = BufReader::new(stdout);
        let mut bytes = Vec::new();
        while matches!(console.read_until(b'\n', &mut bytes), Ok(1..)) {
            let line = String::from_utf8_lossy(&bytes)
                .trim_end_matches(['\r', '\n'])
                .to_owned();
            if send.send(line).is_err() {
                return;
            }
            bytes.clear();
        }
    });
    Ok(lines)
}

fn follow(lines: &Receiver<String>, console: &mut Console, deadline: Instant) -> Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match lines.recv_timeout(left) {
            Ok(line) => console.line(&line)?,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => bail!("the guest did not power off in time"),
        }
    }
}

/// What the console said so far.
struct Console {
    prefix: String,
    done: bool,
    open: Option<StepResult>,
    steps: Vec<StepResult>,
}

impl Console {
    fn new(label: &str) -> Self {
        Self {
            prefix: format!("{label}| "),
            done: false,
            open: None,
            steps: Vec::new(),
        }
    }

    /// Takes one line: a sentinel of the guest's scripts, or output to show.
    fn line(&mut self, line: &str) -> Result<()> {
        if let Some(sentinel) = line.strip_prefix("@@vm ") {
            return self.sentinel(sentinel);
        }
        if line.contains("Kernel panic") {
            bail!("the guest's kernel gave up: {line}");
        }
        // What the kernel says of its own power-off is no news.
        if line.is_empty() || self.done {
            return Ok(());
        }
        println!("{}{}", self.prefix, harmless(line));
        if let Some(step) = &mut self.open {
            step.lines.push(line.to_owned());
        }
        Ok(())
    }

    fn sentinel(&mut self, text: &str) -> Result<()> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let number = |word: &str| word.parse::<f64>().with_context(|| format!("reading `{text}`"));
        match words.as_slice() {
            ["begin", name, at] => {
                let name = name.split_once('-').map_or(*name, |(_, name)| name).to_owned();
                self.open = Some(StepResult {
                    name,
                    status: None,
                    seconds: -number(at)?,
                    lines: Vec::new(),
                });
            }
            ["end", _, status, at] => {
                let mut step = self.open.take().context("a step ended that never began")?;
                step.status = Some(status.parse().with_context(|| format!("reading `{text}`"))?);
                step.seconds += number(at)?;
                self.steps.push(step);
            }
            ["done"] => self.done = true,
            _ => bail!("the guest said `{text}`"),
        }
        Ok(())
    }

    fn finish(mut self, asked: &[Step], took: Duration) -> Result<Output> {
        if let Some(open) = self.open.take() {
            bail!("the guest stopped in the middle of step {}", open.name);
        }
        if !self.done || self.steps.len() != asked.len() {
            bail!("the guest ran {} of {} steps", self.steps.len(), asked.len());
        }
        Ok(Output {
            steps: self.steps,
            took,
        })
    }
}

/// Control characters of a guest must not reach the developer's terminal.
fn harmless(line: &str) -> String {
    line.chars().filter(|c| !c.is_control() || *c == '\t').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(count: usize) -> Vec<Step> {
        (0..count)
            .map(|n| Step::new(&format!("s{n}"), "true", 1))
            .collect()
    }

    #[test]
    fn a_console_with_both_sentinels_gives_status_seconds_and_lines() {
        let mut console = Console::new("6.1");
        for line in [
            "@@vm begin 00-s0 3.50",
            "hello",
            "",
            "@@vm end 00-s0 7 5.00",
            "@@vm done",
        ] {
            console.line(line).unwrap();
        }
        let output = console.finish(&steps(1), Duration::ZERO).unwrap();
        let step = &output.steps[0];
        assert_eq!(
            (step.name.as_str(), step.status, step.seconds),
            ("s0", Some(7), 1.5)
        );
        assert_eq!(step.lines, ["hello"]);
        assert!(!output.passed());
    }

    #[test]
    fn a_guest_that_dies_early_is_an_error() {
        let mut console = Console::new("6.1");
        console.line("@@vm begin 00-s0 1").unwrap();
        assert!(console.finish(&steps(1), Duration::ZERO).is_err());

        let mut console = Console::new("6.1");
        console.line("@@vm begin 00-s0 1").unwrap();
        console.line("@@vm end 00-s0 0 1").unwrap();
        assert!(console.finish(&steps(2), Duration::ZERO).is_err());

        assert!(
            Console::new("6.1")
                .line("[    1.0] Kernel panic - not syncing")
                .is_err()
        );
        assert!(Console::new("6.1").line("@@vm fatal no disk").is_err());
    }

    #[test]
    fn escape_sequences_of_the_guest_are_dropped() {
        assert_eq!(harmless("\u{1b}[31mred\u{7}"), "[31mred");
    }
}
