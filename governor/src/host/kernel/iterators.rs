//! The programs that walk over tasks: loaded once a generation, pinned beside its maps, and opened by the next governor,
//! which then needs neither the object nor the kernel's types for its start. Each read makes a link of its own.

use std::collections::HashMap;

use aya::programs::Iter;
use aya::{Btf, Ebpf};
use ffrtmp_abi::program;

use super::KernelError;
use super::pins::Pins;

/// Their names.
pub(super) const NAMES: [&str; 3] = [program::ITER_LIVE, program::ITER_ALL, program::ITER_CLOSURE];

/// Where they are.
pub(super) enum Iterators {
    /// In the object this process loaded.
    Loaded(Box<Ebpf>),
    /// An earlier governor loaded them.
    Pinned(HashMap<&'static str, Iter>),
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

/// Loads them without attaching them, and pins them where there are pins.
pub(super) fn load(ebpf: &mut Ebpf, btf: &Btf, pins: Option<&Pins>) -> Result<(), KernelError> {
    for name in NAMES {
        let iterator = of(ebpf, name)?;
        iterator.load("task", btf).map_err(failed(name))?;
        if let Some(pins) = pins {
            iterator.pin(pins.path(name)).map_err(|source| KernelError::Pin {
                name,
                source: Box::new(source),
            })?;
        }
    }
    Ok(())
}

/// Opens pinned ones.
pub(super) fn open(pins: &Pins) -> Result<Iterators, KernelError> {
    let open = |name| Ok((name, Iter::from_pin(pins.path(name)).map_err(failed(name))?));
    NAMES
        .into_iter()
        .map(open)
        .collect::<Result<_, _>>()
        .map(Iterators::Pinned)
}

impl Iterators {
    /// None yet.
    pub(super) fn none() -> Self {
        Self::Pinned(HashMap::new())
    }

    /// The one of this name.
    pub(super) fn get(&mut self, name: &'static str) -> Result<&mut Iter, KernelError> {
        match self {
            Self::Loaded(ebpf) => of(ebpf, name),
            Self::Pinned(iterators) => iterators
                .get_mut(name)
                .ok_or(KernelError::MissingProgram { name }),
        }
    }
}
