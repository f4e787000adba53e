//! What only a machine that nobody needs can show: it is out of memory as a whole, its disks are formatted and costed.
//!
//! `cargo xtask vm` runs these on cgroup v2. They refuse to run anywhere else, and no plain `cargo test` starts them.

mod fast;

use ffrtmp_api::{ExitReason, OomScope};
use ffrtmp_tests::machine::{cgroup2, emulated};
use ffrtmp_tests::{LoopDisk, Options, Rivals, World, report_of};

fn disposable() {
    assert!(
        emulated(),
        "this test may ruin the machine: FFRTMP_GUEST is not set, as `cargo xtask vm` sets it in its guests"
    );
}

#[test]
fn a_machine_without_memory_is_told_from_a_group_without() {
    disposable();
    // The killer shall choose the hog, and nobody else.
    let world = World::with(Options {
        rule: "limits: {oom_score_adj: 1000}".to_owned(),
        ..Options::default()
    });
    let scope = OomScope::Global;
    let mut child = world.spawn_placed(&["alloc-mib", "65536"]);
    child.wait().unwrap();
    let report = world.closed(child.id()).report;
    assert_eq!(report.exit, Some(ExitReason::Oom { scope }), "{report:#?}");
    assert_eq!(
        report.platform_sla_reason.as_deref(),
        Some("platform_out_of_memory")
    );
    assert_eq!(report.exit_code, Some(137));
    // A limit that was not reached is not what killed.
    let target = world.workload.path().to_string_lossy().into_owned();
    let flags = [
        "run",
        "--json",
        "--oom-score",
        "1000",
        "--memory-limit",
        "65536",
        "--",
    ];
    let steps = [&target, "sleep-us", "500000", "alloc-mib", "65536"];
    let report = report_of(&world.output(&[&flags[..], &steps].concat()));
    assert_eq!(report.exit, Some(ExitReason::Oom { scope }), "{report:#?}");
}

#[test]
fn a_ceiling_holds_buffered_writes_to_a_file_system_back() {
    disposable();
    let disk = LoopDisk::new(256, "none");
    let at = tempfile::tempdir().unwrap();
    let run = |program: &str, args: &[&str]| {
        let status = std::process::Command::new(program).args(args).status().unwrap();
        assert!(status.success(), "{program} {args:?}");
    };
    let directory = at.path().to_string_lossy().into_owned();
    run("mke2fs", &["-q", "-t", "ext4", &disk.device()]);
    run("mount", &["-t", "ext4", &disk.device(), &directory]);
    let world = World::new();
    let asked = format!("{} wbps=4194304", disk.numbers());
    // Another file each time: the kernel charges writeback to the group that wrote a file first.
    let took = |name: &str, flags: &[&str]| {
        let file = format!("of={directory}/{name}");
        let dd = ["dd", "if=/dev/zero", &file, "bs=64k", "count=256", "conv=fsync"];
        let args = [&["run", "--json"], flags, &["--"], &dd].concat();
        let report = report_of(&world.output(&args));
        assert_eq!(report.exit_code, Some(0), "{report:#?}");
        assert!(
            !report.limits.warnings.iter().any(|text| text.contains("io_max")),
            "{report:#?}"
        );
        report.duration_sec.unwrap()
    };
    let (free, held) = (took("free", &[]), took("held", &["--io-max", &asked]));
    run("umount", &[&directory]);
    println!("16 MiB buffered and synced: {free:.2} s without a ceiling, {held:.2} s at 4 MiB/s");
    assert!(
        (3.2..12.0).contains(&held),
        "{held} s for what takes 4 s at that rate"
    );
}

#[test]
fn a_disk_under_iocost_is_shared_by_weight() {
    disposable();
    let disk = LoopDisk::new(256, "none");
    let root = cgroup2();
    let set = |file: &str, value: &str| {
        std::fs::write(root.join(file), format!("{} {value}", disk.numbers())).unwrap();
    };
    // A disk that the model believes to be slow, at a rate that does not adapt: then only the weights decide.
    set(
        "io.cost.model",
        "ctrl=user model=linear rbps=20000000 rseqiops=300 rrandiops=300 wbps=20000000 wseqiops=300 wrandiops=300",
    );
    set("io.cost.qos", "enable=1 ctrl=user rpct=0 wpct=0 min=100 max=100");
    let world = World::new();
    let rivals = Rivals::on(&world, &disk);
    set("io.cost.qos", "enable=0");
    for report in &rivals.reports {
        let applied = &report.limits.applied;
        assert!(
            applied.iter().any(|one| one.target.ends_with("/io.weight")),
            "{:?}",
            report.limits
        );
    }
    println!(
        "weights 100 and 10 under iocost: {:?} bytes, {:.1} to 1",
        rivals.read,
        rivals.ratio()
    );
    assert!(rivals.ratio() > 3.0, "{:?}", rivals.read);
}
