//! A container of Debian's own podman: known by its group, followed, and left where its engine put it.

use std::fs;

use crate::stage::{FFMPEG, gone, governor, group, job, limit, sh, the_workload, workload};

/// The guest's kernel has no overlay file system.
const STORAGE: &str = "[storage]\ndriver = \"vfs\"\nrunroot = \"/run/containers/storage\"\ngraphroot = \"/var/lib/containers/storage\"\n";

#[test]
fn a_container_of_podman_is_followed_and_left_to_its_engine() {
    governor();
    workload();
    sh(
        "mkdir -p /tmp/box/usr /tmp/box/opt/media && cd /tmp/box && for dir in bin lib lib64; do ln -sfn usr/$dir $dir; done",
    );
    fs::create_dir_all("/etc/containers").unwrap();
    fs::write("/etc/containers/storage.conf", STORAGE).unwrap();
    // No image and no network: the container's files are the guest's own.
    sh(&format!(
        "podman run --detach --name clip --network none --log-driver none --pids-limit 32 \
         -v /usr:/usr:ro -v /opt/media:/opt/media:ro --rootfs /tmp/box {FFMPEG}"
    ));
    let pid = the_workload();
    let place = group(pid);
    let view = job(pid, "observed");
    assert_eq!(view.report.placement.mode, "observe", "{view:#?}");
    assert!(place.contains("/libpod-"), "{place}");
    assert_eq!(group(pid), place);
    // What the engine asked for holds, and nothing of ours was written beside it.
    assert_eq!(limit(pid, "pids.max"), "32");
    assert_eq!(limit(pid, "memory.max"), "max");
    let warnings = view.report.limits.warnings.join("\n");
    assert!(
        warnings.contains("pids_max is not enforced: it belongs to podman"),
        "{warnings}"
    );
    sh("podman kill clip");
    gone(pid);
    let report = job(pid, "closed").report;
    assert_eq!(report.signal, Some(9), "{report:#?}");
    sh("podman rm --force clip");
}
