//! What others ask of the engine.

use std::collections::{BTreeMap, HashMap};

use ffrtmp_abi::{Counter, LiveRow, ProcessKey, TaskRow, flag};

use crate::control::types::{
    AttachRequest, ErrorCode, Explain, JobView, Peer, PolicyLine, ReleaseRequest, Released, RequestError,
    Status,
};
use crate::core::event::{Event, KernelUsage};
use crate::core::facts::Found;
use crate::host::systemd::ScopeAnswer;

use super::brain::placed;
use super::handle::{Command, Reply};
use super::{Worker, clock};

impl Worker {
    pub(super) fn on_command(&mut self, command: Command) {
        let now = clock::boot_ns();
        match command {
            Command::Status(reply) => answer(reply, self.status()),
            Command::Jobs(reply) => answer(reply, self.jobs()),
            Command::Attach(request, peer, reply) => match self.attach(&request, peer) {
                // A scope is being made; whoever asked is answered when the limits are in force.
                Ok(view) if self.brain.host.awaits(view.key.0) => {
                    self.attaching.entry(view.key.0).or_default().push(reply);
                }
                result => answer(reply, result),
            },
            Command::Wait(key, reply) => self.wait(key.0, reply),
            Command::Explain(pid, reply) => answer(reply, self.explain(pid)),
            Command::Release(request, peer, reply) => answer(reply, self.release(&request, peer)),
            Command::ReplaceRules(rules) => {
                self.set_gate_rules(&rules);
                if let Some(instruments) = &self.brain.outbox.instruments {
                    instruments.allow(rules.classes());
                }
                self.brain.feed(now, Event::RulesReplaced(*rules));
            }
            Command::ReplacePolicy(order) => self.set_policy(*order),
            Command::OpenSession(rules, reply) => {
                self.sessions += 1;
                let session = self.sessions;
                self.brain.feed(
                    now,
                    Event::SessionOpened {
                        session,
                        rules: *rules,
                    },
                );
                answer(reply, session);
            }
            Command::CloseSession(session) => self.brain.feed(now, Event::SessionClosed { session }),
            Command::Subscribe(subscriber) => self.brain.outbox.subscribe(subscriber),
            Command::Saved(keys) => {
                for key in keys {
                    self.brain.feed(now, Event::Saved { key: key.0 });
                }
                if std::mem::take(&mut self.intake.turned_away) {
                    self.scan();
                }
            }
            Command::ScopeAnswered(scope) => self.on_scope(*scope),
            Command::Gate(news) => self.on_gate_news(*news),
            Command::Mourn(reply) => self.mourners.push(reply),
            Command::Stop(reply) => self.stop = Some(reply),
        }
    }

    /// systemd made a scope, or says why not: the limits are read back, and whoever waits for them is answered.
    fn on_scope(&mut self, scope: ScopeAnswer) {
        let key = scope.key;
        if let Some(done) = self.brain.host.finish_scope(scope) {
            self.brain.feed(clock::boot_ns(), placed(key, done));
        }
        for reply in self.attaching.remove(&key).unwrap_or_default() {
            answer(
                reply,
                self.brain.core.view(key).ok_or_else(|| no_such_process(key.pid)),
            );
        }
    }

    fn wait(&mut self, key: ProcessKey, reply: Reply<Result<JobView, RequestError>>) {
        match self.brain.core.view(key) {
            Some(view) if view.report.end_time.is_some() && (view.live > 0 || view.state == "closed") => {
                answer(reply, Ok(view));
            }
            Some(_) => self.brain.outbox.wait(key, reply),
            None => answer(reply, Err(no_such_job(&format!("{}-{}", key.pid, key.start)))),
        }
    }

    fn jobs(&mut self) -> Vec<JobView> {
        let mut views = self.brain.core.jobs();
        let mut live = self.live_figures();
        for view in &mut views {
            if view.state != "closed"
                && let Some(figures) = live.remove(&view.key.0)
            {
                self.bring_up_to_date(view, &figures);
            }
        }
        views
    }

    /// Puts the kernel's figures of this moment into a view of a live job.
    fn bring_up_to_date(&self, view: &mut JobView, figures: &Live) {
        view.live = figures.processes;
        view.report.usage = self.brain.core.live_usage(view.key.0, &figures.usage);
    }

    /// Figures of each job of this moment. The sums of ended threads are read before the live ones, so that a thread
    /// that ends in between is missed once rather than counted twice.
    fn live_figures(&mut self) -> HashMap<ProcessKey, Live> {
        let kernel = &mut self.brain.host.kernel;
        let mut figures: HashMap<ProcessKey, Live> = kernel
            .all_records()
            .iter()
            .map(|(key, record)| {
                (
                    *key,
                    Live {
                        processes: record.live,
                        usage: kernel.usage(record),
                    },
                )
            })
            .collect();
        match kernel.live_rows() {
            Ok(rows) => {
                for row in &rows {
                    if let Some(live) = figures.get_mut(&row.root) {
                        add_row(&mut live.usage, row);
                    }
                }
                figures
            }
            // Figures without the live part would look complete and be wrong.
            Err(error) => {
                tracing::warn!(%error, "usage of live jobs is not available");
                HashMap::new()
            }
        }
    }

    fn attach(&mut self, request: &AttachRequest, peer: Peer) -> Result<JobView, RequestError> {
        let row = self.find_process(request.pid)?;
        let (request, stays) = if peer.privileged {
            (request.clone(), None)
        } else {
            self.unprivileged(request, &row, peer)?
        };
        let request = &request;
        if !peer.privileged {
            self.brain.host.owned_by(row.key, peer.uid);
        }
        let facts = self
            .live_facts(&row, request.found)
            .ok_or_else(|| no_such_process(request.pid))?;
        let admitted = self.admit(&row, flag::WANT_ROOT).map_err(|why| RequestError {
            code: ErrorCode::Failed,
            message: format!("process {} cannot be followed: {why}", request.pid),
            hint: None,
        })?;
        let now = clock::boot_ns();
        let mut effects = Vec::new();
        match self.brain.core.attach(now, request, facts, &mut effects) {
            Ok(key) => {
                if let Some(why) = stays {
                    self.brain.core.warn(key, why);
                }
                self.brain.perform(effects);
                self.brain
                    .core
                    .view(key)
                    .ok_or_else(|| no_such_process(request.pid))
            }
            Err(error) => {
                if admitted {
                    self.brain.host.kernel.remove(row.key);
                }
                Err(error)
            }
        }
    }

    fn find_process(&mut self, pid: u32) -> Result<TaskRow, RequestError> {
        let not_governable = |message: String| RequestError {
            code: ErrorCode::NotGovernable,
            message,
            hint: None,
        };
        if pid == std::process::id() {
            return Err(not_governable(format!(
                "process {pid} is the governor itself, which governs others only"
            )));
        }
        let rows = self.brain.host.kernel.all_tasks().map_err(|error| RequestError {
            code: ErrorCode::Failed,
            message: format!("processes cannot be listed: {error}"),
            hint: None,
        })?;
        let row = rows
            .into_iter()
            .find(|row| row.key.pid == pid)
            .ok_or_else(|| no_such_process(pid))?;
        if row.kernel_thread != 0 {
            return Err(not_governable(format!(
                "process {pid} is a kernel thread and cannot be governed"
            )));
        }
        Ok(row)
    }

    fn explain(&mut self, pid: u32) -> Result<Explain, RequestError> {
        if let Some(explain) = self.brain.core.explain(pid, clock::boot_ns()) {
            return Ok(explain);
        }
        let row = self.find_process(pid)?;
        if let Some(root) = self.brain.host.kernel.root_of(row.key)
            && let Some(mut explain) = self.brain.core.explain(root.pid, clock::boot_ns())
        {
            explain.pid = pid;
            explain.verdict = format!("belongs to the job of process {}: {}", root.pid, explain.verdict);
            return Ok(explain);
        }
        let facts = self
            .live_facts(&row, Found::Adopted)
            .ok_or_else(|| no_such_process(pid))?;
        Ok(self.brain.core.explain_stranger(clock::boot_ns(), &facts))
    }

    fn release(&mut self, request: &ReleaseRequest, peer: Peer) -> Result<Vec<Released>, RequestError> {
        if !peer.privileged {
            self.check_release(request, peer)?;
        }
        let now = clock::boot_ns();
        let mut effects = Vec::new();
        self.brain.core.release(now, request, &mut effects)?;
        self.brain.perform(effects);
        Ok(std::mem::take(&mut self.brain.outbox.released))
    }

    /// Others than root and group `ffrtmp` may release what they attached or ran themselves.
    fn check_release(&self, request: &ReleaseRequest, peer: Peer) -> Result<(), RequestError> {
        let keys = match request {
            ReleaseRequest::All => Vec::new(),
            ReleaseRequest::One(name) => self.brain.core.named(name)?,
        };
        let own = |view: JobView| view.uid == peer.uid && view.report.rule.is_none();
        if !keys.is_empty() && keys.iter().all(|key| self.brain.core.view(*key).is_some_and(own)) {
            return Ok(());
        }
        Err(RequestError {
            code: ErrorCode::NotAllowed,
            message: "you may release only what you attached or ran yourself".to_owned(),
            hint: Some("root and members of group ffrtmp may release all".to_owned()),
        })
    }

    fn status(&mut self) -> Status {
        let core = &self.brain.core;
        let kernel = &self.brain.host.kernel;
        let mut counters = BTreeMap::new();
        let named = [
            (Counter::Seen, "seen"),
            (Counter::Admitted, "admitted"),
            (Counter::Refused, "refused"),
            (Counter::Dropped, "dropped"),
            (Counter::ChildLost, "child_lost"),
            (Counter::Exited, "exited"),
            (Counter::Reexec, "reexec"),
            (Counter::Drained, "drained"),
        ];
        for (counter, name) in named {
            counters.insert(format!("kernel_{name}"), kernel.counter(counter));
        }
        counters.insert("undecodable".to_owned(), self.intake.undecodable);
        counters.insert("arguments_unspooled".to_owned(), kernel.unspooled());
        counters.insert("vanished".to_owned(), kernel.vanished());
        counters.insert("resyncs".to_owned(), self.intake.resyncs);
        counters.insert("events_dropped".to_owned(), self.brain.outbox.events_dropped);
        counters.insert("saves_failed".to_owned(), self.brain.outbox.saves_failed);
        counters.insert("limits_unwatched".to_owned(), self.limits.unwatched);
        counters.extend(core.counters());
        let policy = self.policy_status();
        Status {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            tier: kernel.tier().name().to_owned(),
            tier_reason: self.tier_reason.clone(),
            names: core.names(),
            wide: core.wide(),
            rules: core.rule_count(),
            jobs: core.live(),
            hierarchies: self.brain.host.hierarchies(),
            off: kernel.off().into_iter().chain(self.off.iter().cloned()).collect(),
            counters,
            policy,
            fast_placement: self.fast.get().map(|outcome| PolicyLine {
                in_force: outcome.is_fast(),
                text: outcome.to_string(),
            }),
            ledger: self.ledger_file.clone(),
            gate: self.gate_status(),
        }
    }
}

/// What the kernel counts of a job that lives.
struct Live {
    processes: u32,
    usage: KernelUsage,
}

fn add_row(sum: &mut KernelUsage, row: &LiveRow) {
    let add = |field: &mut Option<u64>, value: u64| *field = field.map(|sum| sum + value);
    add(&mut sum.run_ns, row.run_ns);
    add(&mut sum.utime_ns, row.utime_ns);
    add(&mut sum.stime_ns, row.stime_ns);
    add(&mut sum.read_bytes, row.read_bytes);
    add(&mut sum.write_bytes, row.write_bytes);
}

fn answer<T>(reply: Reply<T>, value: T) {
    // The asker may have gone; then nobody needs the answer.
    let _gone = reply.send(value);
}

fn no_such_process(pid: u32) -> RequestError {
    RequestError {
        code: ErrorCode::NoSuchProcess,
        message: format!("process {pid} does not exist"),
        hint: Some(
            format!("find it with `pgrep -a ffmpeg`, then `ffrtmp attach --pid {pid}`")
                .replace(&pid.to_string(), "PID"),
        ),
    }
}

fn no_such_job(name: &str) -> RequestError {
    RequestError {
        code: ErrorCode::NoSuchJob,
        message: format!("no job {name}"),
        hint: Some("`ffrtmp ps --all` lists jobs".to_owned()),
    }
}
