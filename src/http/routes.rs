//! The API's routes, and how the roles are asked.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use axum::{
    Extension, Json, Router,
    extract::{Path, RawQuery, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tokio::time::timeout;

use super::{
    ask::{ask, listed, reply, silent},
    capture,
    guard::{Untold, guarded},
    kept::Kept,
    names, page, problem, rings,
    selection::Selection,
};
use crate::{
    role::api::{
        CopyLeases, CrashSession, DescribeLink, Ended, ListEndedSessions, ListEndedTransfers,
        ListLeases, ListSessions, ListTransfers, Reload,
    },
    role::{Crash, Keep},
};

/// A field of the head of a list's answer: what the list lacks.
pub const MISSING: HeaderName = HeaderName::from_static("labnet-missing");
/// So long a list of what is over waits for names.
const NAMES: Duration = Duration::from_secs(1);
const TRANSFERS: &str = "files over HTTP, as the origin does not answer";

/// All routes.
pub(super) fn router(keep: Keep<Kept>) -> Router {
    let routes = Router::new()
        .merge(page::routes())
        .route("/metrics", get(metrics))
        .route("/-/healthy", get(healthy))
        .route("/-/ready", get(ready))
        .route("/-/reload", post(reload).put(reload))
        .route("/api/v1/status", get(status))
        .route("/api/v1/leases", get(leases))
        .route("/api/v1/leases/backup", get(copy_leases))
        .route("/api/v1/sessions", get(sessions))
        .route("/api/v1/sessions/{client}/why", get(rings::why))
        .route("/api/v1/sessions/{client}/samples", get(rings::samples))
        .route("/api/v1/sessions/{client}/crash", post(crash_session))
        .route("/api/v1/components/{name}/crash", post(crash_component))
        .route("/api/v1/link", get(link))
        .route("/api/v1/capture", post(capture::stream))
        .fallback(|| async { problem(StatusCode::NOT_FOUND, "no such page: GET / lists them") });
    let rules = keep.clone();
    guarded(routes, move || rules.get().rules.access.clone())
        .layer(middleware::from_fn_with_state(keep.clone(), count))
        .with_state(keep)
}

/// Counts every answer by its status code.
async fn count(State(kept): State<Kept>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    kept.metrics
        .http_requests
        .with_label_values(&[response.status().as_str()])
        .inc();
    response
}

async fn metrics(State(kept): State<Kept>) -> impl IntoResponse {
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        kept.metrics.render(),
    )
}

type Asker = Option<Extension<Untold>>;

async fn healthy(State(kept): State<Kept>, asker: Asker) -> Response {
    if kept.roster.heals() {
        "healthy\n".into_response()
    } else {
        unavailable("unhealthy", &kept, asker)
    }
}

async fn ready(State(kept): State<Kept>, asker: Asker) -> Response {
    if kept.roster.not_ready().is_empty() {
        "ready\n".into_response()
    } else {
        unavailable("not ready", &kept, asker)
    }
}

/// 503, and why; names, addresses and paths are not for those who lack the token.
fn unavailable(what: &str, kept: &Kept, asker: Asker) -> Response {
    let text = match asker {
        Some(Extension(Untold)) => format!("{what}\n"),
        None => format!("{what}: {}\n", kept.roster.not_ready().join(", ")),
    };
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

async fn status(State(kept): State<Kept>) -> Response {
    Json(kept.roster.status()).into_response()
}

async fn leases(State(kept): State<Kept>) -> Response {
    let asked = kept.roster.read().leases.clone();
    ask(asked, ListLeases, "dhcp").await
}

/// A copy of the lease database, as a file.
async fn copy_leases(State(kept): State<Kept>) -> Response {
    let asked = kept.roster.read().copy_leases.clone();
    let Some(dhcp) = asked else {
        return problem(StatusCode::NOT_FOUND, "dhcp is not configured");
    };
    match reply(&dhcp, CopyLeases).await {
        Some(Ok(bytes)) => {
            ([(header::CONTENT_TYPE, "application/vnd.sqlite3")], bytes).into_response()
        }
        Some(Err(why)) => problem(StatusCode::SERVICE_UNAVAILABLE, &why),
        None => silent("dhcp"),
    }
}

/// How many sessions fit the filter, those that the limit leaves out included.
const FIT: &str = "x-total-count";

/// The sessions, or with `?ended` those that are over. `?filter=TEXT`: those that have it in their name,
/// address, kind, connection's id, controller or file; `?sort=KEY`: by a field, `-KEY` the largest first;
/// `?limit=N`: the first N of these. [`FIT`] says how many there were without the limit.
async fn sessions(State(kept): State<Kept>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    if matches!(&*query, "ended" | "ended=" | "ended=1" | "ended=true") {
        return ended(&kept).await;
    }
    let selection = match Selection::of(&query) {
        Ok(selection) => selection,
        Err(why) => return problem(StatusCode::BAD_REQUEST, &why),
    };
    let (rudp, origin) = {
        let roster = kept.roster.read();
        (roster.sessions.clone(), roster.transfers.clone())
    };
    if rudp.is_none() && origin.is_none() {
        return problem(StatusCode::NOT_FOUND, "rudp is not configured");
    }
    let (sessions, transfers) = tokio::join!(
        listed(rudp.as_ref(), ListSessions),
        listed(origin.as_ref(), ListTransfers),
    );
    let Some(mut sessions) = sessions else {
        return silent("rudp");
    };
    // An origin that is just being made anew is no reason to tell of no session.
    let mut missing = Missing::default();
    sessions.extend(transfers.unwrap_or_else(|| missing.note(TRANSFERS)));
    match selection.of_all(sessions) {
        Ok((fit, told)) => {
            missing.told_with(([(FIT, fit.to_string())], Json(told)).into_response())
        }
        Err(why) => problem(StatusCode::BAD_REQUEST, &why),
    }
}

/// The sessions and transfers that are over, the last first.
async fn ended(kept: &Kept) -> Response {
    let (open, over, origin) = {
        let roster = kept.roster.read();
        let sessions = (roster.sessions.clone(), roster.ended_sessions.clone());
        (sessions.0, sessions.1, roster.ended_transfers.clone())
    };
    if over.is_none() && origin.is_none() {
        return problem(StatusCode::NOT_FOUND, "rudp is not configured");
    }
    let (open, over, transfers) = tokio::join!(
        // Only for the names of clients: where a thread is busy, the list does without.
        timeout(NAMES, listed(open.as_ref(), ListSessions)),
        listed(over.as_ref(), ListEndedSessions),
        listed(origin.as_ref(), ListEndedTransfers),
    );
    let Some(over) = over else {
        return silent("rudp");
    };
    let mut missing = Missing::default();
    let open = open.ok().flatten();
    let open = open.unwrap_or_else(|| missing.note("names of clients whose sessions go on"));
    let mut transfers = transfers.unwrap_or_else(|| missing.note(TRANSFERS));
    names::give(&mut transfers, &open, &over, SystemTime::now());
    let transfers = transfers.into_iter().map(Ended::Transfer);
    let mut all: Vec<_> = transfers
        .chain(over.into_iter().map(Ended::Session))
        .collect();
    all.sort_by(|one, other| other.unix().total_cmp(&one.unix()));
    missing.told_with(Json(all).into_response())
}

/// What a list lacks because somebody has not answered.
#[derive(Default)]
struct Missing(Vec<&'static str>);

impl Missing {
    /// Notes what there is none of.
    fn note<T>(&mut self, what: &'static str) -> Vec<T> {
        self.0.push(what);
        Vec::new()
    }

    /// The list, and in its head what it lacks.
    fn told_with(self, mut response: Response) -> Response {
        if !self.0.is_empty() {
            let told = HeaderValue::try_from(self.0.join(", "));
            // They are plain words.
            response
                .headers_mut()
                .extend(told.ok().map(|told| (MISSING, told)));
        }
        response
    }
}

async fn link(State(kept): State<Kept>) -> Response {
    let asked = kept.roster.read().link.clone();
    ask(asked, DescribeLink, "rudp").await
}

async fn reload(State(kept): State<Kept>, RawQuery(query): RawQuery) -> Response {
    let dry_run = query.is_some_and(|query| query.split('&').any(|word| word == "dry_run"));
    let supervisor = kept.roster.read().reload.clone();
    let Some(supervisor) = supervisor else {
        return problem(
            StatusCode::NOT_FOUND,
            "there is no configuration file to reload",
        );
    };
    match supervisor.send(Reload { dry_run }).await {
        Ok(Ok(reloaded)) => Json(reloaded).into_response(),
        Ok(Err(refused)) => (StatusCode::BAD_REQUEST, Json(refused)).into_response(),
        Err(_) => problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "the supervisor is shutting down",
        ),
    }
}

async fn crash_component(State(kept): State<Kept>, Path(name): Path<String>) -> Response {
    if !kept.rules.fault_injection {
        return no_fault_injection();
    }
    let member = kept
        .roster
        .write()
        .member_mut(&name)
        .map(|member| member.crash.clone());
    match member {
        Some(component) => {
            // Not waited for: the answer to a crash is a closed mailbox.
            component.do_send(Crash);
            (
                StatusCode::ACCEPTED,
                Json(serde_json::json!({ "crashed": name })),
            )
                .into_response()
        }
        None => problem(
            StatusCode::NOT_FOUND,
            "no such component: GET /api/v1/status lists them",
        ),
    }
}

async fn crash_session(State(kept): State<Kept>, Path(client): Path<String>) -> Response {
    if !kept.rules.fault_injection {
        return no_fault_injection();
    }
    let Ok(client) = client.parse::<SocketAddr>() else {
        return problem(
            StatusCode::BAD_REQUEST,
            "a session is named by its client's ADDRESS:PORT: GET /api/v1/sessions lists them",
        );
    };
    let endpoint = kept.roster.read().crash_session.clone();
    let Some(endpoint) = endpoint else {
        return problem(StatusCode::NOT_FOUND, "rudp is not configured");
    };
    match reply(&endpoint, CrashSession(client)).await {
        Some(true) => {
            let crashed = serde_json::json!({ "crashed": client });
            (StatusCode::ACCEPTED, Json(crashed)).into_response()
        }
        Some(false) => problem(StatusCode::NOT_FOUND, "no such session"),
        None => silent("rudp"),
    }
}

fn no_fault_injection() -> Response {
    problem(
        StatusCode::FORBIDDEN,
        "fault injection is off: set fault_injection = true in [http] and reload",
    )
}
