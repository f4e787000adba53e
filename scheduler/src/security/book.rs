//! The book of keys, join tickets and node keys: `credentials.json` in the state directory, hashes only.
//!
//! Every change is on disk before it is acknowledged. Reading takes no lock for longer than a pointer copy. It is a file
//! of its own, not a table of the queue, so that an operator can still be let in when the database is not.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;

use super::file::{self, FileError};
pub use super::pages::{ApiKey, Ticket};
use super::pages::{NodeKey, Pages, VERSION};
use super::scope::{Identity, Scope};
use super::token::{self, Kind, Minted, RandomError};

/// The book could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// No random numbers.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The file is not ours.
    #[error("read {}; restore it, or move it away to start without any key", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The file is of a later version of the scheduler.
    #[error("{} has version {found}, this scheduler knows {VERSION}; run the newer scheduler", path.display())]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// There is no such key or ticket.
    #[error("no key or token has the id `{0}`")]
    Unknown(String),
    /// The book could not be written as JSON.
    #[error("write the book of credentials as JSON")]
    Form(#[source] serde_json::Error),
}

/// Why a credential was not taken. The caller is told the same for most of them; the audit log has this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// None was shown.
    #[error("no key was given; send Authorization: Bearer KEY or X-API-Key: KEY")]
    Missing,
    /// It is not known, or its secret is wrong.
    #[error("the key is not valid")]
    Unknown,
    /// It has ended.
    #[error("the key has expired; ask for a new one")]
    Expired,
    /// It was revoked.
    #[error("the key was revoked; ask for a new one")]
    Revoked,
    /// A ticket whose uses are spent.
    #[error("the join token was used up; make a new one with `ffrtmp tokens create`")]
    Spent,
    /// A certificate of a node that is not, or no longer, registered.
    #[error("the certificate's node is not registered; let it join again")]
    NoNode,
}

/// The book.
#[derive(Debug)]
pub struct Book {
    path: PathBuf,
    pages: RwLock<Arc<Pages>>,
    /// Held while the file is changed.
    writing: Mutex<()>,
}

impl Book {
    /// Reads the book, or starts an empty one.
    pub fn open(path: &Path) -> Result<Self, BookError> {
        let book = Self {
            path: path.to_path_buf(),
            pages: RwLock::new(Arc::new(Pages::default())),
            writing: Mutex::new(()),
        };
        book.reload()?;
        Ok(book)
    }

    /// Reads the file again.
    pub fn reload(&self) -> Result<(), BookError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(content) = file::read(&self.path)? else {
            return Ok(());
        };
        file::warn_if_shared(&self.path);
        let pages: Pages = serde_json::from_slice(&content).map_err(|source| BookError::Content {
            path: self.path.clone(),
            source,
        })?;
        if pages.version > VERSION {
            return Err(BookError::Newer {
                path: self.path.clone(),
                found: pages.version,
            });
        }
        self.put(pages.index());
        Ok(())
    }

    fn put(&self, pages: Pages) {
        *self.pages.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(pages);
    }

    fn pages(&self) -> Arc<Pages> {
        Arc::clone(&self.pages.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes a copy, writes it, then puts it in force. Blocks for an fsync.
    fn change<T>(
        &self,
        now: Timestamp,
        change: impl FnOnce(&mut Pages) -> Result<T, BookError>,
    ) -> Result<T, BookError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pages = Pages::clone(&self.pages());
        let done = change(&mut pages)?;
        pages.forget_old(now);
        let pages = pages.index();
        let content = serde_json::to_vec_pretty(&pages).map_err(BookError::Form)?;
        file::write_private(&self.path, &content)?;
        self.put(pages);
        Ok(done)
    }

    /// True while no usable key with admin exists.
    pub fn lacks_admin(&self, now: Timestamp) -> bool {
        let alive = |key: &ApiKey| key.revoked.is_none() && key.expires.is_none_or(|end| end > now);
        !self
            .pages()
            .keys
            .values()
            .any(|key| alive(key) && key.scopes.contains(&Scope::Admin))
    }

    /// Makes a key. Its text is handed out here and never again.
    pub fn create_key(
        &self,
        name: &str,
        scopes: BTreeSet<Scope>,
        per_second: Option<u32>,
        expires: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Minted, BookError> {
        let minted = token::mint(Kind::Api, None)?;
        let key = ApiKey {
            name: name.to_owned(),
            scopes,
            per_second,
            hash: minted.hash.clone(),
            created: now,
            expires,
            revoked: None,
        };
        self.change(now, |pages| {
            pages.keys.insert(minted.id.clone(), key);
            Ok(())
        })?;
        Ok(minted)
    }

    /// Makes a key like another, which ends after `overlap`.
    pub fn rotate_key(&self, id: &str, overlap: Duration, now: Timestamp) -> Result<Minted, BookError> {
        let minted = token::mint(Kind::Api, None)?;
        self.change(now, |pages| {
            let old = pages
                .keys
                .get_mut(id)
                .ok_or_else(|| BookError::Unknown(id.to_owned()))?;
            let new = ApiKey {
                hash: minted.hash.clone(),
                created: now,
                revoked: None,
                ..old.clone()
            };
            let end = now.saturating_add(overlap).unwrap_or(now);
            old.expires = Some(old.expires.map_or(end, |known| known.min(end)));
            pages.keys.insert(minted.id.clone(), new);
            Ok(())
        })?;
        Ok(minted)
    }

    /// Makes a ticket for nodes to join with; `fingerprint` is that of the CA they shall expect.
    pub fn create_ticket(
        &self,
        fingerprint: &str,
        uses: u32,
        expires: Timestamp,
        now: Timestamp,
    ) -> Result<Minted, BookError> {
        let minted = token::mint(Kind::Join, Some(fingerprint))?;
        let ticket = Ticket {
            hash: minted.hash.clone(),
            created: now,
            expires,
            uses_left: uses,
            revoked: None,
        };
        self.change(now, |pages| {
            pages.tickets.insert(minted.id.clone(), ticket);
            Ok(())
        })?;
        Ok(minted)
    }

    /// Revokes a key or a ticket, at once.
    pub fn revoke(&self, id: &str, now: Timestamp) -> Result<(), BookError> {
        self.change(now, |pages| {
            let key = pages.keys.get_mut(id).map(|key| &mut key.revoked);
            let slot = key.or_else(|| pages.tickets.get_mut(id).map(|ticket| &mut ticket.revoked));
            slot.ok_or_else(|| BookError::Unknown(id.to_owned()))?
                .get_or_insert(now);
            Ok(())
        })
    }

    /// Takes one use off a ticket.
    pub fn spend(&self, id: &str, now: Timestamp) -> Result<Result<(), Refusal>, BookError> {
        self.change(now, |pages| {
            let Some(ticket) = pages.tickets.get_mut(id) else {
                return Ok(Err(Refusal::Unknown));
            };
            if let Some(refusal) = ticket.refusal(now) {
                return Ok(Err(refusal));
            }
            ticket.uses_left -= 1;
            Ok(Ok(()))
        })
    }

    /// Lets a node in from now on: by its certificate, and with `keyed` by a key of its own as well. A node that was in
    /// gets a new key, and its old one ends.
    pub fn admit_node(&self, node: &str, keyed: bool, now: Timestamp) -> Result<Option<Minted>, BookError> {
        let minted = if keyed {
            Some(token::mint(Kind::Node, None)?)
        } else {
            None
        };
        let entry = NodeKey {
            key_id: minted.as_ref().map(|minted| minted.id.clone()),
            hash: minted.as_ref().map(|minted| minted.hash.clone()),
            created: now,
        };
        self.change(now, |pages| {
            pages.nodes.insert(node.to_owned(), entry);
            Ok(())
        })?;
        Ok(minted)
    }

    /// Shuts a node out: its key and its certificates are refused from now on.
    pub fn remove_node(&self, node: &str, now: Timestamp) -> Result<(), BookError> {
        if !self.pages().nodes.contains_key(node) {
            return Ok(());
        }
        self.change(now, |pages| {
            pages.nodes.remove(node);
            Ok(())
        })
    }

    /// Who a token belongs to.
    pub fn identify(&self, text: &str, now: Timestamp) -> Result<Identity, Refusal> {
        let parsed = token::parse(text).ok_or(Refusal::Unknown)?;
        let pages = self.pages();
        match parsed.kind {
            Kind::Api => {
                let key = pages
                    .keys
                    .get(parsed.id)
                    .filter(|key| key.hash.matches(parsed.secret))
                    .ok_or(Refusal::Unknown)?;
                if key.revoked.is_some() {
                    return Err(Refusal::Revoked);
                }
                if key.expires.is_some_and(|end| end <= now) {
                    return Err(Refusal::Expired);
                }
                Ok(Identity::Key {
                    id: parsed.id.to_owned(),
                    name: key.name.clone(),
                    scopes: key.scopes.clone(),
                    per_second: key.per_second,
                })
            }
            Kind::Node => {
                let node = pages.node_of.get(parsed.id).ok_or(Refusal::Unknown)?;
                let entry = pages.nodes.get(node).ok_or(Refusal::Unknown)?;
                let hash = entry.hash.as_ref().ok_or(Refusal::Unknown)?;
                hash.matches(parsed.secret)
                    .then(|| Identity::Node { node: node.clone() })
                    .ok_or(Refusal::Unknown)
            }
            Kind::Join => {
                let ticket = pages
                    .tickets
                    .get(parsed.id)
                    .filter(|ticket| ticket.hash.matches(parsed.secret))
                    .ok_or(Refusal::Unknown)?;
                ticket.refusal(now).map_or_else(
                    || {
                        Ok(Identity::Ticket {
                            id: parsed.id.to_owned(),
                        })
                    },
                    Err,
                )
            }
        }
    }

    /// Whether a node with a certificate is let in.
    pub fn knows_node(&self, node: &str) -> bool {
        self.pages().nodes.contains_key(node)
    }

    /// When the key or ticket with this id ends.
    pub fn expiry(&self, id: &str) -> Option<Timestamp> {
        let pages = self.pages();
        let of_key = pages.keys.get(id).and_then(|key| key.expires);
        of_key.or_else(|| pages.tickets.get(id).map(|ticket| ticket.expires))
    }

    /// All keys with their ids.
    pub fn keys(&self) -> Vec<(String, ApiKey)> {
        self.pages()
            .keys
            .iter()
            .map(|(id, key)| (id.clone(), key.clone()))
            .collect()
    }

    /// All tickets with their ids.
    pub fn tickets(&self) -> Vec<(String, Ticket)> {
        self.pages()
            .tickets
            .iter()
            .map(|(id, ticket)| (id.clone(), ticket.clone()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct World {
        _place: tempfile::TempDir,
        path: PathBuf,
        book: Book,
        now: Timestamp,
    }

    fn world() -> World {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("credentials.json");
        World {
            book: Book::open(&path).unwrap(),
            _place: place,
            path,
            now: Timestamp::from_second(1_700_000_000).unwrap(),
        }
    }

    fn later(now: Timestamp, seconds: u64) -> Timestamp {
        now + Duration::from_secs(seconds)
    }

    #[test]
    fn a_key_outlives_a_restart_and_its_secret_is_nowhere_on_disk() {
        let w = world();
        assert!(w.book.lacks_admin(w.now));
        let minted = w
            .book
            .create_key("ci", BTreeSet::from([Scope::Admin]), None, None, w.now)
            .unwrap();
        let again = Book::open(&w.path).unwrap();
        assert!(
            again
                .identify(&minted.text, w.now)
                .unwrap()
                .may(super::super::scope::Need::Scope(Scope::Submit))
        );
        assert!(!again.lacks_admin(w.now));
        let secret = minted.text.rsplit('_').next().unwrap();
        assert!(!std::fs::read_to_string(&w.path).unwrap().contains(secret));
        let wrong = format!("{}x", minted.text);
        assert_eq!(again.identify(&wrong, w.now), Err(Refusal::Unknown));
    }

    #[test]
    fn keys_end_by_time_by_revocation_and_after_a_rotation() {
        let w = world();
        let scopes = BTreeSet::from([Scope::Read]);
        let short = w
            .book
            .create_key("a", scopes.clone(), None, Some(later(w.now, 10)), w.now)
            .unwrap();
        assert!(w.book.identify(&short.text, later(w.now, 9)).is_ok());
        assert_eq!(
            w.book.identify(&short.text, later(w.now, 10)),
            Err(Refusal::Expired)
        );
        let long = w.book.create_key("b", scopes, Some(5), None, w.now).unwrap();
        let next = w
            .book
            .rotate_key(&long.id, Duration::from_mins(1), w.now)
            .unwrap();
        assert!(w.book.identify(&long.text, later(w.now, 59)).is_ok());
        assert_eq!(
            w.book.identify(&long.text, later(w.now, 60)),
            Err(Refusal::Expired)
        );
        w.book.revoke(&next.id, w.now).unwrap();
        assert_eq!(w.book.identify(&next.text, w.now), Err(Refusal::Revoked));
        assert!(matches!(w.book.revoke("none", w.now), Err(BookError::Unknown(_))));
    }

    #[test]
    fn a_ticket_is_spent_expires_and_carries_the_fingerprint() {
        let w = world();
        let ticket = w.book.create_ticket("abcd", 1, later(w.now, 100), w.now).unwrap();
        assert!(ticket.text.ends_with("_abcd"));
        assert!(matches!(
            w.book.identify(&ticket.text, w.now),
            Ok(Identity::Ticket { .. })
        ));
        assert_eq!(
            w.book.identify(&ticket.text, later(w.now, 100)),
            Err(Refusal::Expired)
        );
        w.book.spend(&ticket.id, w.now).unwrap().unwrap();
        assert_eq!(w.book.spend(&ticket.id, w.now).unwrap(), Err(Refusal::Spent));
        assert_eq!(w.book.identify(&ticket.text, w.now), Err(Refusal::Spent));
    }

    #[test]
    fn a_node_has_one_key_and_none_after_its_removal() {
        let w = world();
        let first = w.book.admit_node("n1", true, w.now).unwrap().unwrap();
        let second = w.book.admit_node("n1", true, w.now).unwrap().unwrap();
        assert_eq!(w.book.identify(&first.text, w.now), Err(Refusal::Unknown));
        assert_eq!(
            w.book.identify(&second.text, w.now),
            Ok(Identity::Node {
                node: "n1".to_owned()
            })
        );
        w.book.remove_node("n1", w.now).unwrap();
        assert_eq!(w.book.identify(&second.text, w.now), Err(Refusal::Unknown));
        assert!(!w.book.knows_node("n1"));
    }

    #[test]
    fn a_broken_or_newer_book_is_refused_and_left_alone() {
        let w = world();
        for (content, part) in [
            ("{", "restore it"),
            (r#"{"version":9,"keys":{},"tickets":{},"nodes":{}}"#, "newer"),
        ] {
            std::fs::write(&w.path, content).unwrap();
            assert!(Book::open(&w.path).unwrap_err().to_string().contains(part));
            assert_eq!(std::fs::read_to_string(&w.path).unwrap(), content);
        }
    }
}
