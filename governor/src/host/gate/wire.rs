//! What governor and gate say to each other: one JSON text a packet, descriptors beside it.
//!
//! The channel is a `SOCK_SEQPACKET` pair. Nothing blocks on it: a full buffer is an error of the sender, and a closed end
//! is how either side learns that the other is gone.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg,
    socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::core::gate::Choice;

/// Longest packet, bytes; the rules of one file are some hundred bytes each.
const PACKET_MAX: usize = 128 << 10;
/// Most descriptors beside one packet: a group in each hierarchy. Linux knows fewer than 16 controllers.
const DESCRIPTORS_MAX: usize = 24;

/// A file, whatever names it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileId {
    /// Device.
    pub dev: u64,
    /// Inode.
    pub inode: u64,
}

/// What the governor tells the gate.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// Sent first.
    Settings {
        /// Our tree as /proc/PID/cgroup lists it: number of the hierarchy, group. Whoever is below is in a job.
        ours: Vec<(u32, String)>,
        /// Whether systemd runs, so that members of services are left to scopes.
        systemd: bool,
        /// How long an exec may be held.
        budget: Duration,
    },
    /// Holds execs of the file whose descriptor comes along; again for new choices.
    Mark {
        /// The file.
        file: FileId,
        /// What is done with whom.
        choices: Vec<Choice>,
    },
    /// Holds them no longer. The descriptor comes along where the file is still there.
    Unmark {
        /// The file.
        file: FileId,
    },
    /// A group under its limits, a descriptor of `cgroup.procs` for each of its directories.
    Ready {
        /// What it is for.
        kind: u32,
        /// Its number.
        seq: u64,
    },
    /// Forgets the groups of a kind that no rule wants any more.
    Forget {
        /// The kind.
        kind: u32,
    },
}

/// What the gate tells the governor.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// It is at work, without these protections.
    Armed {
        /// What it could not have, with the reason.
        lacks: Vec<String>,
    },
    /// Whether a file is marked; the error's number where it is not.
    Marked {
        /// The file.
        file: FileId,
        /// `errno`.
        error: Option<i32>,
    },
    /// A process was moved. Sent before its exec goes on, so it is there before the exec's own event.
    Placed(Placed),
    /// The counters as they stand.
    Counts(Counts),
}

/// A process that was moved.
#[derive(Debug, Serialize, Deserialize)]
pub struct Placed {
    /// Its pid. It cannot be another's as long as the exec is held.
    pub pid: u32,
    /// Kind of its group.
    pub kind: u32,
    /// Number of its group.
    pub seq: u64,
    /// What it executes.
    pub file: FileId,
    /// `/proc/PID/cgroup` before the move.
    pub groups: String,
    /// When it sat in its group; boot-time clock, ns.
    pub at_ns: u64,
    /// How long the exec before this one was held that ended in a move, from the read of its event to its answer, ns.
    pub previous_ns: Option<u64>,
    /// The counters as they stand.
    pub counts: Counts,
}

/// What became of the events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Events read.
    pub held: u64,
    /// Processes moved.
    pub placed: u64,
    /// Left where they are: members of a job already.
    pub inside: u64,
    /// Left where they are: in a container, or in a service that systemd keeps.
    pub elsewhere: u64,
    /// Left where they are: no rule with the gate takes them.
    pub unwanted: u64,
    /// Let run because the budget was used up.
    pub timeouts: u64,
    /// Let run because no group was ready.
    pub no_group: u64,
    /// Let run because the kernel refused the move.
    pub refused: u64,
}

/// One end.
#[derive(Debug)]
pub struct Channel {
    fd: OwnedFd,
    /// Room for one packet, kept because most looks find none.
    room: Vec<u8>,
}

impl Channel {
    /// Both ends.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        Ok((Self::from_fd(ours), theirs))
    }

    /// The end this descriptor is.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self {
            fd,
            room: vec![0; PACKET_MAX],
        }
    }

    /// Sends one packet. Never waits: a full buffer is `WouldBlock`.
    pub fn send(&self, what: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = serde_json::to_vec(what).map_err(io::Error::other)?;
        if PACKET_MAX < bytes.len() || DESCRIPTORS_MAX < descriptors.len() {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &[][..] } else { &rights[..] };
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        sendmsg::<()>(self.fd.as_raw_fd(), &[IoSlice::new(&bytes)], control, flags, None)?;
        Ok(())
    }

    /// The next packet with its descriptors, `None` when there is none now. An error means that the other end is gone
    /// or mad; it does not come back.
    pub fn receive<T: DeserializeOwned>(&mut self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut control = nix::cmsg_space!([RawFd; DESCRIPTORS_MAX]);
        let mut parts = [IoSliceMut::new(&mut self.room)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
        let message = match recvmsg::<()>(self.fd.as_raw_fd(), &mut parts, Some(&mut control), flags) {
            Ok(message) => message,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut descriptors = Vec::new();
        for part in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = part {
                // SAFETY: the kernel made these descriptors for us in this call, and nobody else knows them.
                descriptors.extend(raw.iter().map(|&fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        let length = message.bytes;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let what = serde_json::from_slice(&self.room[..length]).map_err(io::Error::other)?;
        Ok(Some((what, descriptors)))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_arrive_whole_with_their_descriptors_and_a_closed_end_is_an_error() {
        let (ours, theirs) = Channel::pair().unwrap();
        let mut theirs = Channel::from_fd(theirs);
        assert!(theirs.receive::<Order>().unwrap().is_none());
        let file = tempfile::tempfile().unwrap();
        let order = Order::Ready { kind: 3, seq: 9 };
        ours.send(&order, &[file.as_fd(), file.as_fd()]).unwrap();
        ours.send(&Order::Forget { kind: 4 }, &[]).unwrap();
        let (order, descriptors) = theirs.receive::<Order>().unwrap().unwrap();
        assert!(matches!(order, Order::Ready { kind: 3, seq: 9 }) && descriptors.len() == 2);
        let (order, descriptors) = theirs.receive::<Order>().unwrap().unwrap();
        assert!(matches!(order, Order::Forget { kind: 4 }) && descriptors.is_empty());
        drop(ours);
        assert!(theirs.receive::<Order>().is_err());
    }
}
