//! From one generation of programs to the next: an upgrade, a downgrade, or another map size.
//!
//! Both generations run side by side for the moment of it. The new one's filter opens before the old one's closes, so no
//! exec falls between them; one that both admit has the same key and is one record. Then the old one's records and
//! members are copied, each before it is looked at again, so that an exit in between is not missed. What the old ring
//! still holds is handed to the engine like an earlier governor's.
//!
//! It refuses to read a generation whose records have another layout: its programs go on, and a governor that knows
//! them takes their records over later.

use std::path::Path;

use aya::maps::{Array, HashMap, Map, MapData, MapError, RingBuf};
use ffrtmp_abi::{ABI_VERSION, Record, decode, map, state};

use super::{CONFIG, KEY, Kernel, KernelError, RECORD, maps, pins};

/// `BPF_NOEXIST`: what both generations admitted stays as the new one has it.
const NOEXIST: u64 = 1;

/// The maps of another generation.
struct Old {
    records: HashMap<MapData, [u8; KEY], [u8; RECORD]>,
    members: HashMap<MapData, [u8; KEY], [u8; KEY]>,
    comms: HashMap<MapData, [u8; ffrtmp_abi::COMM_LEN], u32>,
    names: HashMap<MapData, [u8; ffrtmp_abi::NAME_LEN], u32>,
    config: Array<MapData, [u8; CONFIG]>,
    ring: RingBuf<MapData>,
}

impl Old {
    fn open(directory: &Path) -> Result<Self, KernelError> {
        let data = |name: &'static str| MapData::from_pin(directory.join(name)).map_err(maps::error(name));
        let hash = |name| data(name).map(Map::HashMap);
        Ok(Self {
            records: HashMap::try_from(hash(map::RECORDS)?).map_err(maps::error(map::RECORDS))?,
            members: HashMap::try_from(hash(map::MEMBERS)?).map_err(maps::error(map::MEMBERS))?,
            comms: HashMap::try_from(hash(map::COMMS)?).map_err(maps::error(map::COMMS))?,
            names: HashMap::try_from(hash(map::NAMES)?).map_err(maps::error(map::NAMES))?,
            config: Array::try_from(Map::Array(data(map::CONFIG)?)).map_err(maps::error(map::CONFIG))?,
            ring: RingBuf::try_from(Map::RingBuf(data(map::RING)?)).map_err(maps::error(map::RING))?,
        })
    }
}

impl Kernel {
    /// Takes over what other generations recorded, and ends their programs. One that cannot be taken over goes on.
    pub(super) fn take_over_others(&mut self) {
        let others = match self.pins.as_ref().map(pins::Pins::others) {
            None => return,
            Some(Ok(others)) => others,
            Some(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "programs of another version cannot be looked for");
                return;
            }
        };
        for directory in others {
            if let Err(why) = self.take_over_one(&directory) {
                tracing::warn!(
                    pins = %directory.display(),
                    why,
                    "the kernel programs of another version go on and keep their records; `ffrtmp-governor --cleanup` ends them"
                );
            }
        }
    }

    fn take_over_one(&mut self, directory: &Path) -> Result<(), String> {
        let name = directory.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with(&format!("v{ABI_VERSION}-")) {
            return Err("its records have a layout that this version does not know".to_owned());
        }
        let ended = |error: pins::PinsError| error.to_string();
        let mut old = match Old::open(directory) {
            Ok(old) => old,
            // A start that was cut short: without all maps no program ever ran.
            Err(_) if !directory.join(map::CONFIG).exists() => return pins::remove(directory).map_err(ended),
            Err(error) => return Err(error.to_string()),
        };
        let copied = self.copy(&mut old).map_err(|error| error.to_string())?;
        while let Some(item) = old.ring.next() {
            self.handed.push(item.to_vec());
        }
        pins::remove(directory).map_err(ended)?;
        self.resumed = true;
        tracing::info!(generation = %name, records = copied, entries = self.handed.len(), "took over from the programs of another version");
        Ok(())
    }

    fn copy(&mut self, old: &mut Old) -> Result<usize, KernelError> {
        self.open_as(old)?;
        // The one instant: from here on only the new programs admit.
        old.config
            .set(0, [0; CONFIG], 0)
            .map_err(maps::error(map::CONFIG))?;
        let keys: Vec<[u8; KEY]> = old.records.keys().filter_map(Result::ok).collect();
        for key in &keys {
            let Ok(record) = old.records.get(key, 0) else {
                continue;
            };
            exists_is_fine(self.records.insert(key, record, NOEXIST)).map_err(maps::error(map::RECORDS))?;
        }
        // Twice, for a child born during the first walk.
        for _ in 0..2 {
            for (member, root) in old.members.iter().filter_map(Result::ok) {
                exists_is_fine(self.members.insert(&member, &root, NOEXIST))
                    .map_err(maps::error(map::MEMBERS))?;
            }
        }
        for key in &keys {
            self.copy_end(old, key)?;
        }
        Ok(keys.len())
    }

    /// A process that ended while it was copied has its end in the old record only.
    fn copy_end(&mut self, old: &Old, key: &[u8; KEY]) -> Result<(), KernelError> {
        let Ok(bytes) = old.records.get(key, 0) else {
            return Ok(());
        };
        let ended = decode::read::<Record>(&bytes).is_ok_and(|record| record.state == state::EXITED);
        if ended {
            self.members.remove(key);
            self.records
                .insert(key, bytes, 0)
                .map_err(maps::error(map::RECORDS))?;
        }
        Ok(())
    }

    /// Lets the new programs admit what the old ones do; the rules' own filter follows.
    fn open_as(&mut self, old: &Old) -> Result<(), KernelError> {
        for (comm, number) in old.comms.iter().filter_map(Result::ok) {
            self.comms
                .insert(comm, number, 0)
                .map_err(maps::error(map::COMMS))?;
        }
        for (name, number) in old.names.iter().filter_map(Result::ok) {
            self.names
                .insert(name, number, 0)
                .map_err(maps::error(map::NAMES))?;
        }
        let words = old.config.get(&0, 0).map_err(maps::error(map::CONFIG))?;
        let words = maps::switches(&words);
        self.switches.wide |= words.wide;
        self.switches.discover |= words.discover;
        self.write_switches()
    }
}

fn exists_is_fine(inserted: Result<(), MapError>) -> Result<(), MapError> {
    match inserted {
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        other => other,
    }
}
