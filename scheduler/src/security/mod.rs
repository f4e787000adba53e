//! Who may talk to the scheduler: certificates, keys, tickets, budgets, and the log of what was done with them.
//!
//! [`Security`] is opened once and shared. It decides nothing about jobs; a route says what it needs
//! ([`scope::Need`]), and this module says who is asking and whether that suffices.

pub mod audit;
pub mod book;
pub mod ca;
mod file;
mod names;
mod pages;
pub mod rate;
mod rotate;
pub mod scope;
pub mod tls;
pub mod token;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use axum_server::tls_rustls::RustlsConfig;
use jiff::Timestamp;

use crate::config::{ClientCerts, Config};
use audit::Audit;
use book::{Book, BookError, Refusal};
use ca::{Authority, CaError};
pub(crate) use file::private_dir;
use rate::Rates;
use scope::{Identity, Scope};
use tls::{Files, TlsError};
use token::SecretHash;

/// Shortest master key that is not warned of, in characters: 16 random ones are past guessing.
const MASTER_KEY_MIN: usize = 16;

/// Security could not be set up, or renewed.
#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    /// A file of the state directory.
    #[error(transparent)]
    File(#[from] file::FileError),
    /// The authority.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The book.
    #[error(transparent)]
    Book(#[from] BookError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Everything about who may talk to the scheduler.
#[derive(Debug)]
pub struct Security {
    /// Our own certificate authority.
    pub authority: Authority,
    /// Keys, tickets, node keys.
    pub book: Book,
    /// Budgets.
    pub rates: Rates,
    /// The log of what was done.
    pub audit: Audit,
    master: Option<SecretHash>,
    open: bool,
    client_certs: ClientCerts,
    config: Config,
    files: Files,
    tls: Option<RustlsConfig>,
}

/// What [`Security::open`] gives besides the thing itself.
#[derive(Debug)]
pub struct Opened {
    /// The thing.
    pub security: Arc<Security>,
    /// The audit log's thread; it ends when the last [`Security`] is gone.
    pub audit_thread: JoinHandle<()>,
}

impl Security {
    /// Opens the state directory, making what is missing. Blocks.
    pub fn open(config: &Config, now: Timestamp) -> Result<Opened, SecurityError> {
        let state = config.state_dir();
        private_dir(&state)?;
        let authority = Authority::open(&state)?;
        let book = Book::open(&state.join("credentials.json"))?;
        let (audit, audit_thread) = Audit::open(&state.join("audit.log"))?;
        let files = Files::of(&config.tls, &state);
        let tls = if config.tls.enabled {
            files.renew(
                &authority,
                &names::of_this_host(config.listen, &config.tls.names),
                now,
            )?;
            Some(RustlsConfig::from_config(tls::server_config(
                &files,
                &config.tls,
                &authority,
            )?))
        } else {
            None
        };
        let security = Self {
            rates: Rates::new(&config.access),
            master: config
                .access
                .api_key
                .as_ref()
                .map(|key| SecretHash::of(key.reveal())),
            open: config.access.open_api,
            client_certs: config.tls.client_certs,
            config: config.clone(),
            authority,
            book,
            audit,
            files,
            tls,
        };
        security.ensure_a_way_in(&state, now)?;
        security.warn();
        Ok(Opened {
            security: Arc::new(security),
            audit_thread,
        })
    }

    /// Makes a certificate where `--cert` and `--key` (or the state directory) say, and nothing else.
    pub fn generate_cert(config: &Config, now: Timestamp) -> Result<PathBuf, SecurityError> {
        let state = config.state_dir();
        private_dir(&state)?;
        let authority = Authority::open(&state)?;
        let files = Files::of(&config.tls, &state);
        files.generate(
            &authority,
            &names::of_this_host(config.listen, &config.tls.names),
            now,
        )?;
        Ok(files.cert)
    }

    /// Fingerprint of the CA; one is made where there is none yet, so that it can be told before the first start.
    pub fn fingerprint(config: &Config) -> Result<String, SecurityError> {
        let state = config.state_dir();
        private_dir(&state)?;
        Ok(Authority::open(&state)?.fingerprint().to_owned())
    }

    /// Puts a new CA in the place of this one, or forgets those before it; the fingerprint in force from the next start.
    pub fn rotate_ca(config: &Config, forget_old: bool) -> Result<String, SecurityError> {
        let state = config.state_dir();
        private_dir(&state)?;
        let done = if forget_old {
            rotate::forget_old(&state)
        } else {
            rotate::rotate(&state)
        };
        Ok(done?)
    }

    /// Without a master key and without any key that may make others, nobody could get in: one is made and left in a
    /// file that only the operator reads.
    fn ensure_a_way_in(&self, state: &Path, now: Timestamp) -> Result<(), SecurityError> {
        if self.open || self.master.is_some() || !self.book.lacks_admin(now) {
            return Ok(());
        }
        let minted = self
            .book
            .create_key("first start", BTreeSet::from([Scope::Admin]), None, None, now)?;
        let path = state.join("admin.key");
        file::write_private(&path, format!("{}\n", minted.text).as_bytes())?;
        tracing::info!(
            "no key was given; one that may do everything is in {}",
            path.display()
        );
        Ok(())
    }

    fn warn(&self) {
        if self.open {
            tracing::warn!(
                "the API is open: whoever reaches the port may do everything; remove --open-api to close it"
            );
        }
        if self.tls.is_none() {
            tracing::warn!("TLS is off: keys cross the network in the clear");
        }
        let key = self.config.access.api_key.as_ref();
        if key.is_some_and(|key| key.reveal().chars().count() < MASTER_KEY_MIN) {
            tracing::warn!(
                "the master key has fewer than {MASTER_KEY_MIN} characters and can be guessed; make one with `openssl rand -base64 32`"
            );
        }
    }

    /// How connections are encrypted; `None` for plain HTTP.
    pub fn tls(&self) -> Option<RustlsConfig> {
        self.tls.clone()
    }

    /// Directory of backups.
    pub fn backups(&self) -> PathBuf {
        self.config.state_dir().join("backups")
    }

    /// When the server's certificate ends.
    pub fn certificate_ends(&self) -> Option<Timestamp> {
        self.tls.as_ref().and_then(|_| self.files.not_after())
    }

    /// Takes up files that changed and renews what is due. Running connections keep what they have. Blocks.
    pub fn refresh(&self, now: Timestamp) -> Result<(), SecurityError> {
        self.book.reload()?;
        let Some(tls) = &self.tls else { return Ok(()) };
        let names = names::of_this_host(self.config.listen, &self.config.tls.names);
        if self.files.renew(&self.authority, &names, now)? {
            tracing::info!("renewed the server's certificate");
        }
        tls.reload_from_config(tls::server_config(
            &self.files,
            &self.config.tls,
            &self.authority,
        )?);
        Ok(())
    }

    /// Whether a bearer key suffices for a node, or it must show a certificate.
    pub fn nodes_need_certificates(&self) -> bool {
        self.tls.is_some() && self.client_certs != ClientCerts::Off
    }

    /// Who is asking: by key where one is shown, else by certificate, else anyone where the API is open.
    pub fn identify(
        &self,
        token: Option<&str>,
        certificate: Option<&str>,
        now: Timestamp,
    ) -> Result<Identity, Refusal> {
        if let Some(token) = token {
            return self.identify_token(token, now);
        }
        if let Some(node) = certificate {
            let node = node.to_owned();
            return self
                .book
                .knows_node(&node)
                .then_some(Identity::Node { node })
                .ok_or(Refusal::NoNode);
        }
        if self.open {
            Ok(Identity::Anyone)
        } else {
            Err(Refusal::Missing)
        }
    }

    fn identify_token(&self, token: &str, now: Timestamp) -> Result<Identity, Refusal> {
        if self.master.as_ref().is_some_and(|master| master.matches(token)) {
            return Ok(Identity::Master);
        }
        match self.book.identify(token, now) {
            // An open API does not turn those away who show a key that it does not know.
            Err(Refusal::Unknown) if self.open => Ok(Identity::Anyone),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests;
