//! Who belongs to which job, as the programs know it, and the counts they ask first: see `ebpf/programs/src/members.rs`.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU64, Ordering};

use aya::maps::{HashMap, Map, MapData, MapError};
use ffrtmp_abi::{NEAR_SLOTS, ProcessKey, decode, map, near_slot};
use memmap2::{MmapOptions, MmapRaw};

use super::{KEY, KernelError, maps};

/// The two maps.
pub(super) struct Members {
    map: HashMap<MapData, [u8; KEY], [u8; KEY]>,
    /// [`NEAR_SLOTS`] counts, shared with the programs.
    near: MmapRaw,
    /// Its descriptor, by whose number the programs ask for it when they are loaded.
    _near: MapData,
}

impl Members {
    /// Takes the maps `MEMBERS` and `NEAR`.
    pub(super) fn new(members: Map, near: Map) -> Result<Self, KernelError> {
        let Map::Array(near) = near else {
            return Err(KernelError::MissingMap { name: map::NEAR });
        };
        let mapped = MmapOptions::new()
            .len(NEAR_SLOTS as usize * size_of::<u64>())
            .map_raw(near.fd().as_fd().as_raw_fd());
        Ok(Self {
            map: HashMap::try_from(members).map_err(maps::error(map::MEMBERS))?,
            near: mapped.map_err(|source| KernelError::Mapped {
                name: map::NEAR,
                source,
            })?,
            _near: near,
        })
    }

    /// Makes a process a member. `flags` are those of `BPF_MAP_UPDATE_ELEM`.
    pub(super) fn insert(&mut self, key: &[u8; KEY], root: &[u8; KEY], flags: u64) -> Result<(), MapError> {
        // Before the key is there, so that no program misses it.
        self.add(key, 1);
        self.map
            .insert(key, root, flags)
            .inspect_err(|_| self.add(key, u64::MAX))
    }

    /// Takes a process out; one that is not there is fine, because the exit program takes them out by itself.
    pub(super) fn remove(&mut self, key: &[u8; KEY]) {
        if self.map.remove(key).is_ok() {
            self.add(key, u64::MAX);
        }
    }

    /// The job of a member.
    pub(super) fn root_of(&self, key: &[u8; KEY]) -> Option<[u8; KEY]> {
        self.map.get(key, 0).ok()
    }

    /// Every member with its job.
    pub(super) fn all(&self) -> impl Iterator<Item = ([u8; KEY], [u8; KEY])> {
        self.map.iter().filter_map(Result::ok)
    }

    #[expect(clippy::cast_ptr_alignment, reason = "a mapping begins with a page")]
    fn add(&self, key: &[u8; KEY], value: u64) {
        let Ok(key) = decode::read::<ProcessKey>(key) else {
            return;
        };
        let at = near_slot(key.pid) as usize;
        // SAFETY: a slot is below the mapping's length, and everybody changes it whole.
        let count = unsafe { &*self.near.as_mut_ptr().cast::<AtomicU64>().add(at) };
        count.fetch_add(value, Ordering::SeqCst);
    }
}
