//! The stream of events of one job or of all. It outlives the connection: when that breaks, or the scheduler restarts, it is
//! taken up again behind the last event seen, for a few minutes.

use std::pin::Pin;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use eventsource_stream::Eventsource;
use ffrtmp_api::{JobEvent, Problem};
use reqwest::Method;
use tokio_stream::{Stream, StreamExt};

use super::Client;
use super::error::ClientError;

/// First and longest pause between two tries to take a stream up again, and how many there are: five minutes.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
const TRIES: usize = 64;

type Raw = Pin<Box<dyn Stream<Item = Option<(String, String)>> + Send>>;

/// What a stream tells.
#[derive(Debug)]
pub enum Told {
    /// A job changed its state.
    Event(Box<JobEvent>),
    /// The stream broke and was taken up again before any event had been seen: something may have been missed.
    Gap,
}

/// A stream of events.
pub struct Events {
    client: Client,
    job: Option<String>,
    last: Option<i64>,
    stream: Option<Raw>,
}

impl Events {
    /// Opens the stream, of one job or of all. Events come from now on, or behind the one with that number.
    pub async fn open(client: &Client, job: Option<&str>, after: Option<i64>) -> Result<Self, ClientError> {
        let mut events = Self {
            client: client.clone(),
            job: job.map(str::to_owned),
            last: after,
            stream: None,
        };
        events.stream = Some(events.connect().await?);
        Ok(events)
    }

    async fn connect(&self) -> Result<Raw, ClientError> {
        let path: Vec<&str> = match &self.job {
            Some(job) => vec!["jobs", job, "events"],
            None => vec!["events"],
        };
        let query: Vec<_> = self.last.iter().map(|last| ("after", last.to_string())).collect();
        let request = self.client.request(Method::GET, &path).query(&query);
        let response = self.client.sent(request).await?;
        let events = response.bytes_stream().eventsource();
        Ok(Box::pin(
            events.map(|event| event.ok().map(|event| (event.event, event.data))),
        ))
    }

    /// The next word. May be dropped and called again.
    pub async fn next(&mut self) -> Result<Told, ClientError> {
        loop {
            let Some(stream) = &mut self.stream else {
                let again = || self.connect();
                let pause = ExponentialBuilder::default()
                    .with_min_delay(PAUSE.0)
                    .with_max_delay(PAUSE.1)
                    .with_max_times(TRIES)
                    .with_jitter();
                self.stream = Some(again.retry(pause).when(ClientError::passing).await?);
                if self.last.is_none() {
                    return Ok(Told::Gap);
                }
                continue;
            };
            match stream.next().await.flatten() {
                Some((kind, data)) if kind == "transition" => {
                    let event: JobEvent =
                        serde_json::from_str(&data).map_err(|source| ClientError::Answer {
                            url: self.client.target.shown(),
                            status: 200,
                            source,
                        })?;
                    self.last = Some(event.id);
                    return Ok(Told::Event(Box::new(event)));
                }
                Some((kind, data)) if kind == "problem" => {
                    self.stream = None;
                    return Err(match serde_json::from_str::<Problem>(&data) {
                        Ok(problem) => ClientError::Refused {
                            problem: Box::new(problem),
                            keyed: true,
                        },
                        Err(_) => ClientError::StreamEnded(self.client.target.shown()),
                    });
                }
                // A kind of a later version.
                Some(_) => {}
                None => self.stream = None,
            }
        }
    }
}
