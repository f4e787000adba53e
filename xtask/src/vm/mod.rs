//! `cargo xtask vm`: the kernel suites on Debian's 6.1 and 6.12 kernels in QEMU, one boot a kernel.
//!
//! It owns the guest from download to power-off and refuses to judge speed: without KVM everything is 10 to 30 times
//! slower. Host files appear in the guest under the same paths, so a test finds its binaries and data as it does here.

mod guest;
mod image;
mod kernel;
mod systemd;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use xshell::cmd;

use self::image::Root;
pub(crate) use self::kernel::Series;
pub(crate) use self::systemd::run_suite as run_systemd;
use crate::package::{self, Need};
use crate::test::{Counts, KERNEL_SUITES, KernelSuite};
use crate::{ebpf, workspace};

/// What tests are told in a guest. An exec takes 20 to 100 ms there, so a storm is a small one; the full one runs on
/// the host.
const GUEST_ENV: &[(&str, &str)] = &[
    ("FFRTMP_GUEST", "1"),
    ("FFRTMP_STORM_EXECS", "500"),
    ("FFRTMP_CLOSURE_TRIALS", "200"),
];

/// Held while a guest is made ready.
static PREPARING: Mutex<()> = Mutex::new(());

/// Which kernels, and what runs on them.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The kernel series.
    #[arg(value_enum, default_value = "all")]
    series: Which,
    /// Run this shell command in the guest instead of the suites; may be repeated
    #[arg(long, value_name = "COMMAND")]
    command: Vec<String>,
    /// With --command: a program of the host that the guest gets as /usr/bin/NAME; may be repeated
    #[arg(long, value_name = "PATH", requires = "command")]
    file: Vec<PathBuf>,
    /// Run only this kernel suite; may be repeated
    #[arg(long, value_name = "TEST", conflicts_with = "command", value_parser = clap::builder::PossibleValuesParser::new(KERNEL_SUITES.iter().map(|suite| suite.test)))]
    suite: Vec<String>,
    /// Run only tests whose name contains this
    #[arg(last = true)]
    filter: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    #[value(name = "6.1")]
    V6_1,
    #[value(name = "6.12")]
    V6_12,
    All,
    /// A Debian with systemd as its first process, on Debian 12's own kernel: the suite `systemd`
    Systemd,
}

/// One command in the guest.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    name: String,
    command: String,
    limit: Duration,
}

impl Step {
    /// A shell command under a name (a word) and a time limit in seconds of the guest.
    pub(crate) fn new(name: &str, command: &str, limit_sec: u64) -> Self {
        Self {
            name: name.to_owned(),
            command: format!("{command}\n"),
            limit: Duration::from_secs(limit_sec),
        }
    }
}

/// How one step went.
#[derive(Debug)]
pub(crate) struct StepResult {
    /// As in its [`Step`].
    pub(crate) name: String,
    /// Exit status as a shell has it; 124 when its time was up.
    pub(crate) status: Option<i32>,
    /// How long it took by the guest's clock.
    pub(crate) seconds: f64,
    /// What it printed.
    pub(crate) lines: Vec<String>,
}

/// How one boot went.
#[derive(Debug)]
pub(crate) struct Output {
    /// Every step asked for, in order.
    pub(crate) steps: Vec<StepResult>,
    /// From the start of QEMU to its end.
    pub(crate) took: Duration,
}

impl Output {
    /// True when every step ended with status 0.
    pub(crate) fn passed(&self) -> bool {
        self.steps.iter().all(|step| step.status == Some(0))
    }
}

/// Boots a kernel of the series with `files` (host path, guest path; libraries come along) and runs the steps.
pub(crate) fn run(
    series: Series,
    root: Root<'_>,
    files: &[(PathBuf, PathBuf)],
    steps: &[Step],
) -> Result<Output> {
    let label = match root {
        Root::Bare => series.name(),
        Root::Debian(_) => "systemd",
    };
    let (kernel, first, disk) = {
        // apt and the kernels' directory take one at a time; the boots do not.
        let _turn = PREPARING.lock().unwrap_or_else(PoisonError::into_inner);
        package::ensure(&[Need::Media, Need::Edge, Need::Vm])?;
        let directory = workspace::scratch(&format!("vm/{label}"))?;
        let kernel = kernel::obtain(series)?;
        let first = image::first_file_system(&directory, &kernel)?;
        let disk = image::disk(&directory, root, files, steps)?;
        (kernel, first, disk)
    };
    println!("== {label}: booting {}", kernel.release);
    let output = guest::boot(label, &kernel, &first, &disk, steps)?;
    // Half a gigabyte that the next run makes anew in two seconds.
    std::fs::remove_file(&disk).context("removing the guest's disk")?;
    for step in &output.steps {
        let status = step
            .status
            .map_or_else(|| "?".to_owned(), |status| status.to_string());
        println!(
            "   {label} {}: status {status}, {:.1} s in the guest",
            step.name, step.seconds
        );
    }
    println!(
        "   {label} on {} took {:.1} s from start to power-off",
        kernel.release,
        output.took.as_secs_f64()
    );
    Ok(output)
}

/// Runs the kernel suites on one series. The object that `ebpf check` rebuilt is used when it is there.
pub(crate) fn run_suites(series: Series) -> Result<Counts> {
    run_some_suites(series, &[], None)
}

fn run_some_suites(series: Series, only: &[String], filter: Option<&str>) -> Result<Counts> {
    let mut files = Vec::new();
    let mut add = |path: PathBuf| files.push((path.clone(), path));
    for binary in product_binaries()? {
        add(binary);
    }
    let object = ebpf::rebuilt_object()?;
    if let Some(object) = &object {
        add(object.clone());
    }
    let mut steps = Vec::new();
    for suite in KERNEL_SUITES
        .iter()
        .filter(|suite| only.is_empty() || only.iter().any(|name| name == suite.test))
    {
        let binary = workspace::test_binary(suite.package, suite.test)?;
        steps.push(step(suite, &binary, object.as_deref(), filter));
        add(binary);
    }
    for path in data_files()? {
        add(path);
    }
    let output = run(series, Root::Bare, &files, &steps)?;
    Ok(count(&output))
}

/// The tests of every step; a step that failed without a failed test counts as one.
fn count(output: &Output) -> Counts {
    let mut counts = Counts::default();
    for step in &output.steps {
        let found = Counts::read(&step.lines);
        counts += found;
        if step.status != Some(0) && found.failed == 0 {
            println!("   {} failed outside its tests", step.name);
            counts.failed += 1;
        }
    }
    counts
}

fn step(
    suite: &KernelSuite,
    binary: &std::path::Path,
    object: Option<&std::path::Path>,
    filter: Option<&str>,
) -> Step {
    let mut lines = vec![format!("cd {} || exit 1", suite_directory(suite).display())];
    lines.extend(
        GUEST_ENV
            .iter()
            .map(|(name, value)| format!("export {name}={value}")),
    );
    if let Some(object) = object {
        lines.push(format!("export {}={}", ebpf::OBJECT_ENV, object.display()));
    }
    let filter = quoted(filter.unwrap_or_default());
    lines.push(format!("exec {} --test-threads=1 {filter}", binary.display()));
    let command = lines.join(
        "
",
    );
    Step::new(suite.test, &command, suite.vm_limit_sec)
}

/// cargo runs a test in its package's directory; so do we.
fn suite_directory(suite: &KernelSuite) -> PathBuf {
    let found = workspace::metadata().ok().and_then(|metadata| {
        metadata
            .packages
            .iter()
            .find(|package| package.name.as_str() == suite.package)
    });
    found
        .and_then(|package| package.manifest_path.parent())
        .map_or_else(
            || workspace::root().to_owned(),
            |directory| directory.as_std_path().to_owned(),
        )
}

fn quoted(word: &str) -> String {
    if word.is_empty() {
        String::new()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Builds every program of ours, those of the test harness included, in the dev profile and says where they are.
pub(crate) fn product_binaries() -> Result<Vec<PathBuf>> {
    let shell = workspace::shell()?;
    let selection = workspace::PRODUCT;
    cmd!(shell, "cargo build --quiet {selection...} --bins")
        .run()
        .context("building the product")?;
    let directory = workspace::target()?.join("debug");
    Ok(workspace::programs()?
        .iter()
        .map(|name| directory.join(name))
        .collect())
}

/// What tests read at run time: their manifests' directories must exist, and the data beside them.
fn data_files() -> Result<Vec<PathBuf>> {
    let shell = workspace::shell()?;
    let listed = cmd!(
        shell,
        "git ls-files -- tests/data tests/Cargo.toml governor/Cargo.toml governor/tests/data"
    )
    .quiet()
    .read()
    .context("listing test data")?;
    Ok(listed
        .lines()
        .map(|line| workspace::root().join(line))
        .filter(|path| path.is_file())
        .collect())
}

/// The verb.
pub(crate) fn run_verb(args: &Args) -> Result<()> {
    let all = match args.series {
        Which::V6_1 => vec![Series::V6_1],
        Which::V6_12 => vec![Series::V6_12],
        Which::All => Series::ALL.to_vec(),
        Which::Systemd => vec![systemd::SERIES],
    };
    let debian = args.series == Which::Systemd;
    let mut counts = Counts::default();
    let mut passed = true;
    for series in all {
        if debian {
            counts += systemd::run_some(&args.command, &args.file, args.filter.as_deref())?;
        } else if args.command.is_empty() {
            counts += run_some_suites(series, &args.suite, args.filter.as_deref())?;
        } else {
            passed &= run_commands(series, args)?;
        }
    }
    if debian || args.command.is_empty() {
        println!("{counts}");
    }
    if !passed || counts.failed > 0 {
        bail!("a kernel suite failed");
    }
    Ok(())
}

fn run_commands(series: Series, args: &Args) -> Result<bool> {
    let mut files = Vec::new();
    for path in product_binaries()?.iter().chain(&args.file) {
        let name = path
            .file_name()
            .with_context(|| format!("{} has no name", path.display()))?;
        files.push((path.clone(), PathBuf::from("/usr/bin").join(name)));
    }
    let steps: Vec<Step> = args
        .command
        .iter()
        .map(|command| Step::new("command", command, 600))
        .collect();
    Ok(run(series, Root::Bare, &files, &steps)?.passed())
}
