//! What goes wrong: nodes and the scheduler crash, sleep and are cut off, clocks are set, disks fill; and when it stops.

use std::sync::atomic::Ordering;

use ffrtmp_scheduler::store::Control;

use super::World;
use super::network::Message;

impl World {
    pub(super) fn faults(&mut self) -> Result<(), String> {
        let now = self.now().boot_ms;
        let node = self.random.below(self.nodes.len() as u64) as usize;
        match self.random.below(150) {
            0..=2 => {
                self.tally.count("cut");
                self.nodes[node].cut_until = now + self.random.below(90_000);
            }
            3..=4 => {
                self.tally.count("sleep");
                self.nodes[node].asleep_until = now + self.random.below(90_000);
            }
            5 => {
                self.tally.count("crash of a node");
                self.say(|| format!("node-{node} crashes with {} attempts", self.nodes[node].holds()));
                self.nodes[node].crash();
            }
            6 => {
                self.tally.count("restart of a node");
                self.nodes[node].restart();
            }
            7..=9 => {
                self.tally.count("crash of the scheduler");
                self.say(|| "the scheduler crashes".to_owned());
                self.engine = None;
                self.checked = None;
                self.wire
                    .retain(|(_, message)| matches!(message, Message::ToNode(..)));
                if self.random.one_in(2) {
                    self.clock.pass(self.random.below(120_000));
                }
                self.open()?;
                self.check()?;
            }
            10 => {
                // The scheduler's machine sleeps.
                self.tally.count("clock jump");
                self.clock.pass(self.random.below(40_000));
            }
            11..=12 => {
                let free = if self.random.one_in(2) { 0 } else { u64::MAX };
                self.free.store(free, Ordering::SeqCst);
            }
            15 => {
                // Up to a day forth or back, as by a bad time server; often just before a crash.
                self.tally.count("wall clock set");
                let by = self.random.below(2 * 86_400_000) as i64 - 86_400_000;
                self.clock.set_wall(by);
                self.say(|| format!("the wall clock is set by {by} ms"));
            }
            13..=14 => self.limit_pages(self.random_limit())?,
            _ => {}
        }
        Ok(())
    }

    /// Pages that the database may still grow by; `None` for as many as it likes.
    fn random_limit(&self) -> Option<u32> {
        let text = self.now().boot_ms;
        text.is_multiple_of(2).then_some((text / 2 % 3) as u32)
    }

    /// Makes the disk really full: SQLite itself refuses to grow the file.
    fn limit_pages(&mut self, more: Option<u32>) -> Result<(), String> {
        let Some(engine) = &self.engine else {
            return Ok(());
        };
        let broken = |error: rusqlite::Error| error.to_string();
        let connection = engine.connection();
        let pages: u32 = connection
            .pragma_query_value(None, "page_count", |row| row.get(0))
            .map_err(broken)?;
        let most = more.map_or(1_000_000, |more| pages + more);
        connection
            .query_row(&format!("PRAGMA max_page_count = {most}"), [], |_| Ok(()))
            .map_err(broken)?;
        if more.is_some() {
            self.tally.count("no page left");
        }
        Ok(())
    }

    pub(super) fn calm_down(&mut self) -> Result<(), String> {
        self.say(|| "calm".to_owned());
        self.calm = true;
        self.free.store(u64::MAX, Ordering::SeqCst);
        self.limit_pages(None)?;
        for node in &mut self.nodes {
            node.cut_until = 0;
            node.asleep_until = 0;
        }
        for id in self.acknowledged.values().copied().collect::<Vec<_>>() {
            self.command(|engine, now| engine.control(id.into(), Control::Resume, now))?;
        }
        Ok(())
    }
}
