//! What the kernel's proc connector sends, from bytes to values. Pure; fuzzed; never panics on any input.
//!
//! The layouts are those of `linux/netlink.h`, `linux/connector.h` and `linux/cn_proc.h`: a netlink header of 16 bytes,
//! a connector header of 20, and an event whose words follow at fixed places. All words are in the machine's own order.
//! Kinds of events that nobody here asks for decode as [`News::Other`].

/// Bytes of a netlink header.
const NETLINK: usize = 16;
/// Bytes of a connector header.
const CONNECTOR: usize = 20;
/// Where the event begins.
const EVENT: usize = NETLINK + CONNECTOR;
/// Where the words of its kind begin: after kind, CPU and time stamp.
const DATA: usize = EVENT + 16;
/// `NLMSG_DONE`: the type of every message of the connector.
const DONE: u16 = 3;
/// `CN_IDX_PROC` and `CN_VAL_PROC`: the connector that tells of processes.
const PROC: (u32, u32) = (1, 1);

/// Kinds of events, as `cn_proc.h` numbers them.
pub mod kind {
    /// The answer to a request of ours or of another listener.
    pub const NONE: u32 = 0;
    /// A task was made.
    pub const FORK: u32 = 1;
    /// A process executed a program.
    pub const EXEC: u32 = 2;
    /// A task ended.
    pub const EXIT: u32 = 0x8000_0000;
}

/// Offsets from the start of a message, for the filter that the kernel runs on each.
pub mod offset {
    /// The kind.
    pub const KIND: u32 = super::EVENT as u32;
    /// Pid and tgid of the child in a fork.
    pub const CHILD: [u32; 2] = [super::DATA as u32 + 8, super::DATA as u32 + 12];
    /// Pid and tgid of the task in an exec or exit.
    pub const TASK: [u32; 2] = [super::DATA as u32, super::DATA as u32 + 4];
}

/// One message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// In an answer one more than the number of the request; else 0.
    pub answers: u32,
    /// Monotonic clock (which stands still while the machine sleeps), ns.
    pub at_ns: u64,
    /// What happened.
    pub news: News,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// A request was answered: 0, or an error number.
    Answer(u32),
    /// A process was made.
    Forked {
        /// Process whose child it is.
        parent: u32,
        /// The child.
        child: u32,
    },
    /// A process executed a program.
    Execed {
        /// The process.
        pid: u32,
    },
    /// The first thread of a process ended, and with it usually the process.
    Exited {
        /// The process.
        pid: u32,
        /// Wait status as `waitpid` gives it.
        status: i32,
    },
    /// A thread was made or ended, or something else that nobody here asks for.
    Other,
}

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The header says that the message is longer than what is left, or shorter than a header.
    #[error("a message of {says} bytes in {left}")]
    Length {
        /// What the header says.
        says: usize,
        /// Bytes there.
        left: usize,
    },
    /// It comes from another connector, or is no message of one.
    #[error("a message of type {kind} from connector {index}")]
    Foreign {
        /// Netlink's type.
        kind: u16,
        /// Connector's index.
        index: u32,
    },
}

/// Every message of a datagram; the first error ends it.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Result<Message, MessageError>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let (message, rest) = match first(bytes) {
            Ok((message, rest)) => (Ok(message), rest),
            Err(error) => (Err(error), &[][..]),
        };
        bytes = rest;
        Some(message)
    })
}

fn first(bytes: &[u8]) -> Result<(Message, &[u8]), MessageError> {
    let left = bytes.len();
    let says = word(bytes, 0).unwrap_or_default() as usize;
    let length = MessageError::Length { says, left };
    let body = bytes
        .get(..says)
        .filter(|body| body.len() >= DATA)
        .ok_or(length)?;
    // Messages begin at multiples of four; the last one may lack the padding.
    let rest = bytes.get(says.next_multiple_of(4)..).unwrap_or_default();
    let kind = u16::from_ne_bytes([body[4], body[5]]);
    let from = (
        word(body, NETLINK).ok_or(length)?,
        word(body, NETLINK + 4).ok_or(length)?,
    );
    if kind != DONE || from != PROC {
        return Err(MessageError::Foreign { kind, index: from.0 });
    }
    let message = Message {
        answers: word(body, NETLINK + 12).ok_or(length)?,
        at_ns: long(body, EVENT + 8).ok_or(length)?,
        news: news(body).ok_or(length)?,
    };
    Ok((message, rest))
}

/// The words of one kind. `None` when the message ends before them.
fn news(body: &[u8]) -> Option<News> {
    let data = |index: usize| word(body, DATA + 4 * index);
    Some(match word(body, EVENT)? {
        kind::NONE => News::Answer(data(0)?),
        // Parent's pid and tgid, then the child's. A thread has a pid that is not its tgid.
        kind::FORK if data(2)? == data(3)? => News::Forked {
            parent: data(1)?,
            child: data(3)?,
        },
        kind::EXEC => News::Execed { pid: data(1)? },
        kind::EXIT if data(0)? == data(1)? => News::Exited {
            pid: data(1)?,
            status: data(2)?.cast_signed(),
        },
        _ => News::Other,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(word.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    let long = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_ne_bytes(long.try_into().ok()?))
}

/// The request to be sent everything (`PROC_CN_MCAST_LISTEN`) or nothing more (`PROC_CN_MCAST_IGNORE`).
pub fn request(number: u32, listen: bool) -> Vec<u8> {
    const LISTEN: u32 = 1;
    const IGNORE: u32 = 2;
    let operation = if listen { LISTEN } else { IGNORE };
    let mut bytes = Vec::with_capacity(EVENT + 4);
    bytes.extend((EVENT as u32 + 4).to_ne_bytes());
    bytes.extend(DONE.to_ne_bytes());
    // Flags, netlink's own sequence, and the port that the kernel fills in.
    bytes.extend([0; 10]);
    // The kernel counts sequences by itself, and answers to the number in the place of an acknowledgement.
    for word in [PROC.0, PROC.1, 0, number] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes.extend(4_u16.to_ne_bytes());
    bytes.extend([0; 2]);
    bytes.extend(operation.to_ne_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A message as the kernel builds it: 76 bytes on every kernel since 5.8.
    fn bytes(kind: u32, data: [u32; 6]) -> Vec<u8> {
        let mut bytes = request(7, true);
        bytes.truncate(EVENT);
        bytes[..4].copy_from_slice(&76_u32.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(1_u32.to_ne_bytes());
        bytes.extend(123_456_789_u64.to_ne_bytes());
        for word in data {
            bytes.extend(word.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn every_kind_is_read_as_the_kernel_writes_it() {
        for (kind, data, news) in [
            (kind::NONE, [1, 0, 0, 0, 0, 0], News::Answer(1)),
            (
                kind::FORK,
                [10, 10, 11, 11, 0, 0],
                News::Forked {
                    parent: 10,
                    child: 11,
                },
            ),
            // A thread of the parent forks: the process is the parent.
            (
                kind::FORK,
                [12, 10, 11, 11, 0, 0],
                News::Forked {
                    parent: 10,
                    child: 11,
                },
            ),
            (kind::FORK, [10, 10, 13, 10, 0, 0], News::Other),
            (kind::EXEC, [11, 11, 0, 0, 0, 0], News::Execed { pid: 11 }),
            (
                kind::EXIT,
                [11, 11, 3 << 8, 17, 10, 10],
                News::Exited { pid: 11, status: 768 },
            ),
            (
                kind::EXIT,
                [11, 11, 9, 17, 10, 10],
                News::Exited { pid: 11, status: 9 },
            ),
            (kind::EXIT, [13, 10, 0, 17, 10, 10], News::Other),
            // A change of name (COMM), which the filter keeps away.
            (0x200, [11, 11, 0x6d66_6666, 0, 0, 0], News::Other),
        ] {
            let bytes = bytes(kind, data);
            let told: Vec<_> = messages(&bytes).collect();
            let message = Message {
                answers: 7,
                at_ns: 123_456_789,
                news,
            };
            assert_eq!(told, [Ok(message)], "kind {kind:#x}");
        }
    }

    #[test]
    fn a_datagram_may_hold_several_messages() {
        let mut two = bytes(kind::EXEC, [5; 6]);
        two.extend(bytes(kind::EXEC, [6; 6]));
        let told: Vec<_> = messages(&two).map(|message| message.unwrap().news).collect();
        assert_eq!(told, [News::Execed { pid: 5 }, News::Execed { pid: 6 }]);
    }

    #[test]
    fn lengths_that_lie_and_strangers_are_refused() {
        let whole = bytes(kind::EXIT, [5; 6]);
        let cut = |to: usize| messages(&whole[..to]).collect::<Vec<_>>();
        assert_eq!(cut(60), [Err(MessageError::Length { says: 76, left: 60 })]);
        assert_eq!(cut(2), [Err(MessageError::Length { says: 0, left: 2 })]);
        let mut short = whole.clone();
        // Ends before the status.
        short[..4].copy_from_slice(&60_u32.to_ne_bytes());
        short.truncate(60);
        assert_eq!(
            messages(&short).collect::<Vec<_>>(),
            [Err(MessageError::Length { says: 60, left: 60 })]
        );
        let mut other = whole.clone();
        other[NETLINK] = 4;
        assert_eq!(
            messages(&other).collect::<Vec<_>>(),
            [Err(MessageError::Foreign { kind: 3, index: 4 })]
        );
        assert_eq!(messages(&[]).count(), 0);
    }

    #[test]
    fn a_request_is_as_long_as_it_says() {
        let request = request(9, true);
        assert_eq!(request.len(), 40);
        assert_eq!(word(&request, 0), Some(40));
        assert_eq!(word(&request, NETLINK + 12), Some(9));
        assert_eq!(word(&request, EVENT), Some(1));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(messages(&bytes).count() <= bytes.len() / DATA + 1);
        }

        #[test]
        fn any_words_after_a_true_header_are_read(kind: u32, data: [u32; 6]) {
            let bytes = bytes(kind, data);
            prop_assert!(messages(&bytes).all(|message| message.is_ok()));
        }
    }
}
