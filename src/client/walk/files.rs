//! The files of a walk.

use std::{cell::RefCell, collections::HashSet, time::Duration};

use futures_util::{StreamExt, stream};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use tokio::time::timeout;
use url::Url;

use super::{Observer, Step, Via, Walk};
use crate::{
    client::{
        download::{Downloaded, Downloader, Progress, part_path},
        failure::{FetchError, WalkError},
        file_name::FileName,
        http::Http,
        source::Source,
        summary::{Carried, Summary},
    },
    rudp::requester::{Reply, Request},
};

/// Files that come over one connection at a time.
const AT_ONCE: usize = 8;

/// The longest wait for the statistics, when all files are there.
const STAT: Duration = Duration::from_secs(5);

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
                let source = self.dialer.clone().map(Source::Rudp);
                (vec![source; files.len()], AT_ONCE)
            }
        };
        let downloader = Downloader {
            folder: self.plan.out.clone(),
            force: self.plan.force,
            discard: self.plan.discard,
            retries: 5,
            pause: Duration::from_millis(200),
        };
        let mut local_names = HashSet::new();
        let jobs = files.iter().zip(sources).map(|(file, source)| {
            if local_names.insert(file.local()) {
                (file, source.ok_or(FetchError::Unknown(file.to_string())))
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
            observer.borrow_mut().fetched(file, &result);
            (n, result)
        });
        let all = stream::iter(fetches)
            .buffer_unordered(at_once)
            .collect::<Vec<_>>();
        let mut results = match &mut self.session {
            // A large file takes longer than the proxy remembers a client that says nothing.
            Some(session) => tokio::select! {
                results = all => results,
                never = session.stay() => match never {},
            },
            None => all.await,
        };
        results.sort_by_key(|(n, _)| *n);
        let files: Vec<_> = results.into_iter().map(|(_, result)| result).collect();
        let summary = Summary::new(&files, self.carried().await);
        observer.into_inner().gathered(&summary);
        Ok(Gathered { files, summary })
    }

    /// Where the files are at HTTP origins.
    async fn origins(
        &mut self,
        files: &[FileName],
        observer: &mut dyn Observer,
    ) -> Result<Vec<Option<Source>>, WalkError> {
        let requests = files
            .iter()
            .map(|file| Request::Redirect(file.wire().to_owned()))
            .collect();
        let answers = self.ask(requests, observer).await?;
        let http = Http {
            local: self.local(),
            dns: self.dns,
            patience: Duration::from_secs(30),
        };
        let sources = files.iter().zip(answers).map(|(file, answered)| {
            let url = self.url(file, &answered.reply)?;
            Some(Source::Http { http, url })
        });
        Ok(sources.collect())
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
    async fn carried(&self) -> Option<Carried> {
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
            let asked = timeout(STAT, transport.stat()).await;
            carried.server = asked.ok().and_then(Result::ok);
            carried.client = transport.stats().await.map(Box::new);
        }
        Some(carried)
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
