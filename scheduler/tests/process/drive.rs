//! A [`Disk`] as a mounted filesystem (FUSE), in a mount namespace of the test's own: nothing of it is seen on the host,
//! and all of it is gone with the process.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BackgroundSession, BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow,
    WriteFlags,
};

use crate::disk::{Content, Disk, Node, Trouble};

/// Nothing changes behind the kernel's back.
const TTL: Duration = Duration::from_hours(1);
/// Set in the process that has the namespace.
const INSIDE: &str = "FFRTMP_TEST_MOUNTS";

/// True in a process that may mount: runs the named test again in a namespace of its own when this is not one, and then
/// answers false.
pub(crate) fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let mut command = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
        .args(["--mount", "--propagation", "private", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1");
    let output = command.output().expect("unshare of util-linux");
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        output.status.success() && text.contains("1 passed"),
        "in a mount namespace of its own (needs /dev/fuse): {}\n{text}",
        output.status
    );
    eprint!("{text}");
    false
}

/// A disk with a place where it can be mounted.
pub(crate) struct Drive {
    disk: Arc<Mutex<Disk>>,
    place: tempfile::TempDir,
    session: Option<BackgroundSession>,
}

impl Drive {
    /// An empty one of this many bytes, mounted.
    pub(crate) fn new(capacity: u64) -> Self {
        let mut drive = Self {
            disk: Arc::new(Mutex::new(Disk::new(capacity))),
            place: tempfile::tempdir().unwrap(),
            session: None,
        };
        drive.mount();
        drive
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.place.path().to_owned()
    }

    pub(crate) fn disk(&self) -> MutexGuard<'_, Disk> {
        lock(&self.disk)
    }

    fn mount(&mut self) {
        let mut options = fuser::Config::default();
        options.mount_options = vec![MountOption::FSName("ffrtmp-test".to_owned()), MountOption::NoDev];
        let files = Files(Arc::clone(&self.disk));
        let session = fuser::spawn_mount(files, self.place.path(), &options);
        self.session = Some(session.expect("mount a filesystem of our own"));
    }

    /// After a cut, with nobody using it any more: what survived is mounted anew, with no page cache to hide behind.
    pub(crate) fn restore(&mut self, survives: f64) {
        self.session.take().unwrap().umount_and_join().unwrap();
        self.disk().restore(survives);
        self.mount();
    }
}

fn lock(disk: &Mutex<Disk>) -> MutexGuard<'_, Disk> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Files(Arc<Mutex<Disk>>);

fn errno(trouble: Trouble) -> Errno {
    match trouble {
        Trouble::Dead => Errno::EIO,
        Trouble::Full => Errno::ENOSPC,
        Trouble::Missing => Errno::ENOENT,
    }
}

fn attributes(number: u64, node: &Node) -> FileAttr {
    let (kind, size) = match &node.content {
        Content::Directory(_) => (FileType::Directory, 0),
        Content::File(bytes) => (FileType::RegularFile, bytes.len() as u64),
    };
    FileAttr {
        ino: INodeNo(number),
        size,
        blocks: size.div_ceil(512),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm: (node.mode & 0o7777) as u16,
        nlink: 1,
        uid: nix::unistd::geteuid().as_raw(),
        gid: nix::unistd::getegid().as_raw(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

impl Files {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        lock(&self.0)
    }

    fn attr(&self, number: u64) -> Result<FileAttr, Trouble> {
        self.disk().node(number).map(|node| attributes(number, node))
    }

    fn make(&self, parent: INodeNo, name: &OsStr, content: Content, mode: u32) -> Result<FileAttr, Trouble> {
        let mut disk = self.disk();
        let node = Node { content, mode };
        let number = disk.make(parent.0, name, node)?;
        disk.node(number).map(|node| attributes(number, node))
    }

    fn done(reply: ReplyEmpty, outcome: Result<(), Trouble>) {
        match outcome {
            Ok(()) => reply.ok(),
            Err(trouble) => reply.error(errno(trouble)),
        }
    }
}

impl Filesystem for Files {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.disk().find(parent.0, name);
        match found.and_then(|number| self.attr(number)) {
            Ok(attr) => reply.entry(&TTL, &attr, Generation(0)),
            Err(trouble) => reply.error(errno(trouble)),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attr(ino.0) {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(trouble) => reply.error(errno(trouble)),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = || {
            let mut disk = self.disk();
            if let Some(mode) = mode {
                disk.chmod(ino.0, mode)?;
            }
            if let Some(size) = size {
                disk.resize(ino.0, size as usize)?;
            }
            Ok(())
        };
        match set().and_then(|()| self.attr(ino.0)) {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(trouble) => reply.error(errno(trouble)),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, reply: ReplyEntry) {
        match self.make(
            parent,
            name,
            Content::Directory(std::collections::BTreeMap::new()),
            mode,
        ) {
            Ok(attr) => reply.entry(&TTL, &attr, Generation(0)),
            Err(trouble) => reply.error(errno(trouble)),
        }
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        match self.make(parent, name, Content::File(Vec::new()), mode) {
            Ok(attr) => reply.created(&TTL, &attr, Generation(0), FileHandle(0), FopenFlags::empty()),
            Err(trouble) => reply.error(errno(trouble)),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        Self::done(reply, self.disk().remove(parent.0, name));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let moved = self.disk().rename((parent.0, name), (newparent.0, newname));
        Self::done(reply, moved);
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let disk = self.disk();
        match disk.node(ino.0).map(|node| &node.content) {
            Ok(Content::File(bytes)) => {
                let from = bytes.len().min(offset as usize);
                let to = bytes.len().min(from + size as usize);
                reply.data(&bytes[from..to]);
            }
            Ok(Content::Directory(_)) => reply.error(Errno::EISDIR),
            Err(trouble) => reply.error(errno(trouble)),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.disk().write(ino.0, offset as usize, data) {
            Ok(()) => reply.written(data.len() as u32),
            Err(trouble) => reply.error(errno(trouble)),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        Self::done(reply, self.disk().sync(ino.0));
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        Self::done(reply, self.disk().sync(ino.0));
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let disk = self.disk();
        let Ok(Content::Directory(names)) = disk.node(ino.0).map(|node| &node.content) else {
            return reply.error(Errno::ENOTDIR);
        };
        for (at, (name, number)) in names.iter().enumerate().skip(offset as usize) {
            let kind = disk
                .node(*number)
                .map_or(FileType::RegularFile, |node| attributes(*number, node).kind);
            if reply.add(INodeNo(*number), at as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let disk = self.disk();
        let free = disk.capacity.saturating_sub(disk.used()) / 4096;
        reply.statfs(
            disk.capacity / 4096,
            free,
            free,
            1 << 20,
            1 << 20,
            4096,
            255,
            4096,
        );
    }
}
