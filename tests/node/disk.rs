//! Disk limits by their effect: how fast a job can write and read a disk of the test's own, and who gets more of it.

use ffrtmp_api::Report;
use ffrtmp_governor::core::plan::V1_WRITES;
use ffrtmp_tests::machine::unified;
use ffrtmp_tests::{LoopDisk, Rivals, World, report_of};

/// Runs `dd` on the disk under these flags and gives its report and how many seconds it took.
fn copy(world: &World, flags: &[&str], dd: &[&str]) -> (Report, f64) {
    let args = [&["run", "--json"], flags, &["--", "dd"], dd].concat();
    let report = report_of(&world.output(&args));
    assert_eq!(report.exit_code, Some(0), "{report:#?}");
    let took = report.duration_sec.unwrap();
    (report, took)
}

fn has(report: &Report, limit: &str) -> bool {
    report.limits.applied.iter().any(|done| done.limit == limit)
}

#[test]
fn a_ceiling_holds_writes_reads_and_requests_back() {
    let disk = LoopDisk::new(64, "none");
    let world = World::new();
    let (read, write) = (format!("if={}", disk.device()), format!("of={}", disk.device()));
    let writing = ["if=/dev/zero", &write, "bs=64k", "oflag=direct"];
    let reading = [&read, "of=/dev/null", "bs=64k", "iflag=direct"];
    let free = copy(&world, &[], &[&writing[..], &["count=128"]].concat()).1;
    for (ceiling, dd, count) in [
        ("wbps=4194304", &writing[..], "count=128"),
        ("rbps=4194304", &reading[..], "count=128"),
        ("wiops=40", &writing[..], "count=80"),
        ("riops=40", &reading[..], "count=80"),
    ] {
        let asked = format!("{} {ceiling}", disk.numbers());
        let (report, took) = copy(&world, &["--io-max", &asked], &[dd, &[count]].concat());
        println!("{ceiling}: {took:.2} s for what takes 2 s at that rate, {free:.2} s without a ceiling");
        assert!(has(&report, "io_max"), "{:?}", report.limits);
        // 8 MiB at 4 MiB/s, and 80 requests at 40 a second; the first slice is free.
        assert!((1.6..4.0).contains(&took), "{ceiling}: {took} s");
        let told = report.limits.warnings.iter().any(|text| text == V1_WRITES);
        assert_eq!(
            told,
            !unified() && ceiling.starts_with('w'),
            "{:?}",
            report.limits
        );
    }
}

#[test]
fn a_ceiling_for_a_disk_that_does_not_exist_is_a_warning() {
    let world = World::new();
    let args = ["run", "--json", "--io-max", "4000:0 wbps=1048576", "--", "true"];
    let report = report_of(&world.output(&args));
    assert!(!has(&report, "io_max"));
    let warnings = report.limits.warnings.join("\n");
    assert!(
        warnings.contains("io_max is not enforced: write `4000:0 "),
        "{warnings}"
    );
    assert!(warnings.contains("`lsblk` lists the disks"), "{warnings}");
}

#[test]
fn a_bfq_disk_is_shared_by_weight() {
    let disk = LoopDisk::new(256, "bfq");
    // Weights share a disk that is short. On a machine whose CPUs are shorter, readers are late with their next request
    // and leave the disk to the other side, so a round may show nothing; without weights none comes near this ratio.
    let shares = || {
        let world = World::new();
        let rivals = Rivals::on(&world, &disk);
        for report in &rivals.reports {
            let applied = &report.limits.applied;
            assert!(has(report, "io_weight"), "{:?}", report.limits);
            assert!(applied.iter().any(|one| one.target.contains("bfq.weight")));
        }
        println!(
            "weights 100 and 10 on BFQ: {:?} bytes, {:.1} to 1",
            rivals.read,
            rivals.ratio()
        );
        rivals.ratio()
    };
    assert!((0..6).any(|_| shares() > 3.0), "the weights share nothing");
}

#[test]
fn a_weight_without_anybody_who_shares_is_refused_with_what_to_do() {
    let world = World::new();
    let report = report_of(&world.output(&["run", "--json", "--io-weight", "50", "--", "true"]));
    assert!(!has(&report, "io_weight"));
    let warnings = report.limits.warnings.join("\n");
    assert!(
        warnings.contains("io_weight is not enforced: no disk here is shared by weight"),
        "{warnings}"
    );
    assert!(warnings.contains("bfq"), "{warnings}");
}
