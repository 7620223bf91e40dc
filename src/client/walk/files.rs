//! The files of a walk.

use std::{cell::RefCell, collections::HashSet, time::Duration};

use futures_util::{StreamExt, stream};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use tokio::time::timeout;
use url::Url;

use super::{Observer, Plan, Step, UnderWay, Via, Walk};
use crate::{
    client::{
        dialer::Dialer,
        download::{Downloaded, Downloader, Progress, part_path},
        failure::{FetchError, WalkError},
        file_name::FileName,
        http::Http,
        session::SessionError,
        source::Source,
        summary::{Carried, Summary},
    },
    config::BadLink,
    rudp::{
        congestion::Algorithm,
        requester::{Failure, Reply, Request},
    },
};

/// Files that come over one connection at a time.
const AT_ONCE: usize = 8;

/// The longest wait for the statistics, when all files are there.
const STAT: Duration = Duration::from_secs(5);
/// The same when the client was told to stop.
const LAST_STAT: Duration = Duration::from_secs(1);

/// Everything that a file's path in a URL may not hold as it is.
const PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'\\')
    .add(b'/')
    .add(b'`')
    .add(b'{')
    .add(b'}');

/// What came of the files.
#[derive(Debug)]
pub struct Gathered {
    /// Each, in the order that they were asked for.
    pub files: Vec<Result<Downloaded, FetchError>>,
    /// All together.
    pub summary: Summary,
}

impl Walk {
    /// Downloads files: over HTTP one after the other, over the transport several at once. One that
    /// fails keeps none of the others from coming.
    pub async fn get(
        &mut self,
        files: &[FileName],
        observer: &mut dyn Observer,
    ) -> Result<Gathered, WalkError> {
        observer.step(Step::Files);
        let (sources, at_once) = match self.plan.via {
            Via::Http => (self.origins(files, observer).await?, 1),
            Via::Rudp(_) => {
                // Where the files are, the proxy knows.
                self.reach(observer).await?;
                let sources = files.iter().map(|file| {
                    let dialer = self.dialer.clone().filter(|_| !self.is_beyond(file));
                    dialer.map(Source::Rudp)
                });
                (sources.collect(), AT_ONCE)
            }
        };
        let downloader = Downloader {
            folder: self.plan.out.clone(),
            force: self.plan.force,
            discard: self.plan.discard,
            retries: 5,
            pause: Duration::from_millis(200),
        };
        let listed = &self.files;
        let mut local_names = HashSet::new();
        let jobs = files.iter().zip(sources).map(|(file, source)| {
            if local_names.insert(file.local()) {
                let nowhere = match listed.contains(file) {
                    true => FetchError::NoUrl(file.to_string()),
                    false => FetchError::unknown(file, listed),
                };
                (file, source.ok_or(nowhere))
            } else {
                (file, Err(FetchError::Twice(file.local().to_owned())))
            }
        });
        let observer = RefCell::new(observer);
        let fetches = jobs.enumerate().map(async |(n, (file, source))| {
            let result = match source {
                Ok(source) => fetch(&downloader, source, file, &observer).await,
                Err(error) => Err(error),
            };
            let result =
                result.map_err(|error| match error.is_unknown() && !listed.contains(file) {
                    true => FetchError::unknown(file, listed),
                    false => error,
                });
            observer.borrow_mut().fetched(file, &result);
            (n, result)
        });
        let nothing = files.iter().map(|file| (file.clone(), None));
        let UnderWay(under_way) = self.under_way.insert(UnderWay(nothing.collect()));
        let all = stream::iter(fetches)
            .buffer_unordered(at_once)
            .for_each(|(n, result)| {
                if let Some((_, slot)) = under_way.get_mut(n) {
                    *slot = Some(result);
                }
                std::future::ready(())
            });
        match &mut self.session {
            // A large file takes longer than the proxy remembers a client that says nothing.
            Some(session) => tokio::select! {
                () = all => {}
                never = session.stay() => match never {},
            },
            None => all.await,
        }
        let gathered = self.gather(STAT).await.unwrap_or_else(|| Gathered {
            files: Vec::new(),
            summary: Summary::new(&[], None),
        });
        observer.into_inner().gathered(&gathered.summary);
        Ok(gathered)
    }

    /// Whether a congestion control was wished of an HTTP origin that does not tell of any.
    pub fn wished_in_vain(&self, gathered: &Gathered) -> bool {
        let mut came = gathered.files.iter().flatten();
        self.plan.tcp_congestion.is_some()
            && came.any(|file| file.received > 0 && file.congestion.is_none())
    }

    /// Whether files come by a way for which the bad network of the plan does not hold.
    pub fn goes_past_its_bad_network(&self) -> bool {
        let Plan {
            loss, link, via, ..
        } = &self.plan;
        let BadLink { up, down, .. } = link;
        let is_bad = !loss.is_none()
            || [up, down]
                .iter()
                .any(|options| **options != Default::default());
        is_bad && matches!(via, Via::Http)
    }

    /// What came of a [`get`](Self::get) that was dropped under way, if one was: of what is missing,
    /// that it was stopped.
    pub async fn break_off(&mut self) -> Option<(Vec<FileName>, Gathered)> {
        let UnderWay(under_way) = self.under_way.as_ref()?;
        let files = under_way.iter().map(|(file, _)| file.clone()).collect();
        Some((files, self.gather(LAST_STAT).await?))
    }

    /// The summary of so many files that were to be asked for when the walk was dropped.
    pub fn none_came(&self, files: usize) -> Summary {
        let carried = match &self.plan.via {
            Via::Http => None,
            Via::Rudp(carriage) => Some(Carried {
                wish: carriage.congestion,
                protection: carriage.protection.name(),
                connections: self.dialer.as_ref().map_or(0, Dialer::dialled),
                server: None,
                client: None,
            }),
        };
        Summary {
            files,
            complete: false,
            ..Summary::new(&[], carried)
        }
    }

    /// Adds up what came of the files; asks the proxy for its part with so much patience.
    async fn gather(&mut self, patience: Duration) -> Option<Gathered> {
        let UnderWay(under_way) = self.under_way.take()?;
        let files: Vec<_> = under_way
            .into_iter()
            .map(|(file, result)| {
                result.unwrap_or_else(|| {
                    let part = part_path(&self.plan.out, &file);
                    Err(FetchError::Stopped { part })
                })
            })
            .collect();
        let summary = Summary::new(&files, self.carried(patience).await);
        Some(Gathered { files, summary })
    }

    /// Where the files are at HTTP origins.
    async fn origins(
        &mut self,
        files: &[FileName],
        observer: &mut dyn Observer,
    ) -> Result<Vec<Option<Source>>, WalkError> {
        // What no proxy can know is not asked for.
        let asked = |file: &&FileName| !self.is_beyond(file);
        let requests: Vec<Request> = files
            .iter()
            .filter(asked)
            .map(|file| Request::Redirect(file.wire().to_owned()))
            .collect();
        let beyond: Vec<bool> = files.iter().map(|file| self.is_beyond(file)).collect();
        let answers: Vec<Reply> = match self.ask(requests, observer).await {
            Ok(answers) => {
                let mut answers = answers.into_iter().map(|answered| answered.reply);
                let reply = |beyond: bool| match beyond {
                    true => Some(Reply::Redirect(None)),
                    false => answers.next(),
                };
                beyond.into_iter().filter_map(reply).collect()
            }
            // A proxy of the original kind may know no such question. It has told its list, and the
            // user where the page is.
            Err(WalkError::Session {
                error: SessionError::Failed(Failure::NoList(_) | Failure::Held(_)),
                ..
            }) if self.plan.origin.is_some() => vec![Reply::Redirect(None); files.len()],
            Err(error) => return Err(error),
        };
        let http = Http {
            local: self.local(),
            dns: self.dns,
            patience: Duration::from_secs(30),
        };
        let sources = files.iter().zip(answers).map(|(file, reply)| {
            let url = self.url(file, &reply).filter(|_| !self.is_beyond(file))?;
            let congestion = self.plan.tcp_congestion.map(kernels_name);
            Some(Source::Http {
                http,
                url,
                congestion,
            })
        });
        Ok(sources.collect())
    }

    /// Whether a file is a number that the list does not go up to.
    fn is_beyond(&self, file: &FileName) -> bool {
        let unlisted =
            !self.files.is_empty() && !self.files.contains(file) && self.plan.origin.is_none();
        unlisted && file.name().bytes().all(|byte| byte.is_ascii_digit())
    }

    /// Where a file is: the proxy's word, or else the origin that the user named. A proxy of the
    /// original kind may answer with the list: no URL, so no word.
    fn url(&self, file: &FileName, reply: &Reply) -> Option<Url> {
        let told = match reply {
            Reply::Redirect(Some(url)) => Url::parse(url).ok(),
            _ => None,
        };
        told.filter(|url| url.scheme() == "http").or_else(|| {
            let path = utf8_percent_encode(file.name(), PATH).to_string();
            self.plan.origin.as_ref()?.join(&format!("./{path}")).ok()
        })
    }

    /// What the transport has to tell of itself, if it was used.
    async fn carried(&self, patience: Duration) -> Option<Carried> {
        let dialer = self.dialer.as_ref()?;
        let settings = dialer.settings();
        let mut carried = Carried {
            wish: settings.congestion,
            protection: settings.protection.name(),
            connections: dialer.dialled(),
            server: None,
            client: None,
        };
        if let Some(transport) = dialer.current().await {
            let asked = timeout(patience, transport.stat()).await;
            carried.server = asked.ok().and_then(Result::ok);
            carried.client = transport.standing().await.map(Box::new);
        }
        Some(carried)
    }
}

/// What the kernel calls an algorithm.
fn kernels_name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::NewReno => "reno",
        other => other.name(),
    }
}

async fn fetch(
    downloader: &Downloader,
    source: Source,
    file: &FileName,
    observer: &RefCell<&mut dyn Observer>,
) -> Result<Downloaded, FetchError> {
    let mut progress = |progress: Progress<'_>| observer.borrow_mut().progress(file, &progress);
    let fetched = downloader.fetch(source, file, &mut progress).await;
    fetched.map_err(|error| FetchError::Download {
        error,
        part: part_path(&downloader.folder, file),
    })
}
