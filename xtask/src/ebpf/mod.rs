//! `cargo xtask ebpf build|check`: the committed kernel object and its source say the same.
//!
//! It owns `ebpf/ffrtmp.bpf.o`. Ordinary builds embed that file and need none of this; only a change of the kernel
//! programs does. With source paths remapped the object is the same byte for byte wherever it is built.

mod compare;
mod toolchain;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use xshell::cmd;

use self::compare::Verdict;
use self::toolchain::Toolchain;
use crate::workspace;

/// The governor loads the object at this path instead of the embedded one; tests set it to the rebuilt object.
pub(crate) const OBJECT_ENV: &str = "FFRTMP_BPF_OBJECT";

/// What to do with the object.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Build the kernel programs and write the object that is committed
    Build,
    /// Build them below the target directory and fail when the committed object differs
    Check,
}

/// The verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    match args.action {
        Action::Build => build(),
        Action::Check => check(),
    }
}

fn committed() -> PathBuf {
    workspace::root().join("ebpf/ffrtmp.bpf.o")
}

/// Text beside the object that names what built it, so that a difference can be explained.
fn built_by() -> PathBuf {
    workspace::root().join("ebpf/ffrtmp.bpf.toolchain")
}

fn rebuilt() -> Result<PathBuf> {
    Ok(workspace::scratch("ebpf")?.join("ffrtmp.bpf.o"))
}

fn build() -> Result<()> {
    let toolchain = Toolchain::obtain()?;
    let object = compile(&toolchain)?;
    fs::copy(&object, committed()).context("writing the committed object")?;
    fs::write(built_by(), toolchain.describe()).context("writing the toolchain beside it")?;
    let size = fs::metadata(committed())
        .context("reading the committed object")?
        .len();
    println!("wrote ebpf/ffrtmp.bpf.o, {size} bytes");
    Ok(())
}

/// Rebuilds the object below the target directory, where [`rebuilt_object`] finds it, and compares.
pub(crate) fn check() -> Result<()> {
    let toolchain = Toolchain::obtain()?;
    let rebuilt = compile(&toolchain)?;
    let read = |path: &Path| fs::read(path).with_context(|| format!("reading {}", path.display()));
    match compare::objects(&read(&committed())?, &read(&rebuilt)?)? {
        Verdict::Identical => println!("ebpf/ffrtmp.bpf.o is what its source gives, byte for byte"),
        Verdict::SameCode => println!(
            "ebpf/ffrtmp.bpf.o has the code, maps and types its source gives; only line numbers for the verifier's log \
             differ, and `cargo xtask ebpf build` refreshes them"
        ),
        Verdict::Different(differences) => {
            for difference in &differences {
                println!("   {difference}");
            }
            explain_toolchain(&toolchain);
            bail!(
                "ebpf/ffrtmp.bpf.o is not what its source gives; run `cargo xtask ebpf build` and commit the result \
                 (the rebuilt object is {})",
                rebuilt.display()
            );
        }
    }
    Ok(())
}

fn explain_toolchain(here: &Toolchain) {
    // An object older than this file's text, or none at all, leaves nothing to compare.
    let before = fs::read_to_string(built_by()).unwrap_or_default();
    let now = here.describe();
    if before != now {
        println!("   the committed object was built by\n{before}   this machine has\n{now}");
    }
}

/// The object that the last `check` built, unless a source file is newer.
pub(crate) fn rebuilt_object() -> Result<Option<PathBuf>> {
    let path = rebuilt()?;
    let Ok(built) = fs::metadata(&path).and_then(|metadata| metadata.modified()) else {
        return Ok(None);
    };
    Ok((newest_source()? <= built).then_some(path))
}

fn newest_source() -> Result<SystemTime> {
    let shell = workspace::shell()?;
    let listed = cmd!(
        shell,
        "git ls-files -co --exclude-standard -- ebpf/programs ebpf/abi"
    )
    .quiet()
    .read()
    .context("listing the kernel programs' sources")?;
    let mut newest = SystemTime::UNIX_EPOCH;
    for path in listed
        .lines()
        .map(|line| workspace::root().join(line))
        .filter(|path| path.exists())
    {
        let modified = fs::metadata(&path).and_then(|metadata| metadata.modified());
        newest = newest.max(modified.with_context(|| format!("reading the age of {}", path.display()))?);
    }
    Ok(newest)
}

/// Builds the programs and strips what only a debugger reads; BTF stays.
fn compile(toolchain: &Toolchain) -> Result<PathBuf> {
    let shell = workspace::shell()?;
    let target = workspace::scratch("ebpf/build")?;
    let programs = workspace::root().join("ebpf/programs");
    if !programs.join("Cargo.toml").exists() {
        bail!("{} is missing", programs.join("Cargo.toml").display());
    }
    println!("== building the kernel programs with {}", toolchain.version());
    shell.change_dir(&programs);
    cmd!(
        shell,
        "cargo build --quiet --locked --release -Z build-std=core --target bpfel-unknown-none"
    )
    .env("RUSTC", toolchain.rustc())
    // The stable compiler accepts `-Z build-std` only so; nothing else in the programs is unstable by choice.
    .env("RUSTC_BOOTSTRAP", "1")
    .env("CARGO_ENCODED_RUSTFLAGS", toolchain.flags()?)
    .env("CARGO_TARGET_DIR", &target)
    // Set by the cargo that runs us, for another toolchain than this one.
    .env_remove("RUSTC_WRAPPER")
    .env_remove("RUSTFLAGS")
    .run()
    .context("building the kernel programs")?;
    let linked = target.join("bpfel-unknown-none/release/ffrtmp-ebpf");
    let object = rebuilt()?;
    let strip = toolchain.strip();
    cmd!(shell, "{strip} -g -o {object} {linked}")
        .quiet()
        .run()
        .context("stripping the object")?;
    Ok(object)
}
