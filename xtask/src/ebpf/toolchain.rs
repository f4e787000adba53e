//! The compiler, linker and flags of the kernel programs.
//!
//! The BPF target has no prebuilt `core`, so the compiler's own library sources must be at hand. Debian packages both
//! together; where rustup can fetch components, a toolchain with `rust-src` serves as well.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use xshell::{Shell, cmd};

use crate::package::{self, Need};
use crate::workspace;

/// bpf-linker's release that goes with LLVM 22, the LLVM of both compilers.
const LINKER_VERSION: &str = "0.13.0";

/// Debian's compiler. Looked for by path because rustup's shims come first in `PATH`.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// LLVM as Debian installs it.
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";

/// A compiler with its sources, and the linker.
pub(crate) struct Toolchain {
    rustc: PathBuf,
    sysroot: PathBuf,
    version: String,
    linker: String,
    strip: &'static str,
}

impl Toolchain {
    /// Finds the toolchain, installing what is missing.
    pub(crate) fn obtain() -> Result<Self> {
        let shell = workspace::shell()?;
        let (rustc, sysroot) = match with_sources(&shell) {
            Some(found) => found,
            None => install(&shell)?,
        };
        if Path::new("/usr/bin/apt-get").exists() {
            package::ensure(&[Need::Ebpf])?;
        }
        let features: &[&str] = if Path::new(LLVM_PREFIX).exists() {
            &["--no-default-features", "--features", "llvm-22"]
        } else {
            &[]
        };
        package::ensure_crate(
            "bpf-linker",
            LINKER_VERSION,
            features,
            &[("LLVM_PREFIX", LLVM_PREFIX)],
        )?;
        let version = cmd!(shell, "{rustc} --version")
            .quiet()
            .read()
            .context("asking the compiler's version")?;
        let linker = cmd!(shell, "bpf-linker --version")
            .quiet()
            .read()
            .context("asking bpf-linker's version")?;
        let strip = if package::present("llvm-strip-22") {
            "llvm-strip-22"
        } else {
            "llvm-strip"
        };
        Ok(Self {
            rustc,
            sysroot,
            version,
            linker,
            strip,
        })
    }

    /// The compiler.
    pub(crate) fn rustc(&self) -> &Path {
        &self.rustc
    }

    /// The compiler's version line.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// The program that removes debug sections.
    pub(crate) fn strip(&self) -> &'static str {
        self.strip
    }

    /// What is written beside the object.
    pub(crate) fn describe(&self) -> String {
        format!("{}\n{}\n", self.version, self.linker)
    }

    /// The compiler's flags, separated as cargo wants them.
    pub(crate) fn flags(&self) -> Result<String> {
        let mut flags = vec![
            "-Clinker=bpf-linker".to_owned(),
            "-Clink-arg=--btf".to_owned(),
            // 32-bit operations and all jumps; every kernel since 5.1 takes them.
            "-Ctarget-cpu=v3".to_owned(),
            // BTF is derived from debug information.
            "-Cdebuginfo=2".to_owned(),
            "--cfg=bpf_target_arch=\"x86_64\"".to_owned(),
            remap(workspace::root(), "/ffrtmp"),
            remap(&self.sysroot.join("lib/rustlib/src/rust"), "/rust"),
        ];
        for directory in registry_sources()? {
            flags.push(remap(&directory, "/crates"));
        }
        Ok(flags.join("\x1f"))
    }
}

/// Without this the object would hold this machine's paths, and differ on the next.
fn remap(from: &Path, to: &str) -> String {
    format!("--remap-path-prefix={}={to}", from.display())
}

/// Directories into which cargo unpacks crates, one a registry.
fn registry_sources() -> Result<Vec<PathBuf>> {
    let sources = package::cargo_home().join("registry/src");
    let Ok(entries) = std::fs::read_dir(&sources) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for entry in entries {
        found.push(
            entry
                .with_context(|| format!("listing {}", sources.display()))?
                .path(),
        );
    }
    found.sort();
    Ok(found)
}

fn with_sources(shell: &Shell) -> Option<(PathBuf, PathBuf)> {
    let nightly = cmd!(shell, "rustup which --toolchain nightly rustc")
        .quiet()
        .ignore_stderr()
        .read()
        .ok();
    let candidates = [Some(PathBuf::from(DEBIAN_RUSTC)), nightly.map(PathBuf::from)];
    candidates.into_iter().flatten().find_map(|rustc| {
        let sysroot = cmd!(shell, "{rustc} --print sysroot")
            .quiet()
            .ignore_stderr()
            .read()
            .ok()?;
        let sysroot = PathBuf::from(sysroot);
        sysroot
            .join("lib/rustlib/src/rust/library/core/Cargo.toml")
            .exists()
            .then_some((rustc, sysroot))
    })
}

fn install(shell: &Shell) -> Result<(PathBuf, PathBuf)> {
    if Path::new("/usr/bin/apt-get").exists() {
        package::ensure(&[Need::Ebpf])?;
    } else {
        println!("== installing nightly Rust with its sources");
        cmd!(
            shell,
            "rustup toolchain install nightly --profile minimal --component rust-src"
        )
        .run()
        .context("installing a compiler with its sources")?;
    }
    with_sources(shell).context("no compiler with its library sources was found after installing one")
}
