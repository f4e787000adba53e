//! What a power cut leaves of a disk: files as programs see them, files as the platters have them, and between the two
//! the changes nobody has synced.
//!
//! The rules are harsher than most filesystems': a file's name is durable only after its directory was synced, a file's
//! content only after the file was; of what was not, any blocks may or may not be there.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use rand::RngExt as _;

/// Number of the top directory.
pub(crate) const ROOT: u64 = 1;
/// What a disk writes whole.
const BLOCK: usize = 4096;

/// What a number stands for.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Directory(BTreeMap<OsString, u64>),
    File(Vec<u8>),
}

/// A file or directory.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) content: Content,
    pub(crate) mode: u32,
}

/// A change of a file's content.
#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Resize(usize),
}

/// Why something was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The power is off.
    Dead,
    /// No space is left.
    Full,
    /// There is no such thing.
    Missing,
}

/// The disk.
#[derive(Debug)]
pub(crate) struct Disk {
    seen: BTreeMap<u64, Node>,
    durable: BTreeMap<u64, Node>,
    unsynced: BTreeMap<u64, Vec<Change>>,
    next: u64,
    on: bool,
    /// Bytes it holds.
    pub(crate) capacity: u64,
    /// Syncs of files since the start.
    pub(crate) syncs: u64,
}

fn apply(content: &mut Content, change: &Change) {
    let Content::File(bytes) = content else { return };
    match change {
        Change::Resize(size) => bytes.resize(*size, 0),
        Change::Write(at, data) => {
            let end = at + data.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*at..end].copy_from_slice(data);
        }
    }
}

impl Disk {
    /// An empty one.
    pub(crate) fn new(capacity: u64) -> Self {
        let root = Node {
            content: Content::Directory(BTreeMap::new()),
            mode: 0o755,
        };
        Self {
            seen: BTreeMap::from([(ROOT, root.clone())]),
            durable: BTreeMap::from([(ROOT, root)]),
            unsynced: BTreeMap::new(),
            next: ROOT + 1,
            on: true,
            capacity,
            syncs: 0,
        }
    }

    /// Bytes in use.
    pub(crate) fn used(&self) -> u64 {
        let size = |node: &Node| match &node.content {
            Content::File(bytes) => bytes.len() as u64,
            Content::Directory(_) => 0,
        };
        self.seen.values().map(size).sum()
    }

    fn alive(&self) -> Result<(), Trouble> {
        if self.on { Ok(()) } else { Err(Trouble::Dead) }
    }

    pub(crate) fn node(&self, number: u64) -> Result<&Node, Trouble> {
        self.alive()?;
        self.seen.get(&number).ok_or(Trouble::Missing)
    }

    fn node_mut(&mut self, number: u64) -> Result<&mut Node, Trouble> {
        self.alive()?;
        self.seen.get_mut(&number).ok_or(Trouble::Missing)
    }

    fn names(&mut self, directory: u64) -> Result<&mut BTreeMap<OsString, u64>, Trouble> {
        match &mut self.node_mut(directory)?.content {
            Content::Directory(names) => Ok(names),
            Content::File(_) => Err(Trouble::Missing),
        }
    }

    pub(crate) fn find(&mut self, directory: u64, name: &OsStr) -> Result<u64, Trouble> {
        self.names(directory)?.get(name).copied().ok_or(Trouble::Missing)
    }

    pub(crate) fn make(&mut self, directory: u64, name: &OsStr, node: Node) -> Result<u64, Trouble> {
        let number = self.next;
        self.names(directory)?.insert(name.to_owned(), number);
        self.next += 1;
        self.seen.insert(number, node);
        Ok(number)
    }

    pub(crate) fn remove(&mut self, directory: u64, name: &OsStr) -> Result<(), Trouble> {
        self.names(directory)?
            .remove(name)
            .map(|_| ())
            .ok_or(Trouble::Missing)
    }

    pub(crate) fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr)) -> Result<(), Trouble> {
        let number = self.find(from.0, from.1)?;
        self.remove(from.0, from.1)?;
        self.names(to.0)?.insert(to.1.to_owned(), number);
        Ok(())
    }

    fn change(&mut self, number: u64, change: Change) -> Result<(), Trouble> {
        let node = self.node_mut(number)?;
        apply(&mut node.content, &change);
        self.unsynced.entry(number).or_default().push(change);
        Ok(())
    }

    pub(crate) fn write(&mut self, number: u64, at: usize, data: &[u8]) -> Result<(), Trouble> {
        let grows = match &self.node(number)?.content {
            Content::File(bytes) => (at + data.len()).saturating_sub(bytes.len()),
            Content::Directory(_) => return Err(Trouble::Missing),
        };
        if grows > 0 && self.capacity < self.used() + grows as u64 {
            return Err(Trouble::Full);
        }
        self.change(number, Change::Write(at, data.to_vec()))
    }

    pub(crate) fn resize(&mut self, number: u64, size: usize) -> Result<(), Trouble> {
        self.change(number, Change::Resize(size))
    }

    pub(crate) fn chmod(&mut self, number: u64, mode: u32) -> Result<(), Trouble> {
        self.node_mut(number)?.mode = mode;
        Ok(())
    }

    /// Makes a file's content, or a directory's names, durable.
    pub(crate) fn sync(&mut self, number: u64) -> Result<(), Trouble> {
        let node = self.node(number)?.clone_head();
        self.syncs += 1;
        let durable = self.durable.entry(number).or_insert(node.clone());
        durable.mode = node.mode;
        if let Content::Directory(_) = node.content {
            *durable = node;
        }
        for change in self.unsynced.remove(&number).unwrap_or_default() {
            apply(&mut durable.content, &change);
        }
        Ok(())
    }

    /// Takes the power away: from here on nothing works.
    pub(crate) fn cut(&mut self) {
        self.on = false;
    }

    /// Gives it back. Of what was not synced each block is there with this probability.
    pub(crate) fn restore(&mut self, survives: f64) {
        let mut random = rand::rng();
        for (number, changes) in std::mem::take(&mut self.unsynced) {
            let mode = self.seen[&number].mode;
            let durable = self.durable.entry(number).or_insert(Node {
                content: Content::File(Vec::new()),
                mode,
            });
            for change in changes.iter().flat_map(blocks) {
                if random.random_bool(survives) {
                    apply(&mut durable.content, &change);
                }
            }
        }
        for (number, node) in &self.seen {
            if matches!(node.content, Content::Directory(_)) && random.random_bool(survives) {
                self.durable.insert(*number, node.clone());
            }
        }
        self.name_only();
        self.seen.clone_from(&self.durable);
        self.on = true;
    }

    /// A name whose content never was on the disk stands for an empty file or directory.
    fn name_only(&mut self) {
        let named: Vec<u64> = self
            .durable
            .values()
            .filter_map(|node| match &node.content {
                Content::Directory(names) => Some(names.values().copied()),
                Content::File(_) => None,
            })
            .flatten()
            .collect();
        for number in named {
            let empty = self.seen[&number].empty();
            self.durable.entry(number).or_insert(empty);
        }
    }
}

impl Node {
    fn empty(&self) -> Self {
        let content = match self.content {
            Content::Directory(_) => Content::Directory(BTreeMap::new()),
            Content::File(_) => Content::File(Vec::new()),
        };
        Self {
            content,
            mode: self.mode,
        }
    }

    /// A directory whole, a file without its bytes.
    fn clone_head(&self) -> Self {
        match self.content {
            Content::Directory(_) => self.clone(),
            Content::File(_) => self.empty(),
        }
    }
}

/// A change in the pieces that a disk writes whole.
fn blocks(change: &Change) -> Vec<Change> {
    let Change::Write(at, data) = change else {
        return vec![change.clone()];
    };
    let mut pieces = Vec::new();
    let mut from = 0;
    while from < data.len() {
        let to = data.len().min((at + from) / BLOCK * BLOCK + BLOCK - at);
        pieces.push(Change::Write(at + from, data[from..to].to_vec()));
        from = to;
    }
    pieces
}

#[test]
fn a_cut_keeps_what_was_synced_and_nothing_else() {
    let file = || Node {
        content: Content::File(Vec::new()),
        mode: 0o600,
    };
    let bytes = |disk: &mut Disk, name: &str| match disk.find(ROOT, OsStr::new(name)) {
        Ok(number) => match &disk.node(number).unwrap().content {
            Content::File(bytes) => Some(bytes.clone()),
            Content::Directory(_) => None,
        },
        Err(_) => None,
    };
    let mut disk = Disk::new(1 << 20);
    let kept = disk.make(ROOT, OsStr::new("kept"), file()).unwrap();
    disk.write(kept, 0, b"synced").unwrap();
    disk.sync(kept).unwrap();
    disk.sync(ROOT).unwrap();
    disk.write(kept, 0, b"SYN").unwrap();
    let nameless = disk.make(ROOT, OsStr::new("nameless"), file()).unwrap();
    disk.write(nameless, 0, b"x").unwrap();
    disk.sync(nameless).unwrap();
    disk.cut();
    assert_eq!(disk.write(kept, 0, b"y"), Err(Trouble::Dead));
    disk.restore(0.0);
    assert_eq!(bytes(&mut disk, "kept").unwrap(), b"synced");
    assert_eq!(bytes(&mut disk, "nameless"), None);
    disk.write(kept, 0, b"SYN").unwrap();
    disk.cut();
    disk.restore(1.0);
    assert_eq!(bytes(&mut disk, "kept").unwrap(), b"SYNced");
    let big = disk.make(ROOT, OsStr::new("big"), file()).unwrap();
    assert_eq!(disk.write(big, 0, &vec![0; 2 << 20]), Err(Trouble::Full));
}
