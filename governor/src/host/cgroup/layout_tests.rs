//! Fake machines: mountinfo and cgroup files as systemd, bare, container and v1 hosts show them.

use super::*;

/// A machine in a temporary directory. `@` in its mountinfo stands for that directory.
struct Machine {
    dir: tempfile::TempDir,
    sources: Sources,
    options: TreeOptions,
}

impl Machine {
    fn new(mountinfo: &str, own: &str, dirs: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_str().unwrap();
        std::fs::write(dir.path().join("mountinfo"), mountinfo.replace('@', root)).unwrap();
        std::fs::write(dir.path().join("own"), own).unwrap();
        for made in dirs {
            std::fs::create_dir_all(dir.path().join(made)).unwrap();
        }
        let sources = Sources {
            mountinfo: dir.path().join("mountinfo"),
            own_groups: dir.path().join("own"),
            block: dir.path().join("block"),
            delegated: |_| false,
        };
        Self {
            dir,
            sources,
            options: TreeOptions::default(),
        }
    }

    fn file(self, path: &str, text: &str) -> Self {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    fn detect(&self) -> Result<Layout, CgroupError> {
        Layout::detect(&self.sources, &self.options)
    }

    /// The layout as text, the temporary directory shown as `@`.
    fn show(&self) -> String {
        let layout = self.detect().unwrap();
        let lines: Vec<_> = layout.hierarchies.iter().map(Hierarchy::describe).collect();
        format!("{:?} {:?}\n{}", layout.kind(), layout.sharing, lines.join("\n"))
            .replace(self.dir.path().to_str().unwrap(), "@")
    }
}

const PURE_V2: &str = "\
22 1 0:21 / /proc rw,nosuid - proc proc rw
30 23 0:26 / @/cg rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
31 23 0:27 / /sys/fs/bpf rw shared:10 - bpf bpf rw,mode=700
";

const HYBRID: &str = "\
31 23 0:28 / @ rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / @/cpu,cpuacct rw,relatime shared:11 - cgroup cgroup rw,cpu,cpuacct
34 31 0:31 / @/cpuset rw,relatime - cgroup cgroup rw,cpuset
35 31 0:32 / @/memory rw,relatime - cgroup cgroup rw,memory
37 31 0:34 / @/freezer rw,relatime - cgroup cgroup rw,freezer
38 31 0:35 / @/blkio rw,relatime - cgroup cgroup rw,blkio
39 31 0:36 / @/pids rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / @/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / @/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
";

#[test]
fn pure_v2_in_the_root_group() {
    let machine = Machine::new(PURE_V2, "0::/\n", &["cg"]).file(
        "cg/cgroup.controllers",
        "cpuset cpu io memory hugetlb pids rdma\n",
    );
    insta::assert_snapshot!(machine.show(), @r"
    V2 Nobody
    v2: @/cg (root of the hierarchy); offers cpu, memory, pids, cpuset, io
    ");
}

#[test]
fn pure_v2_under_systemd_without_delegation_takes_the_root() {
    let machine = Machine::new(
        PURE_V2,
        "0::/system.slice/ffrtmp.service\n",
        &["cg/system.slice/ffrtmp.service"],
    )
    .file("cg/cgroup.controllers", "cpu memory\n");
    insta::assert_snapshot!(machine.show(), @r"
    V2 Nobody
    v2: @/cg (root of the hierarchy); offers cpu, memory
    ");
}

#[test]
fn a_delegated_unit_is_the_base_and_offers_only_what_was_delegated() {
    let mut machine = Machine::new(PURE_V2, "0::/system.slice/ffrtmp.service\n", &[])
        .file("cg/cgroup.controllers", "cpuset cpu io memory pids\n")
        .file(
            "cg/system.slice/ffrtmp.service/cgroup.controllers",
            "cpu memory pids\n",
        );
    machine.sources.delegated = |dir| dir.ends_with("ffrtmp.service");
    insta::assert_snapshot!(machine.show(), @r"
    V2 Nobody
    v2: @/cg/system.slice/ffrtmp.service (delegated to the governor); offers cpu, memory, pids
    ");
}

#[test]
fn with_a_delegate_subgroup_the_base_is_the_unit_above_us() {
    let mut machine = Machine::new(
        PURE_V2,
        "0::/system.slice/ffrtmp.service/supervisor\n",
        &["cg/system.slice/ffrtmp.service/supervisor"],
    )
    .file(
        "cg/system.slice/ffrtmp.service/cgroup.controllers",
        "cpu memory\n",
    );
    machine.sources.delegated = |dir| dir.ends_with("ffrtmp.service");
    insta::assert_snapshot!(machine.show(), @r"
    V2 Nobody
    v2: @/cg/system.slice/ffrtmp.service (delegated to the governor's unit); offers cpu, memory
    ");
}

#[test]
fn hybrid_keeps_each_v1_tree_below_our_own_group_and_skips_what_it_cannot_use() {
    let own = "12:memory:/outer/inner\n7:freezer:/\n5:cpuset:/gone\n4:cpu,cpuacct:/\n3:blkio:/\n2:pids:/user.slice\n\
               1:name=systemd:/\n0::/\n";
    let machine = Machine::new(
        HYBRID,
        own,
        &[
            "cpu,cpuacct",
            "cpuset",
            "memory/outer/inner",
            "blkio",
            "pids/user.slice",
            "unified",
        ],
    )
    .file("unified/cgroup.controllers", "hugetlb\n")
    .file("block/sda/queue/scheduler", "mq-deadline kyber [bfq] none\n");
    insta::assert_snapshot!(machine.show(), @r"
    Hybrid Bfq
    v2: @/unified (root of the hierarchy); offers no controller
    cpu,cpuacct: @/cpu,cpuacct (root of the hierarchy); offers cpu
    cpuset: @/cpuset (root of the hierarchy); offers cpuset
    memory: @/memory/outer/inner (the governor's own group); offers memory
    blkio: @/blkio (root of the hierarchy); offers blkio
    pids: @/pids/user.slice (the governor's own group); offers pids
    ");
}

#[test]
fn pure_v1_has_no_v2_line() {
    let v1: String = HYBRID
        .lines()
        .filter(|line| !line.contains("cgroup2"))
        .fold(String::new(), |all, line| all + line + "\n");
    let machine = Machine::new(
        &v1,
        "3:memory:/\n2:cpu,cpuacct:/\n1:name=systemd:/\n",
        &["memory", "cpu,cpuacct"],
    );
    insta::assert_snapshot!(machine.show(), @r"
    V1 Nobody
    cpu,cpuacct: @/cpu,cpuacct (root of the hierarchy); offers cpu
    memory: @/memory (root of the hierarchy); offers memory
    ");
}

#[test]
fn in_a_container_with_the_hosts_namespace_paths_are_counted_from_the_mounts_root() {
    let mounts = "35 31 0:32 /docker/abc @/memory ro,relatime - cgroup cgroup rw,memory\n";
    let machine = Machine::new(mounts, "3:memory:/docker/abc/sub\n", &["memory/sub"]);
    let layout = machine.detect().unwrap();
    let memory = &layout.hierarchies[0];
    assert!(memory.base.ends_with("memory/sub"));
    assert_eq!(memory.listed(&memory.base).as_deref(), Some("/docker/abc/sub"));
    assert_eq!(
        memory.dir_of("/docker/abc/x"),
        Some(machine.dir.path().join("memory/x"))
    );
    assert_eq!(memory.dir_of("/elsewhere"), None);
    assert_eq!(memory.dir_of("/docker/abc/../x"), None);
}

#[test]
fn a_hierarchy_mounted_twice_counts_once() {
    let twice = format!("{PURE_V2}50 23 0:26 / @/again rw - cgroup2 none rw\n");
    let machine = Machine::new(&twice, "0::/\n", &["cg", "again"]);
    assert_eq!(machine.detect().unwrap().hierarchies.len(), 1);
}

#[test]
fn a_configured_base_holds_in_every_hierarchy_and_cannot_climb() {
    let mut machine = Machine::new(HYBRID, "4:memory:/outer\n0::/\n", &["memory/outer", "unified"]);
    machine.options.base = CgroupBase::Below("/media/jobs".into());
    insta::assert_snapshot!(machine.show(), @r"
    Hybrid Nobody
    v2: @/unified/media/jobs (as configured); offers no controller
    memory: @/memory/media/jobs (as configured); offers memory
    ");
    machine.options.base = CgroupBase::Below("/a/../../b".into());
    assert!(matches!(machine.detect(), Err(CgroupError::Base { .. })));
}

#[test]
fn iocost_counts_only_when_it_is_enabled() {
    for (line, sharing) in [
        ("8:0 enable=1 ctrl=auto rpct=95.00", DiskSharing::Iocost),
        ("8:0 enable=0 ctrl=auto", DiskSharing::Nobody),
    ] {
        let machine = Machine::new(PURE_V2, "0::/\n", &["cg"])
            .file("cg/cgroup.controllers", "io\n")
            .file("cg/io.cost.qos", line);
        assert_eq!(machine.detect().unwrap().sharing, sharing);
    }
}

#[test]
fn a_machine_without_control_groups_says_what_to_do() {
    let machine = Machine::new("22 1 0:21 / /proc rw - proc proc rw\n", "", &[]);
    let error = machine.detect().unwrap_err();
    assert!(error.to_string().contains("mount cgroup2"), "{error}");
    let machine = Machine::new("garbage\n", "", &[]);
    assert!(matches!(machine.detect(), Err(CgroupError::Parse { .. })));
}
