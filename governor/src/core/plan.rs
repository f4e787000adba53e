//! Turns limits into the writes that enforce them, for the hierarchies a machine has.
//!
//! Owns which file carries which limit under cgroup v2 and v1, in which order and with which value. It knows no path,
//! opens nothing, and decides nothing about nice, disk priority or the out-of-memory score: those belong to the process,
//! not to a group.

use ffrtmp_api::{CpuMax, Limits};

/// A controller that some limit or figure needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Controller {
    /// CPU bandwidth and weight.
    Cpu,
    /// Memory.
    Memory,
    /// Number of tasks.
    Pids,
    /// Which CPUs.
    Cpuset,
    /// Block devices; `io` on v2, `blkio` on v1.
    Io,
}

/// Which interface a hierarchy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// One hierarchy for some controllers.
    V1,
    /// The unified hierarchy.
    V2,
}

impl Controller {
    /// Every controller the planner knows.
    pub const ALL: [Self; 5] = [Self::Cpu, Self::Memory, Self::Pids, Self::Cpuset, Self::Io];

    /// The kernel's name of it.
    pub const fn name(self, version: Version) -> &'static str {
        match (self, version) {
            (Self::Cpu, _) => "cpu",
            (Self::Memory, _) => "memory",
            (Self::Pids, _) => "pids",
            (Self::Cpuset, _) => "cpuset",
            (Self::Io, Version::V2) => "io",
            (Self::Io, Version::V1) => "blkio",
        }
    }
}

/// What one hierarchy offers. Its position in the list is its number in a [`Write`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Interface.
    pub version: Version,
    /// Controllers that can be had below our tree.
    pub controllers: Vec<Controller>,
}

/// Who in the kernel shares a disk out by weight. Without one the weight files may exist and do nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DiskSharing {
    /// The BFQ scheduler runs at least one disk.
    Bfq,
    /// iocost is enabled for at least one disk (`io.cost.qos`, v2 only).
    Iocost,
    /// The CFQ scheduler of kernels before 5.0 (v1 only).
    Cfq,
    /// Nobody.
    #[default]
    Nobody,
}

/// One write, and which limit it serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Position of the hierarchy in the list of offers.
    pub hierarchy: usize,
    /// Controller that owns the file.
    pub controller: Controller,
    /// File in the job's group.
    pub file: &'static str,
    /// What to write.
    pub value: String,
    /// Field of [`Limits`].
    pub limit: &'static str,
}

/// Everything to be done in control groups for one job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Hierarchies the job joins, in order of their numbers.
    pub joins: Vec<usize>,
    /// Controllers to have in the job's group: those with writes, and memory for its peak.
    pub controllers: Vec<(usize, Controller)>,
    /// In the order they must happen.
    pub writes: Vec<Write>,
    /// Limits that cannot be enforced, a sentence each.
    pub warnings: Vec<String>,
    /// What a limit leaves open even where it is in force: field of [`Limits`], and a sentence.
    pub caveats: Vec<(&'static str, &'static str)>,
}

/// What a write ceiling leaves open under v1, where the writeback of buffered data is charged to the root group.
pub const V1_WRITES: &str = "io_max holds back direct and synchronous writes only: cgroup v1 does not know whose \
                             buffered data is written";

/// The sentence for a limit that is not in force.
pub fn not_enforced(limit: &str, why: impl std::fmt::Display) -> String {
    format!("{limit} is not enforced: {why}")
}

/// Plans the writes for `limits` over the hierarchies offered.
///
/// The v2 hierarchy is joined always, because it gives the job its identity and its network figures; v1 hierarchies only
/// where a limit or a figure needs them, because each one costs every placement a move.
pub fn plan(limits: &Limits, offers: &[Offer], sharing: DiskSharing) -> Plan {
    let mut draft = Draft {
        offers,
        plan: Plan::default(),
    };
    for (number, offer) in offers.iter().enumerate() {
        if offer.version == Version::V2 {
            draft.plan.joins.push(number);
        }
    }
    // The peak of memory is wanted of every job, limited or not.
    if let Some(home) = draft.home(Controller::Memory) {
        draft.need(home, Controller::Memory);
    }
    if let Some(max) = limits.cpu_max {
        draft.cpu_max(max);
    }
    if let Some(weight) = limits.cpu_weight {
        draft.cpu_weight(weight);
    }
    if let Some(bytes) = limits.memory_max {
        draft.put("memory_max", Controller::Memory, |version| {
            vec![match version {
                Version::V2 => ("memory.max", bytes.to_string()),
                Version::V1 => ("memory.limit_in_bytes", bytes.to_string()),
            }]
        });
    }
    if let Some(tasks) = limits.pids_max {
        draft.put("pids_max", Controller::Pids, |_| {
            vec![("pids.max", tasks.to_string())]
        });
    }
    if let Some(cpus) = &limits.cpu_set {
        draft.put("cpu_set", Controller::Cpuset, |_| {
            vec![("cpuset.cpus", cpus.clone())]
        });
    }
    if let Some(weight) = limits.io_weight {
        draft.io_weight(weight, sharing);
    }
    if let Some(text) = &limits.io_max {
        draft.io_max(text);
    }
    draft.plan.joins.sort_unstable();
    draft.plan
}

/// `cpu.shares` for a weight: v1 knows 1024 where v2 knows 100, and takes no less than 2.
pub fn shares(weight: u32) -> u64 {
    (u64::from(weight) * 1024 / 100).max(2)
}

/// Maps 1..=100 linearly onto `low..=high`.
pub fn scale_io_weight(weight: u32, low: u32, high: u32) -> u32 {
    let step = weight.clamp(1, 100) - 1;
    low + (step * (high - low) + 49) / 99
}

struct Draft<'a> {
    offers: &'a [Offer],
    plan: Plan,
}

impl Draft<'_> {
    fn home(&self, controller: Controller) -> Option<usize> {
        self.offers
            .iter()
            .position(|offer| offer.controllers.contains(&controller))
    }

    fn need(&mut self, hierarchy: usize, controller: Controller) {
        if !self.plan.joins.contains(&hierarchy) {
            self.plan.joins.push(hierarchy);
        }
        if !self.plan.controllers.contains(&(hierarchy, controller)) {
            self.plan.controllers.push((hierarchy, controller));
        }
    }

    fn refuse(&mut self, limit: &str, why: impl std::fmt::Display) {
        self.plan.warnings.push(not_enforced(limit, why));
    }

    /// Plans the files of one limit wherever its controller lives.
    fn put(
        &mut self,
        limit: &'static str,
        controller: Controller,
        files: impl FnOnce(Version) -> Vec<(&'static str, String)>,
    ) {
        let Some(hierarchy) = self.home(controller) else {
            let name = controller.name(Version::V2);
            self.refuse(
                limit,
                format_args!("no control group hierarchy here offers the {name} controller"),
            );
            return;
        };
        self.need(hierarchy, controller);
        for (file, value) in files(self.offers[hierarchy].version) {
            self.plan.writes.push(Write {
                hierarchy,
                controller,
                file,
                value,
                limit,
            });
        }
    }

    fn cpu_max(&mut self, max: CpuMax) {
        self.put("cpu_max", Controller::Cpu, |version| match version {
            Version::V2 => vec![("cpu.max", max.to_string())],
            // The period goes first: a quota is checked against the period in force.
            Version::V1 => vec![
                ("cpu.cfs_period_us", max.period_us.to_string()),
                (
                    "cpu.cfs_quota_us",
                    max.quota_us
                        .map_or_else(|| "-1".to_owned(), |quota| quota.to_string()),
                ),
            ],
        });
    }

    fn cpu_weight(&mut self, weight: u32) {
        self.put("cpu_weight", Controller::Cpu, |version| {
            vec![match version {
                Version::V2 => ("cpu.weight", weight.to_string()),
                Version::V1 => ("cpu.shares", shares(weight).to_string()),
            }]
        });
    }

    /// Ranges: iocost takes 1 to 10000, BFQ 1 to 1000 in both versions, CFQ 10 to 1000.
    fn io_weight(&mut self, weight: u32, sharing: DiskSharing) {
        let version = self
            .home(Controller::Io)
            .map(|hierarchy| self.offers[hierarchy].version);
        let (file, value) = match (version, sharing) {
            (Some(Version::V2), DiskSharing::Iocost) => ("io.weight", scale_io_weight(weight, 1, 10_000)),
            (Some(Version::V2), DiskSharing::Bfq) => ("io.bfq.weight", scale_io_weight(weight, 1, 1_000)),
            (Some(Version::V1), DiskSharing::Bfq) => ("blkio.bfq.weight", scale_io_weight(weight, 1, 1_000)),
            (Some(Version::V1), DiskSharing::Cfq) => ("blkio.weight", scale_io_weight(weight, 10, 1_000)),
            (Some(_), _) => {
                return self.refuse(
                    "io_weight",
                    "no disk here is shared by weight; use the bfq scheduler (/sys/block/DISK/queue/scheduler) or iocost",
                );
            }
            (None, _) => {
                return self.refuse(
                    "io_weight",
                    "no control group hierarchy here offers the io controller",
                );
            }
        };
        self.put("io_weight", Controller::Io, |_| vec![(file, value.to_string())]);
    }

    fn io_max(&mut self, text: &str) {
        let disks = match parse_io_max(text) {
            Ok(disks) => disks,
            Err(why) => return self.refuse("io_max", why),
        };
        let home = self.home(Controller::Io).map(|home| self.offers[home].version);
        if home == Some(Version::V1) && disks.iter().any(DiskMax::limits_writes) {
            self.plan.caveats.push(("io_max", V1_WRITES));
        }
        self.put("io_max", Controller::Io, |version| match version {
            Version::V2 => disks.iter().map(|disk| ("io.max", disk.as_v2())).collect(),
            Version::V1 => disks.iter().flat_map(DiskMax::as_v1).collect(),
        });
    }
}

/// One line of `io.max`: a disk and its ceilings; `None` means `max`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct DiskMax {
    device: String,
    ceilings: Vec<(Ceiling, Option<u64>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ceiling {
    v2: &'static str,
    v1: &'static str,
}

const CEILINGS: [Ceiling; 4] = [
    Ceiling {
        v2: "rbps",
        v1: "blkio.throttle.read_bps_device",
    },
    Ceiling {
        v2: "wbps",
        v1: "blkio.throttle.write_bps_device",
    },
    Ceiling {
        v2: "riops",
        v1: "blkio.throttle.read_iops_device",
    },
    Ceiling {
        v2: "wiops",
        v1: "blkio.throttle.write_iops_device",
    },
];

impl DiskMax {
    fn limits_writes(&self) -> bool {
        let mut ceilings = self.ceilings.iter();
        ceilings.any(|(ceiling, value)| ceiling.v2.starts_with('w') && value.is_some())
    }

    fn as_v2(&self) -> String {
        let show = |value: &Option<u64>| value.map_or_else(|| "max".to_owned(), |value| value.to_string());
        let ceilings = self
            .ceilings
            .iter()
            .map(|(ceiling, value)| format!("{}={}", ceiling.v2, show(value)));
        let words: Vec<String> = std::iter::once(self.device.clone()).chain(ceilings).collect();
        words.join(" ")
    }

    /// v1 writes 0 where v2 writes `max`.
    fn as_v1(&self) -> Vec<(&'static str, String)> {
        self.ceilings
            .iter()
            .map(|(ceiling, value)| (ceiling.v1, format!("{} {}", self.device, value.unwrap_or(0))))
            .collect()
    }
}

/// Reads `MAJOR:MINOR KEY=VALUE...`, a line or a `;` between disks.
fn parse_io_max(text: &str) -> Result<Vec<DiskMax>, String> {
    let form = "write MAJOR:MINOR and some of rbps= wbps= riops= wiops=, such as \"8:0 wbps=1048576\"";
    let wrong = |what: &str| format!("{what:?} is not understood; {form}");
    let mut disks = Vec::new();
    for line in text
        .split(['\n', ';'])
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        let mut words = line.split_whitespace();
        let device = words.next().ok_or_else(|| wrong(line))?;
        let numbers = device.split_once(':').ok_or_else(|| wrong(device))?;
        if numbers.0.parse::<u32>().is_err() || numbers.1.parse::<u32>().is_err() {
            return Err(wrong(device));
        }
        let mut ceilings = Vec::new();
        for word in words {
            let (key, value) = word.split_once('=').ok_or_else(|| wrong(word))?;
            let ceiling = CEILINGS
                .into_iter()
                .find(|ceiling| ceiling.v2 == key)
                .ok_or_else(|| wrong(word))?;
            let value = match value {
                "max" => None,
                // The kernel refuses 0, and 0 would lift the ceiling under v1.
                number => Some(
                    number
                        .parse::<u64>()
                        .ok()
                        .filter(|&value| value > 0)
                        .ok_or_else(|| wrong(word))?,
                ),
            };
            ceilings.push((ceiling, value));
        }
        if ceilings.is_empty() {
            return Err(wrong(line));
        }
        disks.push(DiskMax {
            device: device.to_owned(),
            ceilings,
        });
    }
    if disks.is_empty() {
        Err(wrong(text))
    } else {
        Ok(disks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(controllers: &[Controller]) -> Vec<Offer> {
        vec![Offer {
            version: Version::V2,
            controllers: controllers.to_vec(),
        }]
    }

    fn v1() -> Vec<Offer> {
        Controller::ALL
            .into_iter()
            .map(|controller| Offer {
                version: Version::V1,
                controllers: vec![controller],
            })
            .collect()
    }

    fn hybrid() -> Vec<Offer> {
        v2(&[]).into_iter().chain(v1()).collect()
    }

    fn everything() -> Limits {
        Limits {
            cpu_max: "20000 100000".parse().ok(),
            cpu_weight: Some(200),
            memory_max: Some(512 << 20),
            io_weight: Some(50),
            io_max: Some("8:0 rbps=1048576 wiops=max".to_owned()),
            pids_max: Some(64),
            cpu_set: Some("0-1".to_owned()),
            ..Limits::default()
        }
    }

    fn lines(plan: &Plan) -> Vec<String> {
        plan.writes
            .iter()
            .map(|write| {
                format!(
                    "{} {} = {} ({})",
                    write.hierarchy, write.file, write.value, write.limit
                )
            })
            .collect()
    }

    #[test]
    fn on_v2_every_limit_goes_to_the_one_hierarchy() {
        let plan = plan(&everything(), &v2(&Controller::ALL), DiskSharing::Iocost);
        assert_eq!(plan.joins, [0]);
        assert_eq!(plan.warnings, Vec::<String>::new());
        insta::assert_snapshot!(lines(&plan).join("\n"), @r"
        0 cpu.max = 20000 100000 (cpu_max)
        0 cpu.weight = 200 (cpu_weight)
        0 memory.max = 536870912 (memory_max)
        0 pids.max = 64 (pids_max)
        0 cpuset.cpus = 0-1 (cpu_set)
        0 io.weight = 4950 (io_weight)
        0 io.max = 8:0 rbps=1048576 wiops=max (io_max)
        ");
    }

    #[test]
    fn on_hybrid_each_limit_goes_to_the_hierarchy_of_its_controller() {
        let plan = plan(&everything(), &hybrid(), DiskSharing::Bfq);
        assert_eq!(plan.joins, [0, 1, 2, 3, 4, 5]);
        assert_eq!(plan.caveats, [], "a ceiling on writes that says max limits none");
        insta::assert_snapshot!(lines(&plan).join("\n"), @r"
        1 cpu.cfs_period_us = 100000 (cpu_max)
        1 cpu.cfs_quota_us = 20000 (cpu_max)
        1 cpu.shares = 2048 (cpu_weight)
        2 memory.limit_in_bytes = 536870912 (memory_max)
        3 pids.max = 64 (pids_max)
        4 cpuset.cpus = 0-1 (cpu_set)
        5 blkio.bfq.weight = 495 (io_weight)
        5 blkio.throttle.read_bps_device = 8:0 1048576 (io_max)
        5 blkio.throttle.write_iops_device = 8:0 0 (io_max)
        ");
    }

    #[test]
    fn under_v1_a_ceiling_on_writes_says_which_writes_it_holds_back() {
        let limits = Limits {
            io_max: Some("8:0 rbps=1; 8:16 wbps=1".to_owned()),
            ..Limits::default()
        };
        let caveats = |offers: &[Offer]| plan(&limits, offers, DiskSharing::Nobody).caveats;
        assert_eq!(caveats(&v1()), [("io_max", V1_WRITES)]);
        assert_eq!(caveats(&v2(&Controller::ALL)), []);
    }

    #[test]
    fn a_job_without_limits_joins_only_identity_and_memory() {
        assert_eq!(
            plan(&Limits::default(), &hybrid(), DiskSharing::Nobody).joins,
            [0, 2]
        );
        assert_eq!(plan(&Limits::default(), &v1(), DiskSharing::Nobody).joins, [1]);
    }

    #[test]
    fn a_limit_without_its_controller_is_a_warning_that_names_both() {
        let plan = plan(&everything(), &v2(&[Controller::Cpu]), DiskSharing::Nobody);
        assert_eq!(plan.writes.len(), 2);
        insta::assert_snapshot!(plan.warnings.join("\n"), @r"
        memory_max is not enforced: no control group hierarchy here offers the memory controller
        pids_max is not enforced: no control group hierarchy here offers the pids controller
        cpu_set is not enforced: no control group hierarchy here offers the cpuset controller
        io_weight is not enforced: no control group hierarchy here offers the io controller
        io_max is not enforced: no control group hierarchy here offers the io controller
        ");
    }

    #[test]
    fn an_io_weight_nobody_honours_is_a_warning_and_not_a_write() {
        let limits = Limits {
            io_weight: Some(50),
            ..Limits::default()
        };
        for offers in [v2(&Controller::ALL), v1()] {
            let plan = plan(&limits, &offers, DiskSharing::Nobody);
            assert!(plan.writes.is_empty());
            assert!(plan.warnings[0].contains("no disk here is shared by weight"));
        }
    }

    #[test]
    fn a_wrong_io_max_is_refused_with_the_word_named() {
        for (text, word) in [
            ("", "\"\""),
            ("sda wbps=1", "\"sda\""),
            ("8:0", "\"8:0\""),
            ("8:0 bps=1", "\"bps=1\""),
            ("8:0 wbps=0", "\"wbps=0\""),
            ("8:0 wbps=-1", "\"wbps=-1\""),
            ("8:x wbps=1", "\"8:x\""),
        ] {
            let error = parse_io_max(text).unwrap_err();
            assert!(error.starts_with(word), "{text:?}: {error}");
        }
        assert_eq!(parse_io_max("8:0 rbps=1; 8:16 rbps=2").unwrap().len(), 2);
    }

    #[test]
    fn no_quota_is_written_as_each_version_writes_it() {
        let limits = Limits {
            cpu_max: "max".parse().ok(),
            ..Limits::default()
        };
        let on = |offers: &[Offer]| lines(&plan(&limits, offers, DiskSharing::Nobody)).join(", ");
        assert_eq!(on(&v2(&[Controller::Cpu])), "0 cpu.max = max 100000 (cpu_max)");
        assert!(on(&v1()).ends_with("0 cpu.cfs_quota_us = -1 (cpu_max)"));
    }

    proptest::proptest! {
        #[test]
        fn shares_stay_in_the_kernels_range_and_order(a in 1u32..=10_000, b in 1u32..=10_000) {
            proptest::prop_assert!((2..=262_144).contains(&shares(a)));
            proptest::prop_assert!(a > b || shares(a) <= shares(b));
        }

        #[test]
        fn io_weights_span_the_range_in_order(a in 1u32..=100, b in 1u32..=100) {
            for (low, high) in [(1, 10_000), (1, 1_000), (10, 1_000)] {
                proptest::prop_assert!((low..=high).contains(&scale_io_weight(a, low, high)));
                proptest::prop_assert!(a > b || scale_io_weight(a, low, high) <= scale_io_weight(b, low, high));
                proptest::prop_assert_eq!(scale_io_weight(1, low, high), low);
                proptest::prop_assert_eq!(scale_io_weight(100, low, high), high);
            }
        }

        #[test]
        fn every_limit_is_written_or_warned_about(
            offered in proptest::collection::vec(proptest::sample::select(&Controller::ALL[..]), 0..5),
            as_v2: bool,
            bfq: bool,
        ) {
            let version = if as_v2 { Version::V2 } else { Version::V1 };
            let offers = [Offer { version, controllers: offered }];
            let sharing = if bfq { DiskSharing::Bfq } else { DiskSharing::Nobody };
            let plan = plan(&everything(), &offers, sharing);
            for limit in ["cpu_max", "cpu_weight", "memory_max", "io_weight", "io_max", "pids_max", "cpu_set"] {
                let written = plan.writes.iter().any(|write| write.limit == limit);
                let warned = plan.warnings.iter().any(|warning| warning.starts_with(&format!("{limit} is not")));
                proptest::prop_assert!(written != warned, "{}", limit);
            }
            for write in &plan.writes {
                proptest::prop_assert!(plan.joins.contains(&write.hierarchy));
                proptest::prop_assert!(plan.controllers.contains(&(write.hierarchy, write.controller)));
            }
        }
    }
}
