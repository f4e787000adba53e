//! The kernel's proc connector: a netlink socket on which it tells of every exec, fork and exit.
//!
//! A classic BPF filter, which the kernel runs before a message takes room in the buffer, lets through whole processes
//! only: threads, renames and changes of user are never queued. What the buffer cannot take is gone; the kernel says so
//! once, as `ENOBUFS`, and [`Connector::receive`] passes that on.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use netlink_sys::protocols::NETLINK_CONNECTOR;
use netlink_sys::{Socket, SocketAddr};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};

use super::message::{self, Message, News, kind, offset};

/// `CN_IDX_PROC` as a set of groups.
const GROUP: u32 = 1;
/// How long the kernel may take to answer the request; it does so within the call.
const PATIENCE_MS: u16 = 300;
/// Bytes of one datagram; the kernel sends 76.
const DATAGRAM: usize = 4096;

/// Why there is no connector.
#[derive(Debug, thiserror::Error)]
pub enum ConnectorError {
    /// A call failed.
    #[error("{step} the process connector")]
    Call {
        /// What was tried.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refused to tell us.
    #[error("the process connector refused to listen ({0}); grant CAP_NET_ADMIN")]
    Refused(io::Error),
    /// The kernel did not answer, which it does to strangers.
    #[error("the process connector does not answer; it serves the host's own pid and user namespaces only")]
    Silent,
    /// There is no connector behind the socket.
    #[error(
        "no process connector here: it exists in the host's own network namespace, on kernels with CONFIG_PROC_EVENTS"
    )]
    Nobody,
}

/// What came out of one reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Received {
    /// A datagram; its messages are in the buffer.
    Datagram,
    /// The kernel had to drop messages since the last reading.
    Lost,
    /// Nothing more is there.
    Dry,
}

/// The socket, listening.
pub struct Connector {
    socket: Socket,
    buffer: Vec<u8>,
    /// Of our requests.
    number: u32,
}

impl Connector {
    /// Opens the socket with room for `receive_bytes`, and waits for the kernel's consent.
    pub fn open(receive_bytes: usize) -> Result<Self, ConnectorError> {
        let call = |step| move |source| ConnectorError::Call { step, source };
        let mut socket = Socket::new(NETLINK_CONNECTOR).map_err(call("open"))?;
        // Beyond the host's limit where we may; the kernel doubles the figure for its own overhead.
        setsockopt(&socket, sockopt::RcvBufForce, &receive_bytes)
            .or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &receive_bytes))
            .map_err(|error| call("make room for")(error.into()))?;
        filter(&socket).map_err(call("set the filter of"))?;
        socket
            .bind(&SocketAddr::new(0, GROUP))
            .map_err(|source| match source.raw_os_error() {
                Some(libc::EPERM) => ConnectorError::Refused(source),
                _ => call("join")(source),
            })?;
        let mut connector = Self {
            socket,
            buffer: Vec::with_capacity(DATAGRAM),
            number: std::process::id(),
        };
        connector
            .ask(true)
            .map_err(|source| match source.raw_os_error() {
                Some(libc::ECONNREFUSED) => ConnectorError::Nobody,
                _ => call("ask")(source),
            })?;
        connector.consent()?;
        Ok(connector)
    }

    fn ask(&self, listen: bool) -> io::Result<()> {
        let request = message::request(self.number, listen);
        self.socket.send_to(&request, &SocketAddr::new(0, 0), 0).map(drop)
    }

    /// Waits for the answer to our request. Events that come before it are before our time.
    fn consent(&mut self) -> Result<(), ConnectorError> {
        loop {
            let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            if poll(&mut fds, PollTimeout::from(PATIENCE_MS)) != Ok(1) {
                return Err(ConnectorError::Silent);
            }
            let received = self
                .receive()
                .map_err(|source| ConnectorError::Call { step: "hear", source })?;
            if received != Received::Datagram {
                continue;
            }
            for message in self.messages() {
                match message.news {
                    // Other listeners' answers reach us as well.
                    News::Answer(_) if message.answers != self.number.wrapping_add(1) => {}
                    News::Answer(0) => return Ok(()),
                    News::Answer(error) => {
                        let error = io::Error::from_raw_os_error(error.cast_signed());
                        return Err(ConnectorError::Refused(error));
                    }
                    _ => {}
                }
            }
        }
    }

    /// Takes one datagram, without waiting.
    pub(super) fn receive(&mut self) -> io::Result<Received> {
        self.buffer.clear();
        match self.socket.recv_from(&mut self.buffer, libc::MSG_DONTWAIT) {
            // Only the kernel has port 0; what another process sent here is not looked at.
            Ok((_, from)) if from.port_number() != 0 => {
                self.buffer.clear();
                Ok(Received::Datagram)
            }
            Ok(_) => Ok(Received::Datagram),
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN) => Ok(Received::Dry),
                Some(libc::ENOBUFS) => Ok(Received::Lost),
                Some(libc::EINTR) => self.receive(),
                _ => Err(error),
            },
        }
    }

    /// The messages of the datagram that was received last, without those that are not understood.
    pub(super) fn messages(&self) -> Vec<Message> {
        message::messages(&self.buffer)
            .filter_map(|message| {
                message
                    .inspect_err(
                        |error| tracing::debug!(%error, "a message of the process connector is left out"),
                    )
                    .ok()
            })
            .collect()
    }
}

impl AsFd for Connector {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Connector {
    /// Kernels before 6.6 count listeners and go on sending for one that never said goodbye.
    fn drop(&mut self) {
        let _gone = self.ask(false);
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

/// The filter: answers, execs, and forks and exits of whole processes. Loads of classic BPF read big-endian words, so the
/// numbers compared with are turned.
fn program() -> [libc::sock_filter; 15] {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const KEEP: u16 = (libc::BPF_MISC | libc::BPF_TAX) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const EQUAL_KEPT: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_X) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, k| libc::sock_filter {
        code,
        jt: 0,
        jf: 0,
        k,
    };
    let jump = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    [
        step(LOAD, offset::KIND),
        jump(EQUAL, kind::NONE.to_be(), 12, 0),
        jump(EQUAL, kind::EXEC.to_be(), 11, 0),
        jump(EQUAL, kind::FORK.to_be(), 0, 4),
        step(LOAD, offset::CHILD[0]),
        step(KEEP, 0),
        step(LOAD, offset::CHILD[1]),
        jump(EQUAL_KEPT, 0, 6, 5),
        jump(EQUAL, kind::EXIT.to_be(), 0, 4),
        step(LOAD, offset::TASK[0]),
        step(KEEP, 0),
        step(LOAD, offset::TASK[1]),
        jump(EQUAL_KEPT, 0, 1, 0),
        step(RETURN, 0),
        step(RETURN, u32::MAX),
    ]
}

/// Hangs the filter on the socket.
fn filter(socket: &Socket) -> io::Result<()> {
    let mut steps = program();
    let program = libc::sock_fprog {
        len: steps.len() as u16,
        filter: steps.as_mut_ptr(),
    };
    // SAFETY: the kernel copies `len` steps from `filter`, both of which live until the call returns.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
