//! The maps by value: records, members, filter, counters, switches.

use aya::Ebpf;
use aya::maps::{Map, MapError};
use ffrtmp_abi::{COMM_LEN, Counter, KernelConfig, NAME_LEN, ProcessKey, Record, decode, map};

use super::{CONFIG, KEY, Kernel, KernelError, RECORD};

/// Takes a map out of the object.
pub(super) fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, KernelError> {
    ebpf.take_map(name).ok_or(KernelError::MissingMap { name })
}

/// Wraps a map's error with its name.
pub(super) fn error(name: &'static str) -> impl Fn(MapError) -> KernelError {
    move |source| KernelError::Map {
        name,
        source: Box::new(source),
    }
}

fn key_bytes(key: ProcessKey) -> [u8; KEY] {
    let mut bytes = [0; KEY];
    bytes.copy_from_slice(decode::bytes_of(&key));
    bytes
}

/// The name as the kernel compares it: cut to leave a final NUL, zero padded.
fn padded<const N: usize>(name: &str) -> [u8; N] {
    let mut bytes = [0; N];
    let len = name.len().min(N - 1);
    bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
    bytes
}

/// The switches as the map holds them.
pub(super) fn switches(bytes: &[u8; CONFIG]) -> KernelConfig {
    let mut words = bytes.chunks_exact(4).map(|word| {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(word);
        u32::from_ne_bytes(bytes)
    });
    let mut next = || words.next().unwrap_or_default();
    KernelConfig {
        owner: next(),
        wide: next(),
        discover: next(),
        pad: next(),
    }
}

impl Kernel {
    /// The record of a job.
    pub fn record(&self, key: ProcessKey) -> Option<Record> {
        let bytes = self.records.get(&key_bytes(key), 0).ok()?;
        decode::read(&bytes).ok()
    }

    /// Every record. Programs that insert or delete meanwhile may make the walk skip or repeat entries, so it is only
    /// used at start and after a loss.
    pub fn all_records(&self) -> Vec<(ProcessKey, Record)> {
        self.records
            .iter()
            .filter_map(Result::ok)
            .filter_map(|(key, record)| Some((decode::read(&key).ok()?, decode::read(&record).ok()?)))
            .collect()
    }

    /// Drops a record and its first process's membership. Children that still live are no longer followed.
    pub fn remove(&mut self, key: ProcessKey) {
        let bytes = key_bytes(key);
        self.members.remove(&bytes);
        // Absent is fine: somebody else may have dropped it.
        let _absent = self.records.remove(&bytes);
    }

    /// Makes a process that runs already the first process of a job. False when it is one already.
    pub fn adopt(&mut self, key: ProcessKey, record: &Record) -> Result<bool, KernelError> {
        /// `BPF_NOEXIST`: an exec that the programs admitted meanwhile stays as it is.
        const NOEXIST: u64 = 1;
        let bytes = key_bytes(key);
        let mut value = [0; RECORD];
        value.copy_from_slice(decode::bytes_of(record));
        match self.records.insert(bytes, value, NOEXIST) {
            Ok(()) => {}
            Err(MapError::SyscallError(e)) if e.io_error.raw_os_error() == Some(libc::EEXIST) => {
                return Ok(false);
            }
            Err(source) => return Err(error(map::RECORDS)(source)),
        }
        match self.members.insert(&bytes, &bytes, NOEXIST) {
            Ok(()) => Ok(true),
            // Born into another job; the closure pass takes it out of there.
            Err(MapError::SyscallError(e)) if e.io_error.raw_os_error() == Some(libc::EEXIST) => Ok(true),
            Err(source) => {
                let _absent = self.records.remove(&bytes);
                Err(error(map::MEMBERS)(source))
            }
        }
    }

    /// The job that a live process belongs to.
    pub fn root_of(&self, key: ProcessKey) -> Option<ProcessKey> {
        let bytes = self.members.root_of(&key_bytes(key))?;
        decode::read(&bytes).ok()
    }

    /// Live processes of a job, by pid.
    pub fn members_of(&self, root: ProcessKey) -> Vec<ProcessKey> {
        let wanted = key_bytes(root);
        self.members
            .all()
            .filter(|(_, value)| *value == wanted)
            .filter_map(|(key, _)| decode::read(&key).ok())
            .collect()
    }

    /// Writes the pre-filter: these basenames are told, or everything when `wide`. Names are numbered from 1 in order.
    pub fn set_filter(&mut self, names: &[String], wide: bool) -> Result<(), KernelError> {
        let comms: Vec<[u8; COMM_LEN]> = names.iter().map(|name| padded(name)).collect();
        let fulls: Vec<[u8; NAME_LEN]> = names.iter().map(|name| padded(name)).collect();
        // New entries first, so that a name in both the old and the new filter is never out.
        for (index, (comm, full)) in comms.iter().zip(&fulls).enumerate() {
            self.comms.insert(comm, 1, 0).map_err(error(map::COMMS))?;
            self.names
                .insert(full, index as u32 + 1, 0)
                .map_err(error(map::NAMES))?;
        }
        for comm in self.comms.keys().filter_map(Result::ok).collect::<Vec<_>>() {
            if !comms.contains(&comm) {
                let _absent = self.comms.remove(&comm);
            }
        }
        for full in self.names.keys().filter_map(Result::ok).collect::<Vec<_>>() {
            if !fulls.contains(&full) {
                let _absent = self.names.remove(&full);
            }
        }
        self.switches.wide = u32::from(wide);
        self.switches.discover = u32::from(wide || !names.is_empty());
        self.write_switches()
    }

    /// What an earlier governor set.
    pub(super) fn read_switches(&mut self) -> Result<(), KernelError> {
        let bytes = self.config.get(&0, 0).map_err(error(map::CONFIG))?;
        self.switches = switches(&bytes);
        Ok(())
    }

    pub(super) fn write_switches(&mut self) -> Result<(), KernelError> {
        let KernelConfig {
            owner,
            wide,
            discover,
            pad,
        } = self.switches;
        let mut bytes = [0; CONFIG];
        for (place, word) in bytes.chunks_exact_mut(4).zip([owner, wide, discover, pad]) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        self.config.set(0, bytes, 0).map_err(error(map::CONFIG))
    }

    /// A counter, summed over CPUs.
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counts
            .get(&(counter as u32), 0)
            .map_or(0, |values| values.iter().sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_as_the_kernel_cuts_them() {
        let long = "a-very-long-program-name";
        assert_eq!(&padded::<16>(long), b"a-very-long-pro\0");
        assert_eq!(&padded::<16>("ffmpeg")[..7], b"ffmpeg\0");
    }
}
