//! What a walk asks the proxy besides files: by signals, or over the binary transport.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{Observer, Step, Via, Walk};
use crate::{
    client::{
        failure::WalkError,
        file_name::FileName,
        session::{Answered, Counts, echo_now},
        transport::{Transport, TransportError},
    },
    rudp::{
        exchange,
        requester::{Reply, Request},
        signal,
        statistics::Standing,
    },
};

/// Echoes under way at once: no more than a server allows streams.
const ECHOES: usize = 32;

/// What the proxy has counted, and the client.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// Of signals.
    Signals {
        /// The signal's id.
        id: u64,
        /// By the proxy.
        statistics: signal::Statistics,
        /// By the client.
        counts: Counts,
    },
    /// Of the binary transport's connection.
    Transport {
        /// By the proxy.
        server: exchange::Statistics,
        /// By the client.
        client: Box<Standing>,
    },
}

impl Walk {
    /// Asks over the transport; once more over a new connection if the first turns out to be lost.
    async fn ask_over<T>(
        &mut self,
        observer: &mut dyn Observer,
        ask: impl AsyncFn(&Transport) -> Result<T, TransportError>,
    ) -> Result<T, WalkError> {
        let mut anew = false;
        loop {
            let (server, transport) = self.reach(observer).await?;
            match ask(&transport).await {
                Err(error) if !anew && error.may_pass() && transport.is_over() => anew = true,
                answered => {
                    return answered.map_err(|error| WalkError::Transport { server, error });
                }
            }
        }
    }

    fn asks_over_transport(&self) -> bool {
        matches!(&self.plan.via, Via::Rudp(carriage) if !carriage.signals)
    }

    /// Measures the round trip `times` times, all at once.
    pub async fn echo(
        &mut self,
        times: usize,
        observer: &mut dyn Observer,
    ) -> Result<Vec<Answered>, WalkError> {
        let requests: Vec<Request> = (0..times).map(|_| echo_now()).collect();
        if !self.asks_over_transport() {
            return self.ask(requests, observer).await;
        }
        self.ask_over(observer, async |transport| {
            let echoes = requests.iter().zip(1..).map(async |(request, id)| {
                let Request::Echo { timestamp } = request else {
                    return Ok(None);
                };
                let asked_at = Instant::now();
                transport.echo(timestamp).await?;
                let took = asked_at.elapsed();
                Ok::<_, TransportError>(Some(Answered {
                    id,
                    reply: Reply::Echo {
                        timestamp: timestamp.clone(),
                    },
                    rtt: Some(took),
                    took,
                    attempts: 1,
                }))
            });
            let echoes: Vec<_> = stream::iter(echoes).buffered(ECHOES).try_collect().await?;
            Ok(echoes.into_iter().flatten().collect())
        })
        .await
    }

    /// The statistics, as the proxy counts them.
    pub async fn stat(&mut self, observer: &mut dyn Observer) -> Result<Told, WalkError> {
        if self.asks_over_transport() {
            let told = async |transport: &Transport| {
                let server = transport.stat().await?;
                let client = transport.standing().await.ok_or(TransportError::Over)?;
                Ok(Told::Transport {
                    server,
                    client: Box::new(client),
                })
            };
            return self.ask_over(observer, told).await;
        }
        loop {
            let answers = self.ask(vec![Request::Stat], observer).await?;
            if let Some(answered) = answers.into_iter().next()
                && let Reply::Stat(statistics) = answered.reply
            {
                return Ok(Told::Signals {
                    id: answered.id,
                    statistics,
                    counts: self.counts(),
                });
            }
        }
    }

    /// Asks for the list of files. A proxy whose scraper has not read the page yet has an empty
    /// list: it is asked again for a little while.
    pub async fn list(&mut self, observer: &mut dyn Observer) -> Result<&[FileName], WalkError> {
        /// Tries, and the pause between them.
        const EMPTY: (u32, Duration) = (10, Duration::from_millis(200));
        observer.step(Step::List);
        for attempt in 1..=EMPTY.0 {
            let names = if self.asks_over_transport() {
                let list = async |transport: &Transport| transport.list().await;
                self.ask_over(observer, list).await?
            } else {
                let answers = self.ask(vec![Request::List], observer).await?;
                let lists = answers
                    .into_iter()
                    .filter_map(|answered| match answered.reply {
                        Reply::List(files) => Some(files),
                        _ => None,
                    });
                lists.flatten().collect()
            };
            self.files = names.iter().map(|file| FileName::from_wire(file)).collect();
            if !self.files.is_empty() || attempt == EMPTY.0 {
                break;
            }
            tokio::time::sleep(EMPTY.1).await;
        }
        Ok(&self.files)
    }
}
