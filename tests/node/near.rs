//! The counts that the kernel programs ask before they look for a member: as many as there are members, whoever made them
//! one and whoever took them out. One too few and an exit would go unseen; one too many and strangers pay for it.

use aya::maps::{Array, HashMap, Map, MapData};
use ffrtmp_abi::map;
use ffrtmp_tests::{World, eventually};
use nix::sys::signal::Signal;

use crate::survival::pinned;

/// The sum of all counts, and the number of members.
fn counted(world: &World) -> (u64, u64) {
    let pins = std::fs::read_dir(world.path("bpf")).unwrap();
    let generation = pins
        .map(|entry| entry.unwrap().path())
        .find(|path| path.join(map::NEAR).exists())
        .unwrap();
    let open = |name| MapData::from_pin(generation.join(name)).unwrap();
    let near: Array<_, u64> = Map::Array(open(map::NEAR)).try_into().unwrap();
    let members: HashMap<_, [u8; 16], [u8; 16]> = Map::HashMap(open(map::MEMBERS)).try_into().unwrap();
    (
        near.iter().map(Result::unwrap).sum(),
        members.keys().map(Result::unwrap).count() as u64,
    )
}

#[test]
fn counts_before_the_members_are_as_many_as_they() {
    let mut world = World::with(pinned(""));
    let family = |world: &World| {
        let mut first = world.workload.spawn(&["fork", "3", "sleep-us", "20000"]);
        first.wait().unwrap();
        first.id()
    };
    // Known by their execs, with children; one stays.
    let mut stays = world.workload.spawn(&["sleep-us", "600000000"]);
    world.job(stays.id());
    for _ in 0..20 {
        let first = family(&world);
        world.closed(first);
    }
    // Attached, so that user space makes it a member; released while it lives.
    let mut taken = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    let pid = taken.id().to_string();
    let mut attach = world
        .ffrtmp(&["attach", "--pid", &pid])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let job = world.job(taken.id());
    eventually("two members", || (counted(&world) == (2, 2)).then_some(()));
    let released = world.output(&["release", job.report.job_id.as_str()]);
    assert!(released.status.success(), "{released:?}");
    taken.kill().unwrap();
    taken.wait().unwrap();
    attach.wait().unwrap();
    eventually("it to be a member no more", || {
        (counted(&world) == (1, 1)).then_some(())
    });
    // While no governor runs, and taken up by the next one.
    world.stop(Signal::SIGKILL);
    let unseen = family(&world);
    world.start();
    world.closed(unseen);
    eventually("one member", || (counted(&world) == (1, 1)).then_some(()));
    stays.kill().unwrap();
    stays.wait().unwrap();
    eventually("no member at all", || (counted(&world) == (0, 0)).then_some(()));
}
