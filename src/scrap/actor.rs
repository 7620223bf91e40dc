//! The scraper's actor: keeps the catalog fresh and answers its TCP peers.

mod tcp;

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use actix::{AsyncContext, Context, SpawnHandle, WrapFuture};
use tcp::Peers;
use tokio::sync::{Notify, watch};
use url::Url;

use super::{
    catalog::Catalog,
    fetch::{FetchError, Fetched, Page, Validators, fetch},
    freshness::{Lifetime, Schedule},
    page,
};
use crate::{
    config,
    http::{Places, accept},
    net::{Purpose, TcpListeners},
    role::{Accepting, Failure, Keep, PrepareError, Resources, Role, role_actor},
    telemetry::Metrics,
};

/// Reads the download page and gives its list of files to whoever asks over TCP.
pub struct ScrapActor {
    keep: Keep<Kept>,
    accepting: Accepting,
    /// What keeps an index fresh.
    reading: Option<(Arc<Index>, SpawnHandle)>,
}

/// What outlives the actor: the listener and what is known of the page.
#[derive(Clone)]
pub struct Kept {
    config: config::Scrap,
    listeners: TcpListeners,
    places: Arc<Places>,
    pub(super) index: Arc<Index>,
    pub(super) metrics: Arc<Metrics>,
}

/// What is known of the download page.
pub(super) struct Index {
    page: Url,
    /// What the peers look at; each change wakes those who wait.
    pub(super) view: watch::Sender<View>,
    /// A peer wants a newer list than there is.
    pub(super) demand: Notify,
}

/// The page at one moment.
pub(super) struct View {
    /// The newest list; `None` until the page has been read once.
    pub(super) catalog: Option<Arc<Catalog>>,
    validators: Option<Validators>,
    refresh: Duration,
    pub(super) schedule: Schedule,
    /// Fetches that ended, well or badly.
    pub(super) fetches: u64,
}

impl Index {
    fn new(config: &config::Scrap) -> Self {
        Self {
            page: config.origin.clone(),
            view: watch::Sender::new(View {
                catalog: None,
                validators: None,
                refresh: config.refresh,
                schedule: Schedule::new(config.refresh, Instant::now()),
                fetches: 0,
            }),
            demand: Notify::new(),
        }
    }

    /// Other times from now on, if they are others.
    fn refresh_every(&self, refresh: Duration) {
        self.view.send_if_modified(|view| {
            let other = view.refresh != refresh;
            if other {
                view.refresh = refresh;
                view.schedule = view.schedule.refreshed_every(refresh, Instant::now());
                // Whoever waits for the next fetch has the old time in mind.
                self.demand.notify_one();
            }
            other
        });
    }
}

impl Role for ScrapActor {
    const NAME: &'static str = "scrap";
    type Config = config::Scrap;
    type Kept = Kept;

    fn prepare(
        config: &config::Scrap,
        previous: Option<&Kept>,
        resources: &Resources,
    ) -> Result<Kept, PrepareError> {
        if config.origin.scheme() != "http" {
            let problem = format!(
                "`{}` is not spoken here; only `http` is",
                config.origin.scheme()
            );
            return Err(PrepareError::new("scrap.origin", problem));
        }
        let kept = previous.map(|kept| &kept.listeners);
        let listeners = TcpListeners::bind(&config.listen, kept, &resources.sockets)
            .map_err(|error| PrepareError::new("scrap.listen", error))?;
        let index = match previous {
            Some(kept) if kept.config.origin != config.origin => Arc::new(Index::new(config)),
            Some(kept) => Arc::clone(&kept.index),
            None => Arc::new(Index::new(config)),
        };
        Ok(Kept {
            config: config.clone(),
            listeners,
            places: match previous {
                Some(kept) => Arc::clone(&kept.places),
                None => resources
                    .metrics
                    .places(Self::NAME, config.peers, Purpose::Peer),
            },
            index,
            metrics: Arc::clone(&resources.metrics),
        })
    }

    fn listens(kept: &Kept) -> Vec<String> {
        let bound = kept.listeners.addresses();
        bound.map(|bound| format!("tcp {bound}")).collect()
    }

    fn missing(kept: &Kept) -> Vec<String> {
        kept.listeners.missing()
    }

    fn fits_host(kept: &Kept) -> bool {
        kept.listeners.are_open()
    }

    fn new(keep: Keep<Kept>) -> Self {
        Self {
            keep,
            accepting: Accepting::default(),
            reading: None,
        }
    }

    fn keep(&self) -> &Keep<Kept> {
        &self.keep
    }

    fn start(&mut self, ctx: &mut Context<Self>) -> Result<(), Failure> {
        let kept = self.keep.get();
        kept.places.set_limits(kept.config.peers);
        kept.index.refresh_every(kept.config.refresh);
        let reads_it = |(index, _): &(Arc<Index>, _)| Arc::ptr_eq(index, &kept.index);
        if !self.reading.as_ref().is_some_and(reads_it) {
            if let Some((_, before)) = self.reading.take() {
                ctx.cancel_future(before);
                // It was another page's.
                self.keep.recovered(PAGE);
            }
            let index = Arc::clone(&kept.index);
            let reading = keep_fresh(Arc::clone(&index), self.keep.clone()).into_actor(self);
            self.reading = Some((index, ctx.spawn(reading)));
        }
        let peers = Peers::new(self.keep.clone());
        self.accepting
            .follow(ctx, &kept.listeners.all(), |listener| {
                accept(listener, Arc::clone(&kept.places), peers.clone())
            });
        Ok(())
    }

    fn unbind(kept: &mut Kept) {
        kept.listeners = TcpListeners::default();
    }
}

role_actor!(ScrapActor);

/// What the scraper lacks when its page cannot be read.
const PAGE: &str = "page";
/// A page that cannot be read so often in a row is missing; a retry comes first, within a second.
const MISSES: u32 = 2;

/// Fetches the page whenever it is due, or when a peer wants it and may.
async fn keep_fresh(index: Arc<Index>, keep: Keep<Kept>) {
    let metrics = keep.get().metrics;
    index.view.send_modify(|view| view.schedule.abandon());
    let files = index
        .view
        .borrow()
        .catalog
        .as_ref()
        .map_or(0, |catalog| catalog.files().len());
    metrics
        .scrap_files
        .set(i64::try_from(files).unwrap_or(i64::MAX));
    loop {
        wait(&index).await;
        index.view.send_modify(|view| view.schedule.begin());
        let known = index.view.borrow().validators.clone();
        let elsewhere = keep.get().config.redirects_elsewhere;
        let fetched = match fetch(&index.page, known.as_ref(), elsewhere).await {
            Ok(fetched) => read(fetched).await,
            Err(error) => Err(error),
        };
        let trouble = fetched.as_ref().err().map(ToString::to_string);
        learn(&index, &metrics, fetched);
        match trouble {
            None => keep.recovered(PAGE),
            Some(trouble) if index.view.borrow().schedule.failures() >= MISSES => keep.degraded(
                PAGE,
                format!("the download page {} cannot be read: {trouble}", index.page),
            ),
            Some(_) => {}
        }
    }
}

async fn wait(index: &Index) {
    loop {
        let due = index.view.borrow().schedule.due();
        tokio::select! {
            () = tokio::time::sleep_until(due.into()) => return,
            () = index.demand.notified() => {
                if index.view.borrow().schedule.may_hurry(Instant::now()) {
                    return;
                }
            }
        }
    }
}

/// A fetch's outcome, the page's links taken out.
struct Read {
    lifetime: Option<Lifetime>,
    page: Option<(Catalog, Validators)>,
}

async fn read(fetched: Fetched) -> Result<Read, FetchError> {
    let page = match fetched.page {
        None => None,
        Some(Page {
            url,
            html,
            validators,
        }) => {
            // A page of megabytes takes its time: the peers should not wait for it.
            let catalog = tokio::task::spawn_blocking(move || page::files(&html, &url));
            let catalog = catalog.await.map_err(|_| FetchError::Unreadable)?;
            Some((catalog, validators))
        }
    };
    Ok(Read {
        lifetime: fetched.lifetime,
        page,
    })
}

fn learn(index: &Index, metrics: &Metrics, fetched: Result<Read, FetchError>) {
    let page = &index.page;
    let now = Instant::now();
    index.view.send_modify(|view| {
        view.fetches += 1;
        let result = match fetched {
            Ok(read) => {
                if view.schedule.failures() > 0 {
                    tracing::info!(%page, "the download page can be read again");
                }
                view.schedule
                    .succeeded(now, read.lifetime, read.page.is_some());
                let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
                metrics
                    .scrap_last_success_timestamp
                    .set(since_epoch.unwrap_or_default().as_secs_f64());
                match read.page {
                    None => "not_modified",
                    Some((catalog, validators)) => {
                        let files = catalog.files().len();
                        if view.catalog.as_deref() != Some(&catalog) {
                            tracing::info!(%page, files, "the download page has a new list");
                        }
                        metrics
                            .scrap_files
                            .set(i64::try_from(files).unwrap_or(i64::MAX));
                        view.catalog = Some(Arc::new(catalog));
                        view.validators = Some(validators);
                        "ok"
                    }
                }
            }
            Err(error) => {
                if view.schedule.failures() == 0 {
                    tracing::warn!(%page, %error, "the download page cannot be read; trying again");
                } else {
                    tracing::debug!(%page, %error, "the download page still cannot be read");
                }
                view.schedule.failed(now);
                "error"
            }
        };
        metrics.scrap_fetches.with_label_values(&[result]).inc();
    });
}
