//! `cargo xtask test`: installs what is missing, runs every suite, the guests side by side at the end, says how long each
//! took and what was left out.
//!
//! It is the whole of CI. A suite that fails does not keep the next one from running, so one run shows every fault.

mod api;
mod counts;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

pub(crate) use self::counts::Counts;
use crate::left_out::LeftOut;
use crate::package::{self, Need};
use crate::vm::{self, Series};
use crate::{demo, ebpf, lint, workspace};

/// Tests of one cargo target that need root and a real kernel; they run on the host and in each guest.
pub(crate) struct KernelSuite {
    /// Package that has it.
    pub(crate) package: &'static str,
    /// Name of the test target.
    pub(crate) test: &'static str,
    /// True for one that may ruin the machine it runs on, and so runs in guests alone.
    pub(crate) guest_only: bool,
    /// What it may take in a guest, in seconds; several times what it takes.
    pub(crate) vm_limit_sec: u64,
}

/// Every kernel suite. All other test targets run once, on the host, as part of `unit`.
pub(crate) const KERNEL_SUITES: &[KernelSuite] = &[
    KernelSuite {
        package: "ffrtmp-governor",
        test: "cgroup_real",
        guest_only: false,
        vm_limit_sec: 300,
    },
    KernelSuite {
        package: "ffrtmp-tests",
        test: "node",
        guest_only: false,
        vm_limit_sec: 2_700,
    },
    KernelSuite {
        package: "ffrtmp-tests",
        test: "guest",
        guest_only: true,
        vm_limit_sec: 900,
    },
];

/// Tests of the machine that systemd runs; in the one guest that has it, and nowhere else.
pub(crate) const SYSTEMD_SUITE: KernelSuite = KernelSuite {
    guest_only: true,
    package: "ffrtmp-tests",
    test: "systemd",
    vm_limit_sec: 600,
};

/// Tests run their long forms when this variable is set.
const LONG_ENV: &str = "FFRTMP_TEST_LONG";

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run only this suite; may be repeated
    #[arg(long, value_enum, value_name = "SUITE")]
    only: Vec<Suite>,
    /// Run the long forms too
    #[arg(long)]
    long: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// fmt, clippy, tidy, cargo-deny
    Lint,
    /// Unit, property, snapshot and command-line tests
    Unit,
    /// The scheduler's API against its `OpenAPI` document, by schemathesis
    Api,
    /// The committed object is what its source gives
    Ebpf,
    /// The kernel suites on this machine
    Node,
    /// The kernel suites on Debian's 6.1 in QEMU
    #[value(name = "vm-6.1")]
    Vm6_1,
    /// The kernel suites on Debian's 6.12 in QEMU
    #[value(name = "vm-6.12")]
    Vm6_12,
    /// Units, scopes, sessions and delegation in a Debian with systemd in QEMU
    Systemd,
    /// The demo, judged by what its table says
    Demo,
}

struct Done {
    suite: Suite,
    counts: Counts,
    took: Duration,
}

/// The verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    package::ensure(&[Need::Build, Need::Media, Need::Edge])?;
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    let mut left = LeftOut::default();
    let mut done = Vec::new();
    let mut guests = Vec::new();
    for &suite in Suite::value_variants() {
        let name = suite.name();
        if !args.only.is_empty() && !args.only.contains(&suite) {
            left.note(&name, "--only names other suites")?;
            continue;
        }
        if suite.needs_root() && !workspace::is_root() {
            left.note(&name, "needs root")?;
            continue;
        }
        if suite.is_guest() {
            guests.push(suite);
        } else {
            done.push(one(suite, args.long));
        }
    }
    done.extend(side_by_side(&guests, args.long));
    if !args.long {
        println!("\nLong forms were not run; `cargo xtask test --long` runs them.");
    }
    let closed = left.close(ci);
    summary(&done)?;
    closed
}

fn one(suite: Suite, long: bool) -> Done {
    let name = suite.name();
    println!("\n== suite {name}");
    let started = Instant::now();
    let counts = suite.run(long).unwrap_or_else(|error| {
        println!("suite {name} failed: {error:#}");
        Counts::one(false)
    });
    Done {
        suite,
        counts,
        took: started.elapsed(),
    }
}

/// Runs guests, as many at a time as there are CPUs: each of them keeps one CPU busy and shares nothing with the others.
fn side_by_side(guests: &[Suite], long: bool) -> Vec<Done> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..cpus.min(guests.len()) {
            scope.spawn(|| {
                while let Some(&suite) = guests.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let ended = one(suite, long);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push(ended);
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|done| guests.iter().position(|guest| *guest == done.suite));
    done
}

/// The last line is the one CI reads.
fn summary(done: &[Done]) -> Result<()> {
    let mut total = Counts::default();
    println!(
        "\n{:<10} {:>8} {:>8} {:>9}",
        "suite", "passed", "failed", "seconds"
    );
    for Done { suite, counts, took } in done {
        let name = suite.name();
        println!(
            "{name:<10} {:>8} {:>8} {:>9.1}",
            counts.passed,
            counts.failed,
            took.as_secs_f64()
        );
        total += *counts;
    }
    println!("{:<10} {:>8} {:>8}\n", "all", total.passed, total.failed);
    println!("{total}");
    if total.failed > 0 {
        bail!("{} failed", total.failed);
    }
    if total.passed == 0 {
        bail!("nothing ran");
    }
    Ok(())
}

impl Suite {
    /// As `--only` takes it.
    fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }

    fn is_guest(self) -> bool {
        matches!(self, Self::Vm6_1 | Self::Vm6_12 | Self::Systemd)
    }

    fn needs_root(self) -> bool {
        // debootstrap needs root; the other guests do not.
        matches!(self, Self::Node | Self::Systemd | Self::Demo)
    }

    fn run(self, long: bool) -> Result<Counts> {
        match self {
            Self::Lint => Ok(lint::checks()),
            Self::Unit => unit(long),
            Self::Api => api::run(long),
            Self::Ebpf => ebpf::check().map(|()| Counts::one(true)),
            Self::Node => node(long),
            Self::Vm6_1 => vm::run_suites(Series::V6_1),
            Self::Vm6_12 => vm::run_suites(Series::V6_12),
            Self::Systemd => vm::run_systemd(),
            Self::Demo => demo::check(),
        }
    }
}

fn with(arguments: &[&str]) -> Vec<String> {
    workspace::PRODUCT
        .iter()
        .chain(arguments)
        .map(|word| (*word).to_owned())
        .collect()
}

/// Every test that is not a kernel suite.
fn unit(long: bool) -> Result<Counts> {
    // The command line's tests start the scheduler's program, which is another package's.
    vm::product_binaries()?;
    let mut arguments = with(&["--lib", "--bins"]);
    for (package, test) in workspace::integration_tests()? {
        if !KERNEL_SUITES
            .iter()
            .chain([&SYSTEMD_SUITE])
            .any(|suite| suite.package == package && suite.test == test)
        {
            arguments.extend(["--test".to_owned(), test]);
        }
    }
    let mut counts = cargo_test(&arguments, &[], long)?;
    counts += cargo_test(&with(&["--doc"]), &[], long)?;
    counts += cargo_test(&["-p".to_owned(), "xtask".to_owned()], &[], long)?;
    Ok(counts)
}

/// The kernel suites here, one test at a time: they share one kernel.
fn node(long: bool) -> Result<Counts> {
    vm::product_binaries()?;
    let object = ebpf::rebuilt_object()?;
    let env: Vec<(&str, String)> = object
        .iter()
        .map(|object| (ebpf::OBJECT_ENV, object.display().to_string()))
        .collect();
    let mut counts = Counts::default();
    for suite in KERNEL_SUITES.iter().filter(|suite| !suite.guest_only) {
        let found = cargo_test(
            &with(&["--test", suite.test, "--", "--test-threads=1"]),
            &env,
            long,
        )?;
        if found == Counts::default() {
            bail!("test {} of {} has no tests", suite.test, suite.package);
        }
        counts += found;
    }
    Ok(counts)
}

/// Runs `cargo test`, shows its output as it comes and counts.
fn cargo_test(arguments: &[String], env: &[(&str, String)], long: bool) -> Result<Counts> {
    // Under nohup or in a script's background some signals are ignored, and every child inherits that: a target
    // would then survive the signal whose effect a test looks for.
    let mut command = Command::new("env");
    command
        .arg("--default-signal=HUP,INT,QUIT,TERM")
        .args(["cargo", "test", "--no-fail-fast"])
        .args(arguments)
        .current_dir(workspace::root());
    command.envs(env.iter().map(|(name, value)| (*name, value)));
    if long {
        command.env(LONG_ENV, "1");
    }
    let shown = format!("cargo test {}", arguments.join(" "));
    println!("$ {shown}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {shown}"))?;
    let stdout = child.stdout.take().context("cargo has no output")?;
    let mut lines = Vec::new();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = String::from_utf8_lossy(&line.context("reading cargo's output")?).into_owned();
        println!("{line}");
        lines.push(line);
    }
    let status = child.wait().context("waiting for cargo")?;
    let mut counts = Counts::read(&lines);
    if !status.success() && counts.failed == 0 {
        println!("{shown}: {status} outside its tests");
        counts.failed = 1;
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_with_a_failure_or_without_a_test_is_an_error() {
        let done = |counts| {
            [Done {
                suite: Suite::Lint,
                counts,
                took: Duration::ZERO,
            }]
        };
        assert!(summary(&done(Counts { passed: 1, failed: 0 })).is_ok());
        assert!(summary(&done(Counts { passed: 9, failed: 1 })).is_err());
        assert!(summary(&done(Counts::default())).is_err());
        assert!(summary(&[]).is_err());
    }
}
