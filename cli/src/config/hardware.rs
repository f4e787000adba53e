//! What this machine has, as far as a recommendation needs it. What cannot be read is absent, never guessed.

use std::fs;
use std::path::Path;

use procfs::Current;
use serde::Serialize;

/// Vendors of graphics hardware by their PCI number (pci.ids).
const VENDORS: [(&str, &str); 3] = [("0x10de", "NVIDIA"), ("0x1002", "AMD"), ("0x8086", "Intel")];

/// One GiB.
pub const GIB: u64 = 1 << 30;

/// The machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hardware {
    /// Model of its CPU.
    pub cpu_model: Option<String>,
    /// Threads this process may use.
    pub cpu_threads: u64,
    /// Memory.
    pub ram_bytes: Option<u64>,
    /// The same for people, for instance `15.6 GB`.
    pub ram_gb: Option<String>,
    /// Whether it has a GPU.
    pub has_gpu: bool,
    /// Its vendor and, where known, its model.
    pub gpu_type: Option<String>,
    /// `laptop`, `desktop` or `server`.
    pub node_type: NodeType,
    /// Operating system.
    pub os: &'static str,
    /// Instruction set.
    pub architecture: &'static str,
}

/// What sort of machine it is, by the predecessor's rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeType {
    /// It has a battery.
    Laptop,
    /// Neither of the others.
    Desktop,
    /// More than 16 threads and more than 32 GB.
    Server,
}

impl NodeType {
    fn of(battery: bool, threads: u64, ram: Option<u64>) -> Self {
        if battery {
            Self::Laptop
        } else if threads > 16 && ram.is_some_and(|ram| ram > 32 * GIB) {
            Self::Server
        } else {
            Self::Desktop
        }
    }
}

impl Hardware {
    /// Reads the machine below this root, `/` but for tests; CPU and memory are those of the running kernel.
    pub fn read(root: &Path) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
        let cpu = procfs::CpuInfo::current().ok();
        let cpu_model = cpu.and_then(|cpu| cpu.model_name(0).map(str::to_owned));
        let ram = procfs::Meminfo::current().ok().map(|memory| memory.mem_total);
        let gpu = gpu(root);
        Self::of(cpu_model, threads, ram, gpu, battery(root))
    }

    /// A machine with these parts.
    pub fn of(
        cpu_model: Option<String>,
        cpu_threads: u64,
        ram_bytes: Option<u64>,
        gpu_type: Option<String>,
        battery: bool,
    ) -> Self {
        Self {
            cpu_model,
            cpu_threads,
            ram_bytes,
            ram_gb: ram_bytes.map(|bytes| format!("{:.1} GB", bytes as f64 / GIB as f64)),
            has_gpu: gpu_type.is_some(),
            gpu_type,
            node_type: NodeType::of(battery, cpu_threads, ram_bytes),
            os: std::env::consts::OS,
            architecture: std::env::consts::ARCH,
        }
    }
}

fn entries(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .collect();
    paths.sort();
    paths
}

fn trimmed(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn battery(root: &Path) -> bool {
    entries(&root.join("sys/class/power_supply"))
        .iter()
        .any(|supply| trimmed(&supply.join("type")).as_deref() == Some("Battery"))
}

/// The first GPU that can compute: NVIDIA's driver names its model; others are known by a render node and their vendor.
fn gpu(root: &Path) -> Option<String> {
    if let Some(card) = entries(&root.join("proc/driver/nvidia/gpus")).first() {
        let information = trimmed(&card.join("information")).unwrap_or_default();
        let model = information.lines().find_map(|line| line.strip_prefix("Model:"));
        return Some(model.map_or("NVIDIA".to_owned(), |model| model.trim().to_owned()));
    }
    entries(&root.join("sys/class/drm"))
        .iter()
        .filter(|node| {
            let name = node.file_name().unwrap_or_default();
            name.to_string_lossy().starts_with("renderD")
        })
        .find_map(|node| {
            let vendor = trimmed(&node.join("device/vendor"))?;
            let known = VENDORS.iter().find(|(number, _)| *number == vendor);
            known.map(|(_, name)| (*name).to_owned())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_where_the_kernel_keeps_them() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!((gpu(root.path()), battery(root.path())), (None, false));
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("sys/class/power_supply/AC/type", "Mains\n");
        put("sys/class/drm/card0/device/vendor", "0x10de\n");
        assert_eq!((gpu(root.path()), battery(root.path())), (None, false));
        put("sys/class/power_supply/BAT0/type", "Battery\n");
        put("sys/class/drm/renderD128/device/vendor", "0x1002\n");
        assert_eq!(
            (gpu(root.path()).as_deref(), battery(root.path())),
            (Some("AMD"), true)
        );
        put(
            "proc/driver/nvidia/gpus/0000:01/information",
            "Model: \t NVIDIA RTX A4000\nIRQ: 1\n",
        );
        assert_eq!(gpu(root.path()).as_deref(), Some("NVIDIA RTX A4000"));
    }

    #[test]
    fn the_sort_of_machine_follows_the_predecessors_rule() {
        for (battery, threads, gib, sort) in [
            (true, 64, 256, NodeType::Laptop),
            (false, 16, 64, NodeType::Desktop),
            (false, 32, 32, NodeType::Desktop),
            (false, 32, 33, NodeType::Server),
        ] {
            assert_eq!(NodeType::of(battery, threads, Some(gib * GIB)), sort);
        }
        assert_eq!(NodeType::of(false, 64, None), NodeType::Desktop);
    }
}
