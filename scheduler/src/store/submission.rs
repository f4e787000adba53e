//! A submission made ready for the writer: checked, serialised and hashed before it queues, so that the one writing
//! thread does none of that.

use ffrtmp_api::{Band, Engine, FieldError, JobRequest, JobUuid, Needs};
use sha2::{Digest, Sha256};

use super::error::{Step, StoreError};

/// A job that may be submitted.
#[derive(Debug, Clone)]
pub struct NewJob {
    pub(crate) id: JobUuid,
    pub(crate) body: String,
    pub(crate) digest: [u8; 32],
    pub(crate) key: Option<String>,
    pub(crate) band: Band,
    pub(crate) needs: Needs,
    pub(crate) tenant: Option<String>,
    pub(crate) scenario: String,
    pub(crate) engine: Engine,
    pub(crate) hold: bool,
    pub(crate) max_retries: Option<u32>,
    pub(crate) refused: Vec<FieldError>,
}

impl NewJob {
    /// Makes a submission ready. A request that cannot be meant becomes an item that is refused by name, so that the
    /// others of its batch are not. The same request gives the same digest; its key is no part of it.
    pub fn new(id: JobUuid, request: &JobRequest) -> Result<Self, StoreError> {
        let body = if request.idempotency_key.is_none() {
            serde_json::to_string(request)
        } else {
            serde_json::to_string(&JobRequest {
                idempotency_key: None,
                ..request.clone()
            })
        }
        .step("serialise the submission")?;
        Ok(Self {
            id,
            digest: Sha256::digest(&body).into(),
            key: request.idempotency_key.clone(),
            band: Band {
                queue: request.queue,
                priority: request.priority,
            },
            needs: request.needs(),
            tenant: request.tenant_id.clone(),
            scenario: request.scenario.clone(),
            engine: request.asked_engine(),
            hold: request.hold,
            max_retries: request.max_retries,
            refused: request.validate().err().unwrap_or_default(),
            body,
        })
    }

    /// The same job under this key, unless it has one of its own. For the items of a batch whose request has a key.
    #[must_use]
    pub fn with_key(mut self, key: &str) -> Self {
        self.key.get_or_insert_with(|| key.to_owned());
        self
    }

    /// Its name, should it be created.
    pub fn id(&self) -> JobUuid {
        self.id
    }

    /// Why it will be refused; empty when it will not.
    pub fn refused(&self) -> &[FieldError] {
        &self.refused
    }
}

/// The key's name in the database: nobody's key can be guessed from a backup, and scopes never meet.
pub(crate) fn key_hash(scope: &str, key: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update((scope.len() as u64).to_be_bytes());
    hash.update(scope);
    hash.update(key);
    hash.finalize().into()
}
