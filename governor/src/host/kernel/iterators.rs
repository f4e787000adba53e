//! The programs that walk over tasks. Where there are pins, their links are pinned beside the maps: such a file runs its
//! program whenever it is read, so the next governor needs neither the object, nor the kernel's types, nor a capability
//! for them. Where there are none, each read makes a link of its own.

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;

use aya::programs::Iter;
use aya::programs::iter::IterLink;
use aya::programs::links::{FdLink, LinkError};
use aya::{Btf, Ebpf};
use ffrtmp_abi::program;

use super::KernelError;
use super::pins::Pins;

/// Their names.
pub(super) const NAMES: [&str; 3] = [program::ITER_LIVE, program::ITER_ALL, program::ITER_CLOSURE];

/// Where they are.
pub(super) enum Iterators {
    /// In the object this process loaded, which keeps its other programs too.
    Loaded(Box<Ebpf>),
    /// In files of a bpffs, by name.
    Pinned(HashMap<&'static str, PathBuf>),
}

fn failed(name: &'static str) -> impl Fn(aya::programs::ProgramError) -> KernelError {
    move |source| KernelError::Program {
        name,
        source: Box::new(source),
    }
}

fn of<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Iter, KernelError> {
    ebpf.program_mut(name)
        .ok_or(KernelError::MissingProgram { name })?
        .try_into()
        .map_err(failed(name))
}

/// A link of its own, which walks when its file is read.
fn link(iterator: &mut Iter, name: &'static str) -> Result<IterLink, KernelError> {
    let id = iterator.attach().map_err(failed(name))?;
    iterator.take_link(id).map_err(failed(name))
}

fn no_file(name: &'static str) -> impl Fn(LinkError) -> KernelError {
    move |error| KernelError::Iterator {
        name,
        source: std::io::Error::other(error),
    }
}

/// Loads them, and pins a link of each where there are pins.
pub(super) fn load(ebpf: &mut Ebpf, btf: &Btf, pins: Option<&Pins>) -> Result<(), KernelError> {
    for name in NAMES {
        let iterator = of(ebpf, name)?;
        iterator.load("task", btf).map_err(failed(name))?;
        if let Some(pins) = pins {
            let link = FdLink::try_from(link(iterator, name)?).map_err(no_file(name))?;
            link.pin(pins.path(name)).map_err(|source| KernelError::Pin {
                name,
                source: Box::new(source),
            })?;
        }
    }
    Ok(())
}

impl Iterators {
    /// None yet.
    pub(super) fn none() -> Self {
        Self::Pinned(HashMap::new())
    }

    /// Those that an earlier governor pinned.
    pub(super) fn pinned(pins: &Pins) -> Self {
        Self::Pinned(NAMES.map(|name| (name, pins.path(name))).into())
    }

    /// A file that gives one walk's rows.
    pub(super) fn open(&mut self, name: &'static str) -> Result<File, KernelError> {
        match self {
            Self::Loaded(ebpf) => {
                let link = link(of(ebpf, name)?, name)?;
                link.into_file().map_err(no_file(name))
            }
            Self::Pinned(files) => {
                let path = files.get(name).ok_or(KernelError::MissingProgram { name })?;
                File::open(path).map_err(|source| KernelError::Iterator { name, source })
            }
        }
    }
}
