//! Events as they come, from the engine's channel or line by line from the socket.

use std::pin::Pin;

use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::io::StreamReader;

use crate::control::session::{Session, SessionGuard};
use crate::control::types::{ErrorCode, JobEvent, RequestError};

/// Longest line taken from the socket, bytes: an event with 4 KiB of argv in its widest JSON form stays far below.
const LINE_MAX: usize = 1 << 20;

type Lines = Pin<Box<dyn Stream<Item = Result<String, RequestError>> + Send>>;

/// Events of jobs, in the order they happened.
pub struct EventStream {
    source: Source,
}

enum Source {
    Local(mpsc::Receiver<JobEvent>, Option<SessionGuard>),
    Socket(Lines),
}

impl std::fmt::Debug for EventStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventStream").finish_non_exhaustive()
    }
}

impl EventStream {
    pub(super) fn local(events: mpsc::Receiver<JobEvent>) -> Self {
        Self {
            source: Source::Local(events, None),
        }
    }

    pub(super) fn socket(response: reqwest::Response) -> Self {
        let bytes = response
            .bytes_stream()
            .map(|part| part.map_err(std::io::Error::other));
        let lines = FramedRead::new(
            StreamReader::new(bytes),
            LinesCodec::new_with_max_length(LINE_MAX),
        );
        let lines = lines.map(|line| line.map_err(|error| broken(&error)));
        Self {
            source: Source::Socket(Box::pin(lines)),
        }
    }

    /// The next event; `None` when the governor has ended. An error ends the stream.
    pub async fn next(&mut self) -> Option<Result<JobEvent, RequestError>> {
        match &mut self.source {
            Source::Local(events, _guard) => events.recv().await.map(Ok),
            Source::Socket(lines) => {
                let line = lines.next().await?;
                Some(line.and_then(|line| decode(&line)))
            }
        }
    }

    /// The first line of a session's stream.
    pub(super) async fn first_line<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, RequestError> {
        let ended = || broken(&"the stream ended before its first line");
        match &mut self.source {
            Source::Local(..) => Err(ended()),
            Source::Socket(lines) => decode(&lines.next().await.ok_or_else(ended)??),
        }
    }
}

fn decode<T: serde::de::DeserializeOwned>(line: &str) -> Result<T, RequestError> {
    serde_json::from_str(line).map_err(|error| {
        RequestError::new(
            ErrorCode::Failed,
            format!("the daemon's line was not understood: {error}"),
            "client and daemon may be of different versions; `ffrtmp doctor` shows both",
        )
    })
}

fn broken(error: &dyn std::fmt::Display) -> RequestError {
    RequestError::new(
        ErrorCode::Gone,
        format!("the connection to the daemon broke: {error}"),
        "see whether ffrtmp-governor still runs; workloads run on either way",
    )
}

/// Rules in force for as long as this lives, and what happens meanwhile.
#[derive(Debug)]
pub struct Watch {
    /// Number of the session.
    pub session: u64,
    /// What happens.
    pub events: EventStream,
}

impl Watch {
    pub(super) fn local(session: Session) -> Self {
        let number = session.number;
        let (events, guard) = session.into_parts();
        Self {
            session: number,
            events: EventStream {
                source: Source::Local(events, Some(guard)),
            },
        }
    }
}
