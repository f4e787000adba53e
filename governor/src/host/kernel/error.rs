//! Why the kernel programs do not run, in words that say what to do.

use std::path::PathBuf;

/// Why the kernel programs do not run.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The kernel shows no types.
    #[error("kernel types are missing: {} does not exist; boot a kernel with CONFIG_DEBUG_INFO_BTF=y", path.display())]
    NoBtf {
        /// Where they should be.
        path: PathBuf,
    },
    /// The types could not be read.
    #[error("cannot read kernel types from {}: {why}", path.display())]
    Btf {
        /// Where they are.
        path: PathBuf,
        /// What the parser said.
        why: String,
    },
    /// A field everything depends on has another name on this kernel.
    #[error("this kernel has no field {field}, which accounting needs; report the kernel's version")]
    MissingField {
        /// `type.path`.
        field: String,
    },
    /// A tracepoint everything depends on is not there.
    #[error("this kernel has no tracepoint {name}; report the kernel's version")]
    MissingTracepoint {
        /// Its name.
        name: String,
    },
    /// Loading programs is not allowed.
    #[error("loading kernel programs is not allowed; run as root, or with CAP_BPF and CAP_PERFMON")]
    NotPermitted {
        /// What the kernel said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The object named by `FFRTMP_BPF_OBJECT` could not be read.
    #[error("read the kernel object {} named by FFRTMP_BPF_OBJECT", path.display())]
    OtherObject {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The object could not be loaded.
    #[error("cannot load the kernel object")]
    Object {
        /// What aya said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The object lacks a program: it was built from other sources.
    #[error("the kernel object has no program {name}; rebuild it with `cargo xtask ebpf build`")]
    MissingProgram {
        /// Its name.
        name: &'static str,
    },
    /// The object lacks a map.
    #[error("the kernel object has no map {name}; rebuild it with `cargo xtask ebpf build`")]
    MissingMap {
        /// Its name.
        name: &'static str,
    },
    /// A map's memory could not be mapped.
    #[error("map {name} into memory")]
    Mapped {
        /// Its name.
        name: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A program was refused.
    #[error("the kernel refused program {name}")]
    Program {
        /// Its name.
        name: &'static str,
        /// What the verifier said.
        source: Box<aya::programs::ProgramError>,
    },
    /// Nothing can be pinned.
    #[error(transparent)]
    Pins(#[from] super::pins::PinsError),
    /// A link could not be pinned.
    #[error("pin program {name}")]
    Pin {
        /// Its name.
        name: &'static str,
        /// What the kernel said.
        source: Box<aya::pin::PinError>,
    },
    /// A map operation failed.
    #[error("map {name} cannot be used")]
    Map {
        /// Its name.
        name: &'static str,
        /// What the kernel said.
        source: Box<aya::maps::MapError>,
    },
    /// An iterator could not be read.
    #[error("cannot read iterator {name}")]
    Iterator {
        /// Its name.
        name: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
}

impl KernelError {
    /// Tells a refusal by privilege from all else.
    pub(super) fn object(source: aya::EbpfError) -> Self {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&source);
        while let Some(error) = cause {
            if error
                .downcast_ref::<std::io::Error>()
                .is_some_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied)
            {
                return Self::NotPermitted {
                    source: Box::new(source),
                };
            }
            cause = error.source();
        }
        Self::Object {
            source: Box::new(source),
        }
    }
}
