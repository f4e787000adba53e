//! What people ask for: attach, release, cancel. Each is answered at once, with what is wrong or with the jobs concerned.
//!
//! Whether the caller may ask is judged before, by the engine; here is only whether the request makes sense.

use ffrtmp_abi::ProcessKey;
use ffrtmp_api::{JobId, LimitError};

use super::deadline::Due;
use super::event::Effect;
use super::exit::EndOrder;
use super::facts::{Found, ProcessFacts};
use super::job::{State, Trigger};
use super::process::Opening;
use super::rule::{OnForeignMove, PlacementMode};
use super::{Governor, recent};
use crate::control::types::{AttachRequest, ErrorCode, JobKey, ReleaseRequest, RequestError};

impl Governor {
    /// Takes a live process under governance; the placement is under way when this returns.
    ///
    /// A process that is a job already takes over what the request says (id, limits, intent, time limit, placement)
    /// and keeps the rest; limits the request does not name stay. `facts.found` is taken from the request.
    pub fn attach(
        &mut self,
        now_ns: u64,
        request: &AttachRequest,
        facts: ProcessFacts,
        effects: &mut Vec<Effect>,
    ) -> Result<ProcessKey, RequestError> {
        let key = facts.key;
        check(request)?;
        self.check_id(request, key)?;
        if self.closed.get(key).is_some() {
            return Err(ended(key.pid));
        }
        match self.jobs.get(&key).map(|job| job.state) {
            None => self.attach_new(now_ns, request, facts, effects),
            Some(State::Draining | State::Retiring | State::Closed | State::Gone) => {
                return Err(ended(key.pid));
            }
            Some(State::New | State::Placing | State::Governed | State::Observed | State::Unplaced) => {
                self.attach_again(now_ns, request, &facts, effects)?;
            }
        }
        // A job that was told to end keeps the deadline of its kill.
        let ending = self.jobs.get(&key).is_some_and(|job| job.end_order.is_some());
        if let Some(ms) = request.timeout_ms.filter(|_| !ending) {
            let at_ns = now_ns.saturating_add(ms.saturating_mul(1_000_000));
            self.deadlines.set(key, at_ns, Due::End);
        }
        self.replay_end(now_ns, key, effects);
        self.order_wake(now_ns, effects);
        Ok(key)
    }

    /// Two live jobs never share an id; "unknown" is no name and may recur.
    fn check_id(&self, request: &AttachRequest, key: ProcessKey) -> Result<(), RequestError> {
        let Some(id) = &request.job_id else { return Ok(()) };
        match self.ids.get(id) {
            Some(owner) if *owner != key => Err(RequestError {
                code: ErrorCode::JobIdInUse,
                message: format!("job id `{id}` belongs to the live job of pid {}", owner.pid),
                hint: Some("choose another --job-id, or wait until that job has ended".to_owned()),
            }),
            Some(_) | None => Ok(()),
        }
    }

    fn attach_new(
        &mut self,
        now_ns: u64,
        request: &AttachRequest,
        mut facts: ProcessFacts,
        effects: &mut Vec<Effect>,
    ) {
        facts.found = request.found;
        self.waiting.remove(&facts.key);
        self.deadlines.clear(facts.key);
        let opening = Opening {
            id: request.job_id.clone().unwrap_or_else(JobId::unknown),
            rule: None,
            class: self.settings.default_class.clone(),
            limits: request.limits.clone(),
            placement: request.placement,
            intent: request.intent,
            sla_eligible: request.sla_eligible,
            on_foreign_move: OnForeignMove::default(),
            command: request.command.clone(),
        };
        self.open(now_ns, &facts, opening, effects);
    }

    fn attach_again(
        &mut self,
        now_ns: u64,
        request: &AttachRequest,
        facts: &ProcessFacts,
        effects: &mut Vec<Effect>,
    ) -> Result<(), RequestError> {
        let Some(job) = self.jobs.get_mut(&facts.key) else {
            return Err(ended(facts.key.pid));
        };
        let mode = request.placement.unwrap_or(job.mode);
        if mode == PlacementMode::Observe && job.state.after(Trigger::Followed).is_none() {
            return Err(RequestError {
                code: ErrorCode::Invalid,
                message: format!(
                    "pid {} is under limits already, as job `{}`",
                    facts.key.pid, job.id
                ),
                hint: Some(format!("undo them first: ffrtmp release {}", job.id)),
            });
        }
        let limits = request.limits.clone().or(&job.limits);
        limits.validate().map_err(|e| invalid_limits(&e))?;
        job.limits = limits;
        job.mode = mode;
        job.found = request.found;
        job.intent = request.intent;
        job.sla_eligible = request.sla_eligible;
        job.note(
            now_ns,
            "somebody attached to it: the request's limits and names hold from now on",
        );
        if let Some(id) = &request.job_id {
            let old = std::mem::replace(&mut job.id, id.clone());
            if self.ids.get(&old) == Some(&facts.key) {
                self.ids.remove(&old);
            }
            if *id != JobId::unknown() {
                self.ids.insert(id.clone(), facts.key);
            }
        }
        self.order_placement(now_ns, facts.key, facts.container.as_deref(), effects);
        Ok(())
    }

    /// Orders the undoing of placements and says of which jobs; each is answered by `Released`. A job that is only
    /// followed may be released too and has nothing to undo; `All` leaves such jobs out.
    pub fn release(
        &mut self,
        now_ns: u64,
        request: &ReleaseRequest,
        effects: &mut Vec<Effect>,
    ) -> Result<Vec<ProcessKey>, RequestError> {
        let keys = match request {
            ReleaseRequest::All => self
                .jobs
                .values()
                .filter(|job| job.state.live() && job.state != State::Observed && !job.released)
                .map(|job| job.key)
                .collect(),
            ReleaseRequest::One(name) => self.named(name)?,
        };
        for key in &keys {
            if let Some(job) = self.jobs.get_mut(key)
                && job.advance(Trigger::ReleaseOrdered)
            {
                job.note(now_ns, "release ordered");
                effects.push(Effect::Release { key: *key });
            }
        }
        Ok(keys)
    }

    /// Live jobs with this id; or the one with this key; or the one with this pid. An id may look like a pid, and then
    /// it is the id: somebody chose it.
    pub fn named(&self, name: &str) -> Result<Vec<ProcessKey>, RequestError> {
        let live = |key: &ProcessKey| self.jobs.get(key).is_some_and(|job| job.state.live());
        let mut keys: Vec<ProcessKey> = self
            .jobs
            .values()
            .filter(|job| job.state.live() && job.id.as_str() == name)
            .map(|job| job.key)
            .collect();
        if keys.is_empty() {
            let by_key = name.parse::<JobKey>().ok().map(|key| key.0);
            let by_pid = || {
                let pid = name.parse().ok()?;
                recent::youngest(&self.jobs, pid).map(|(key, _)| key)
            };
            keys.extend(by_key.filter(live).or_else(by_pid).filter(live));
        }
        if keys.is_empty() {
            return Err(RequestError {
                code: ErrorCode::NoSuchJob,
                message: format!("no live job has the id, key or pid `{}`", name.escape_debug()),
                hint: Some("`ffrtmp ps` lists the live jobs".to_owned()),
            });
        }
        Ok(keys)
    }

    /// Ends a job because somebody asked for it: SIGTERM to every process, SIGKILL after the grace time. Asking twice
    /// is asking once.
    pub fn cancel(
        &mut self,
        now_ns: u64,
        key: ProcessKey,
        effects: &mut Vec<Effect>,
    ) -> Result<(), RequestError> {
        match self.jobs.get(&key) {
            Some(job) if job.state.live() => {
                if job.end_order.is_none() {
                    self.order_end(now_ns, key, EndOrder::Cancel, effects);
                    self.order_wake(now_ns, effects);
                }
                Ok(())
            }
            Some(_) | None => Err(ended(key.pid)),
        }
    }
}

fn check(request: &AttachRequest) -> Result<(), RequestError> {
    request.limits.validate().map_err(|e| invalid_limits(&e))?;
    if request.timeout_ms == Some(0) {
        return Err(RequestError {
            code: ErrorCode::Invalid,
            message: "a time limit of 0 would end the job at once".to_owned(),
            hint: Some("give at least 1 ms, or leave --timeout out for no limit".to_owned()),
        });
    }
    match request.found {
        Found::Attach | Found::Run => Ok(()),
        Found::Exec | Found::Adopted => Err(RequestError {
            code: ErrorCode::Invalid,
            message: "a request is either `attach` or `run`".to_owned(),
            hint: None,
        }),
    }
}

fn invalid_limits(error: &LimitError) -> RequestError {
    RequestError {
        code: ErrorCode::Invalid,
        message: error.to_string(),
        hint: None,
    }
}

fn ended(pid: u32) -> RequestError {
    RequestError {
        code: ErrorCode::NoSuchProcess,
        message: format!("the process with pid {pid} has ended"),
        hint: Some("`ffrtmp ps` lists what lives".to_owned()),
    }
}
