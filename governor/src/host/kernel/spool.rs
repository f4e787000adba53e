//! Arguments between the ring and the ledger: what was taken from the ring and is not on disk yet.
//!
//! The kernel keeps a record until its commit, but an exec entry leaves the ring when it is read. A governor killed
//! between the two would know of the job and not of its arguments, so each exec entry is written here before the ring
//! lets it go. The page cache outlives a killed process; a host that goes down loses the kernel's records as well, so
//! nothing is ever synced. The file holds arguments as they were typed, and therefore belongs to root alone.
//!
//! It owns two files and their rotation, and refuses to grow without bound: beyond [`MOST`] entries are skipped and counted.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Size at which a file is laid aside until the ledger has caught up, bytes.
const ROTATE: u64 = 1 << 20;
/// Most bytes kept while the ledger cannot write: the arguments of about 200,000 processes.
const MOST: u64 = 64 << 20;
/// Bytes before each entry: its length.
const PREFIX: usize = 4;

/// Entries that are not on disk yet.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    file: File,
    bytes: u64,
    /// There is a file laid aside; it goes when the ledger has written this many orders.
    aside: Option<u64>,
    /// What an earlier governor left.
    left: Vec<Vec<u8>>,
    skipped: u64,
}

impl Spool {
    /// Opens the file and reads what an earlier governor left in it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut left = Vec::new();
        let aside = laid_aside(path);
        let had_aside = aside.exists();
        if had_aside {
            frames(&std::fs::read(&aside)?, &mut left);
        }
        let mut file = options().open(path)?;
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        let whole = frames(&content, &mut left);
        // A write that was cut short must not be taken for the head of the next entry.
        file.set_len(whole)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            bytes: whole,
            aside: had_aside.then_some(u64::MAX),
            left,
            skipped: 0,
        })
    }

    /// What an earlier governor had read and not saved; once.
    pub fn take_left(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.left)
    }

    /// Entries that did not fit, since the start.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Keeps an entry. One that cannot be kept is counted: it costs arguments only if the governor is killed now.
    pub fn push(&mut self, entry: &[u8]) {
        let mut frame = Vec::with_capacity(PREFIX + entry.len());
        frame.extend_from_slice(&u32::try_from(entry.len()).unwrap_or(0).to_ne_bytes());
        frame.extend_from_slice(entry);
        if self.bytes >= MOST || self.file.write_all(&frame).is_err() {
            self.skipped += 1;
            return;
        }
        self.bytes += frame.len() as u64;
    }

    /// Drops what is on disk: `sent` orders went to the ledger so far, `written` of them are committed.
    pub fn settle(&mut self, sent: u64, written: u64) -> io::Result<()> {
        match self.aside {
            // It is an earlier governor's; what it held was told before this, so it is among the orders sent.
            Some(u64::MAX) => self.aside = Some(sent),
            Some(barrier) if written >= barrier => {
                std::fs::remove_file(laid_aside(&self.path))?;
                self.aside = None;
            }
            None if self.bytes >= ROTATE => {
                std::fs::rename(&self.path, laid_aside(&self.path))?;
                self.aside = Some(sent);
                self.file = options().open(&self.path)?;
                self.bytes = 0;
            }
            Some(_) | None => {}
        }
        Ok(())
    }
}

/// Removes both files. True when there was one.
pub fn remove(path: &Path) -> io::Result<bool> {
    let mut found = false;
    for path in [path.to_owned(), laid_aside(path)] {
        match std::fs::remove_file(path) {
            Ok(()) => found = true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600);
    options
}

fn laid_aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".old");
    PathBuf::from(name)
}

/// Adds the whole entries of a file; gives the length they take.
fn frames(content: &[u8], into: &mut Vec<Vec<u8>>) -> u64 {
    let mut rest = content;
    while let Some((prefix, behind)) = rest.split_first_chunk::<PREFIX>() {
        let len = u32::from_ne_bytes(*prefix) as usize;
        let Some((entry, next)) = behind.split_at_checked(len) else {
            break;
        };
        into.push(entry.to_vec());
        rest = next;
    }
    (content.len() - rest.len()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_governor_finds_what_the_last_one_had_not_saved() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        let mut first = Spool::open(&path).unwrap();
        first.push(b"one");
        first.push(b"two");
        drop(first);
        // Killed while it wrote.
        let mut file = options().open(&path).unwrap();
        file.write_all(&[9, 0, 0, 0, 1]).unwrap();
        let mut second = Spool::open(&path).unwrap();
        assert_eq!(second.take_left(), [b"one", b"two"]);
        second.push(b"three");
        let mut third = Spool::open(&path).unwrap();
        assert_eq!(
            third.take_left(),
            [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]
        );
        assert!(third.take_left().is_empty(), "told once");
    }

    #[test]
    fn a_full_file_is_laid_aside_and_goes_when_the_ledger_has_caught_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        let mut spool = Spool::open(&path).unwrap();
        let entry = vec![7; ROTATE as usize];
        spool.push(&entry);
        spool.settle(10, 3).unwrap();
        spool.push(b"new");
        spool.settle(11, 9).unwrap();
        assert_eq!(
            Spool::open(&path).unwrap().take_left().len(),
            2,
            "not on disk yet"
        );
        spool.settle(11, 10).unwrap();
        assert_eq!(Spool::open(&path).unwrap().take_left(), [b"new"]);
        assert!(remove(&path).unwrap());
        assert!(!remove(&path).unwrap());
    }

    #[test]
    fn what_an_earlier_governor_laid_aside_waits_for_this_ones_orders() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        let mut first = Spool::open(&path).unwrap();
        first.push(&vec![7; ROTATE as usize]);
        first.settle(5, 0).unwrap();
        let mut second = Spool::open(&path).unwrap();
        second.settle(4, 0).unwrap();
        second.settle(4, 3).unwrap();
        assert_eq!(Spool::open(&path).unwrap().take_left().len(), 1);
        second.settle(4, 4).unwrap();
        assert!(Spool::open(&path).unwrap().take_left().is_empty());
    }
}
