//! Order, sharing, skip-over and reservation of `choose`.

use ffrtmp_api::Priority;

use super::*;

const NOW: Moment = Moment {
    wall_ms: 0,
    boot_ms: 1_000_000,
};

fn place(queue: Queue, priority: Priority, tenant: TenantId, class: ClassId) -> Place {
    let band = Band { queue, priority };
    Place { band, tenant, class }
}

struct Farm {
    policy: Policy,
    ready: Ready,
    chooser: Chooser,
}

impl Farm {
    fn new(jobs: &[(Seq, Place)]) -> Self {
        let mut ready = Ready::default();
        for (seq, place) in jobs {
            ready.insert(*seq, *place, 0);
        }
        Self {
            policy: Policy::default(),
            ready,
            chooser: Chooser::default(),
        }
    }

    /// Gives one job to a node with `free` slots that runs classes up to `most`; class 9 takes 4 slots.
    fn give(&mut self, node: NodeNumber, free: u32, most: ClassId) -> Option<Seq> {
        let takes = |class: ClassId| match class {
            9 => Some(4),
            class => (class <= most).then_some(1),
        };
        let offer = Offer {
            node,
            free,
            takes: &takes,
            capped: &|tenant| tenant == 99,
        };
        let choice = self.chooser.choose(&self.policy, &self.ready, &offer, NOW)?;
        self.ready.remove(choice.seq, choice.place).unwrap();
        self.chooser.granted(&self.policy, choice);
        Some(choice.seq)
    }
}

#[test]
fn live_is_strict_and_first_in_first_out() {
    let mut farm = Farm::new(&[
        (1, place(Queue::Default, Priority::Live, 0, 0)),
        (2, place(Queue::Live, Priority::Batch, 0, 0)),
        (3, place(Queue::Live, Priority::High, 0, 0)),
        (4, place(Queue::Live, Priority::High, 0, 0)),
    ]);
    let order: Vec<_> = std::iter::from_fn(|| farm.give(1, 1, 0)).collect();
    assert_eq!(order, [3, 4, 2, 1]);
}

#[test]
fn a_job_nobody_here_can_run_blocks_nobody_behind_it() {
    let mut farm = Farm::new(&[
        (1, place(Queue::Live, Priority::Live, 0, 5)),
        (2, place(Queue::Batch, Priority::Low, 0, 0)),
    ]);
    assert_eq!(farm.give(1, 1, 0), Some(2));
    assert_eq!(farm.give(1, 1, 0), None);
    assert_eq!(farm.give(2, 1, 5), Some(1));
}

#[test]
fn batch_gets_its_share_while_default_is_saturated_and_no_more_after_a_pause() {
    let mut jobs: Vec<_> = (0..1000)
        .map(|seq| (seq, place(Queue::Default, Priority::High, 0, 0)))
        .collect();
    let mut farm = Farm::new(&jobs);
    // Batch is empty for 100 starts; it may not make up for all of them afterwards.
    for _ in 0..100 {
        assert!(farm.give(1, 1, 0).is_some_and(|seq| seq < 1000));
    }
    jobs = (1000..2000)
        .map(|seq| (seq, place(Queue::Batch, Priority::Low, 0, 0)))
        .collect();
    for (seq, place) in jobs {
        farm.ready.insert(seq, place, 0);
    }
    let starts: Vec<_> = (0..100).filter_map(|_| farm.give(1, 1, 0)).collect();
    let batch = starts.iter().filter(|seq| **seq >= 1000).count();
    assert!((18..=24).contains(&batch), "batch had {batch} of 100 starts");
    assert!(starts[..10].iter().filter(|seq| **seq >= 1000).count() <= 4);
}

#[test]
fn the_lowest_priority_waits_a_bounded_number_of_starts() {
    let mut farm = Farm::new(&[(0, place(Queue::Default, Priority::Batch, 0, 0))]);
    for seq in 1..100 {
        farm.ready
            .insert(seq, place(Queue::Default, Priority::Live, 0, 0), 0);
    }
    let order: Vec<_> = std::iter::from_fn(|| farm.give(1, 1, 0)).collect();
    let at = order.iter().position(|seq| *seq == 0).unwrap();
    assert!(at < farm.policy.age_every as usize, "started as number {at}");
}

#[test]
fn tenants_take_turns_and_a_capped_one_is_stepped_over() {
    let mut jobs: Vec<_> = (0..10)
        .map(|seq| (seq, place(Queue::Live, Priority::High, 1, 0)))
        .collect();
    jobs.push((10, place(Queue::Live, Priority::High, 2, 0)));
    jobs.push((11, place(Queue::Live, Priority::High, 99, 0)));
    let mut farm = Farm::new(&jobs);
    assert_eq!(farm.give(1, 1, 0), Some(0));
    assert_eq!(farm.give(1, 1, 0), Some(10), "the second tenant had no turn");
    let rest: Vec<_> = std::iter::from_fn(|| farm.give(1, 1, 0)).collect();
    assert_eq!(rest, (1..10).collect::<Vec<_>>());
}

#[test]
fn a_head_that_waits_too_long_for_slots_gets_a_node_kept_free() {
    let mut jobs = vec![(0, place(Queue::Default, Priority::High, 0, 9))];
    jobs.extend((1..50).map(|seq| (seq, place(Queue::Default, Priority::High, 0, 0))));
    let mut farm = Farm::new(&jobs);
    // One slot of four free: the big job does not fit, and waited long enough to have this node kept for it.
    assert_eq!(farm.give(1, 1, 0), None);
    assert_eq!(farm.give(2, 1, 0), Some(1), "one node is kept, not all");
    assert_eq!(farm.give(1, 3, 0), None);
    farm.ready.insert(60, place(Queue::Live, Priority::Low, 0, 0), 0);
    assert_eq!(farm.give(1, 3, 0), Some(60), "live work passes a reservation");
    assert_eq!(farm.give(1, 4, 0), Some(0));
    assert_eq!(
        farm.give(1, 1, 0),
        Some(2),
        "the reservation ended with the start"
    );
}

#[test]
fn a_fresh_head_reserves_nothing() {
    let mut farm = Farm::new(&[]);
    farm.ready
        .insert(0, place(Queue::Default, Priority::High, 0, 9), NOW.boot_ms);
    farm.ready
        .insert(1, place(Queue::Default, Priority::High, 0, 0), NOW.boot_ms);
    assert_eq!(farm.give(1, 1, 0), Some(1));
}
