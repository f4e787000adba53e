//! The kernel programs from user space: load, attach, read, adopt. Nothing here decides anything.
//!
//! Maps are handled as plain bytes of the sizes the ABI crate fixes; [`ffrtmp_abi::decode`] turns them into values.

mod btf;
mod error;
mod handover;
mod iterators;
mod maps;
mod members;
pub mod pins;
mod rows;
pub mod spool;

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray, RingBuf};
use aya::programs::BtfTracePoint;
use aya::programs::links::FdLink;
use aya::{Btf, Ebpf, EbpfLoader};
use ffrtmp_abi::decode::{self, Entry};
use ffrtmp_abi::{KernelConfig, map, offset, program};

pub use btf::Layout;
pub use error::KernelError;
use iterators::Iterators;
use members::Members;
use pins::Pins;
use spool::Spool;

/// The compiled programs. `cargo xtask ebpf check` proves that they come from `ebpf/programs`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../../ebpf/ffrtmp.bpf.o");

/// Where the running kernel shows its types.
pub const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

const KEY: usize = size_of::<ffrtmp_abi::ProcessKey>();
const RECORD: usize = size_of::<ffrtmp_abi::Record>();
const CONFIG: usize = size_of::<KernelConfig>();

/// How the programs are loaded.
#[derive(Debug, Clone)]
pub struct KernelOptions {
    /// Most records kept at once; 272 B of kernel memory each.
    pub records: u32,
    /// Size of the ring, a power of two, bytes.
    pub ring_bytes: u32,
    /// Directory below which everything is pinned; `None` for programs that end with this process.
    pub pins: Option<PathBuf>,
    /// File for arguments that are not on disk yet; used only with pins.
    pub spool: Option<PathBuf>,
}

impl Default for KernelOptions {
    fn default() -> Self {
        Self {
            records: 65_536,
            ring_bytes: 8 << 20,
            pins: None,
            spool: None,
        }
    }
}

/// The loaded and attached programs. Dropping it detaches them, unless they are pinned.
pub struct Kernel {
    iterators: Iterators,
    ring: RingBuf<MapData>,
    records: HashMap<MapData, [u8; KEY], [u8; RECORD]>,
    members: Members,
    comms: HashMap<MapData, [u8; ffrtmp_abi::COMM_LEN], u32>,
    names: HashMap<MapData, [u8; ffrtmp_abi::NAME_LEN], u32>,
    counts: PerCpuArray<MapData, u64>,
    config: Array<MapData, [u8; CONFIG]>,
    switches: KernelConfig,
    off: Arc<OnceLock<Vec<String>>>,
    pins: Option<Pins>,
    spool: Option<Spool>,
    /// Entries of another generation's ring, to be told once.
    handed: Vec<Vec<u8>>,
    resumed: bool,
}

impl Kernel {
    /// Loads and attaches the programs. They look at nothing until [`Self::set_filter`].
    pub fn load(options: &KernelOptions) -> Result<Self, KernelError> {
        let other = other_object()?;
        let object = other.as_deref().unwrap_or(OBJECT);
        let pins = options
            .pins
            .as_ref()
            .map(|base| Pins::open(base, &pins::generation(object, options)))
            .transpose()?;
        let mut kernel = match pins {
            Some(pins) if pins.complete() => Self::resume(pins, options)?,
            pins => Self::start(object, pins, options)?,
        };
        kernel.take_over_others();
        Ok(kernel)
    }

    /// A governor before us pinned everything: maps and iterators are opened, nothing is loaded. The filter stays as it is,
    /// so that nothing is missed until ours is written.
    fn resume(pins: Pins, options: &KernelOptions) -> Result<Self, KernelError> {
        let open = |name: &'static str| {
            MapData::from_pin(pins.path(name))
                .and_then(Map::from_map_data)
                .map_err(maps::error(name))
        };
        let mut kernel = Self::assemble(open)?;
        kernel.iterators = Iterators::pinned(&pins);
        kernel.spool = options.spool.as_deref().and_then(open_spool);
        kernel.pins = Some(pins);
        kernel.resumed = true;
        kernel.read_switches()?;
        kernel.switches.owner = std::process::id();
        kernel.write_switches()?;
        tell_later(Arc::clone(&kernel.off));
        Ok(kernel)
    }

    fn start(object: &[u8], pins: Option<Pins>, options: &KernelOptions) -> Result<Self, KernelError> {
        let layout = Layout::read(Path::new(BTF_PATH))?;
        let btf = Btf::from_sys_fs().map_err(|source| KernelError::Btf {
            path: BTF_PATH.into(),
            why: source.to_string(),
        })?;
        let mut loader = EbpfLoader::new();
        loader.btf(Some(&btf));
        for (symbol, offset) in &layout.offsets {
            loader.override_global(symbol, offset, true);
        }
        loader.override_global(offset::CONTROLLERS, &layout.controllers, true);
        loader
            .map_max_entries(map::RECORDS, options.records)
            .map_max_entries(map::MEMBERS, options.records)
            .map_max_entries(map::RING, options.ring_bytes);
        if let Some(pins) = &pins {
            // What a start that was cut short left is not taken for whole.
            pins.clear()?;
            for name in pins::MAPS {
                loader.map_pin_path(name, pins.path(name));
            }
        }
        let mut ebpf = loader.load(object).map_err(KernelError::object)?;
        iterators::load(&mut ebpf, &btf, pins.as_ref())?;
        let mut kernel = Self::assemble(|name| maps::take(&mut ebpf, name))?;
        kernel.write_switches()?;
        attach(&mut ebpf, &btf, &layout, pins.as_ref())?;
        kernel.iterators = Iterators::Loaded(Box::new(ebpf));
        kernel.off = OnceLock::from(layout.off()).into();
        kernel.spool = pins.as_ref().and(options.spool.as_deref()).and_then(open_spool);
        kernel.pins = pins;
        Ok(kernel)
    }

    /// The maps, with nothing else yet.
    fn assemble(mut open: impl FnMut(&'static str) -> Result<Map, KernelError>) -> Result<Self, KernelError> {
        let error = maps::error;
        Ok(Self {
            iterators: Iterators::none(),
            ring: RingBuf::try_from(open(map::RING)?).map_err(error(map::RING))?,
            records: HashMap::try_from(open(map::RECORDS)?).map_err(error(map::RECORDS))?,
            members: Members::new(open(map::MEMBERS)?, open(map::NEAR)?)?,
            comms: HashMap::try_from(open(map::COMMS)?).map_err(error(map::COMMS))?,
            names: HashMap::try_from(open(map::NAMES)?).map_err(error(map::NAMES))?,
            counts: PerCpuArray::try_from(open(map::COUNTERS)?).map_err(error(map::COUNTERS))?,
            config: Array::try_from(open(map::CONFIG)?).map_err(error(map::CONFIG))?,
            switches: KernelConfig {
                owner: std::process::id(),
                ..KernelConfig::default()
            },
            off: Arc::default(),
            spool: None,
            pins: None,
            handed: Vec::new(),
            resumed: false,
        })
    }

    /// True when the programs ran before this process did.
    pub fn resumed(&self) -> bool {
        self.resumed
    }

    /// Descriptor that becomes readable when the ring has entries.
    pub fn ring(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }

    /// Takes up to `limit` entries from the ring. An entry that cannot be decoded is counted by the caller.
    pub fn drain(&mut self, limit: usize, entries: &mut Vec<Result<Entry, decode::DecodeError>>) -> usize {
        let mut taken = 0;
        while taken < limit {
            let Some(item) = self.ring.next() else { break };
            let entry = decode::entry(&item);
            // Before the ring lets it go, which is when the item is dropped.
            if let (Some(spool), Ok(Entry::Exec(_))) = (&mut self.spool, &entry) {
                spool.push(&item);
            }
            entries.push(entry);
            taken += 1;
        }
        taken
    }

    /// Exec entries that an earlier governor took from the ring and had not saved; once.
    pub fn left_entries(&mut self) -> Vec<Result<Entry, decode::DecodeError>> {
        let mut left = self.spool.as_mut().map(Spool::take_left).unwrap_or_default();
        let handed = std::mem::take(&mut self.handed);
        if let Some(spool) = &mut self.spool {
            for entry in &handed {
                spool.push(entry);
            }
        }
        left.extend(handed);
        left.iter().map(|bytes| decode::entry(bytes)).collect()
    }

    /// Lets go of arguments that are on disk: `sent` orders went to the ledger, `written` of them are committed.
    pub fn settle(&mut self, sent: u64, written: u64) {
        let Some(spool) = &mut self.spool else { return };
        if let Err(error) = spool.settle(sent, written) {
            tracing::warn!(%error, "arguments that are not on disk yet cannot be kept; a kill would lose them");
            self.spool = None;
        }
    }

    /// Exec entries whose arguments a kill would have lost, since the start.
    pub fn unspooled(&self) -> u64 {
        self.spool.as_ref().map_or(0, Spool::skipped)
    }

    /// What is off on this kernel, a sentence each. Empty for a moment after the start of a governor that took pinned
    /// programs over.
    pub fn off(&self) -> &[String] {
        self.off.get().map_or(&[], Vec::as_slice)
    }
}

/// Attaches every program, and pins its link where there are pins.
fn attach(ebpf: &mut Ebpf, btf: &Btf, layout: &Layout, pins: Option<&Pins>) -> Result<(), KernelError> {
    for (name, tracepoint) in links(layout) {
        let failed = |source| KernelError::Program {
            name,
            source: Box::new(source),
        };
        let program: &mut BtfTracePoint = ebpf
            .program_mut(name)
            .ok_or(KernelError::MissingProgram { name })?
            .try_into()
            .map_err(failed)?;
        program.load(tracepoint, btf).map_err(failed)?;
        let link = program.attach().map_err(failed)?;
        if let Some(pins) = pins {
            let link = FdLink::from(program.take_link(link).map_err(failed)?);
            link.pin(pins.path(name)).map_err(|source| KernelError::Pin {
                name,
                source: Box::new(source),
            })?;
        }
    }
    Ok(())
}

/// What the kernel lacks is no news to programs that run already, and reading its types takes longer than all the rest of a
/// restart. So it is told once it is known.
fn tell_later(off: Arc<OnceLock<Vec<String>>>) {
    let told = std::thread::Builder::new()
        .name("layout".to_owned())
        .spawn(move || match Layout::read(Path::new(BTF_PATH)) {
            Ok(layout) => drop(off.set(layout.off())),
            Err(error) => tracing::warn!(%error, "what is off on this kernel cannot be told"),
        });
    if let Err(error) = told {
        tracing::warn!(%error, "what is off on this kernel cannot be told");
    }
}

/// Without it a kill costs arguments and nothing else, so its absence ends nothing.
fn open_spool(path: &Path) -> Option<Spool> {
    Spool::open(path)
        .inspect_err(|error| {
            tracing::warn!(%error, path = %path.display(), "arguments that are not on disk yet cannot be kept");
        })
        .ok()
}

/// Programs and their tracepoints, in the order of attaching: the exit program first, because a record that exists must
/// never miss its exit.
fn links(layout: &Layout) -> [(&'static str, &'static str); 5] {
    let exit = if layout.exit_has_group_dead {
        program::EXIT_GROUP
    } else {
        program::EXIT_PLAIN
    };
    [
        (exit, "sched_process_exit"),
        (program::FORK, "sched_process_fork"),
        (program::SIGNAL, "signal_generate"),
        (program::MOVE, "cgroup_attach_task"),
        (program::EXEC, "sched_process_exec"),
    ]
}

/// An object named by the environment; it replaces the embedded one so that tests can run a rebuilt object. Who sets the
/// environment of a root process owns it anyway.
fn other_object() -> Result<Option<Vec<u8>>, KernelError> {
    let Some(path) = std::env::var_os("FFRTMP_BPF_OBJECT") else {
        return Ok(None);
    };
    let path = std::path::PathBuf::from(path);
    std::fs::read(&path)
        .map(Some)
        .map_err(|source| KernelError::OtherObject { path, source })
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernel")
            .field("switches", &self.switches)
            .field("off", &self.off)
            .finish_non_exhaustive()
    }
}
