//! The HTTP endpoints: metrics, health, the state of the lab, and what changes it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use actix::{ActorFutureExt, Context, Message, Recipient, WrapFuture};
use axum::{
    Extension, Json, Router,
    extract::{Path, RawQuery, Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use serde::Serialize;

use super::serve_http;
use crate::{
    config,
    net::{Ends, Places, TcpListeners},
    role::{Crash, Failure, Keep, PrepareError, Resources, Role, role_actor},
    telemetry::{
        Metrics, Roster,
        api::{
            CopyLeases, CrashSession, DescribeLink, ListEndedSessions, ListLeases, ListSessions,
            Reload,
        },
        shares,
    },
};

/// How long a role may take to answer what the API asks it.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves the endpoints.
pub struct HttpActor {
    keep: Keep<Kept>,
    kept: Kept,
}

/// What outlives the actor.
#[derive(Clone)]
pub struct Kept {
    listeners: TcpListeners,
    places: Arc<Places>,
    config: config::Http,
    metrics: Arc<Metrics>,
    roster: Roster,
}

impl Role for HttpActor {
    const NAME: &'static str = "http";
    type Config = config::Http;
    type Kept = Kept;

    fn prepare(
        config: &config::Http,
        previous: Option<&Kept>,
        resources: &Resources,
    ) -> Result<Kept, PrepareError> {
        let kept = previous.map(|kept| &kept.listeners);
        let listeners = TcpListeners::bind(&config.listen, kept, &resources.sockets)
            .map_err(|error| PrepareError::new("http.listen", error))?;
        Ok(Kept {
            listeners,
            places: match previous {
                Some(kept) => Arc::clone(&kept.places),
                None => resources.metrics.places(Self::NAME, config.connections),
            },
            config: config.clone(),
            metrics: Arc::clone(&resources.metrics),
            roster: resources.roster.clone(),
        })
    }

    fn listens(kept: &Kept) -> Vec<String> {
        let bound = kept.listeners.addresses();
        bound.map(|bound| format!("http://{bound}/")).collect()
    }

    fn missing(kept: &Kept) -> Vec<String> {
        kept.listeners.missing()
    }

    fn fits_host(kept: &Kept) -> bool {
        kept.listeners.are_open()
    }

    fn new(keep: Keep<Kept>) -> Self {
        let kept = keep.get();
        Self { keep, kept }
    }

    fn keep(&self) -> &Keep<Kept> {
        &self.keep
    }

    fn start(&mut self, ctx: &mut Context<Self>) -> Result<(), Failure> {
        let places = &self.kept.places;
        places.set_shares(shares(self.kept.config.connections));
        let router = router(self.kept.clone());
        for listener in self.kept.listeners.iter().cloned() {
            let serving = serve_http(listener, router.clone(), Arc::clone(places));
            let serving = serving.into_actor(self);
            Self::run(
                ctx,
                serving.map(|served, _, _| Err(Failure::of_listener(served))),
            );
        }
        Ok(())
    }
}

role_actor!(HttpActor);

fn router(kept: Kept) -> Router {
    let changes = Router::new()
        .route("/-/reload", post(reload).put(reload))
        .route("/api/v1/components/{name}/crash", post(crash_component))
        .route("/api/v1/sessions/{client}/crash", post(crash_session))
        .layer(middleware::from_fn(only_from_here));
    Router::new()
        .route("/", get(index))
        .route("/metrics", get(metrics))
        .route("/-/healthy", get(healthy))
        .route("/-/ready", get(ready))
        .route("/api/v1/status", get(status))
        .route("/api/v1/leases", get(leases))
        .route("/api/v1/leases/backup", get(copy_leases))
        .route("/api/v1/sessions", get(sessions))
        .route("/api/v1/link", get(link))
        .merge(changes)
        .fallback(|| async { problem(StatusCode::NOT_FOUND, "no such page: GET / lists them") })
        .layer(middleware::from_fn_with_state(kept.clone(), count))
        .with_state(kept)
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

/// What changes the lab is for this machine's own users: a peer on loopback, and no page of
/// another site in a browser here (which cannot help but say where it comes from).
pub(crate) async fn only_from_here(
    Extension(ends): Extension<Ends>,
    request: Request,
    next: Next,
) -> Response {
    if !ends.peer.ip().to_canonical().is_loopback() {
        return problem(
            StatusCode::FORBIDDEN,
            "this changes the lab and is answered on the loopback interface only",
        );
    }
    let headers = request.headers();
    let own = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let foreign = headers.get(header::ORIGIN).is_some_and(|origin| {
        let origin = origin
            .to_str()
            .ok()
            .and_then(|origin| origin.strip_prefix("http://"));
        origin.is_none() || origin != own
    });
    if foreign {
        return problem(
            StatusCode::FORBIDDEN,
            "this changes the lab and is not for other sites",
        );
    }
    next.run(request).await
}

#[derive(Serialize)]
struct Problem<'a> {
    error: &'a str,
}

/// A refusal that says why.
pub(crate) fn problem(code: StatusCode, error: &str) -> Response {
    (code, Json(Problem { error })).into_response()
}

async fn index() -> Html<&'static str> {
    Html(include_str!("index.html"))
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

async fn healthy(State(kept): State<Kept>) -> Response {
    if kept.roster.heals() {
        return "healthy\n".into_response();
    }
    let text = format!("unhealthy: {}\n", kept.roster.not_ready().join(", "));
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

async fn ready(State(kept): State<Kept>) -> Response {
    let missing = kept.roster.not_ready();
    if missing.is_empty() {
        "ready\n".into_response()
    } else {
        let text = format!("not ready: {}\n", missing.join(", "));
        (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
    }
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
    match tokio::time::timeout(ASK_TIMEOUT, dhcp.send(CopyLeases)).await {
        Ok(Ok(Ok(bytes))) => {
            ([(header::CONTENT_TYPE, "application/vnd.sqlite3")], bytes).into_response()
        }
        Ok(Ok(Err(why))) => problem(StatusCode::SERVICE_UNAVAILABLE, &why),
        Ok(Err(_)) | Err(_) => problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "dhcp does not answer, it may be restarting: try again",
        ),
    }
}

/// The sessions, or with `?ended` those that are over.
async fn sessions(State(kept): State<Kept>, RawQuery(query): RawQuery) -> Response {
    let asks = |pair: &str| matches!(pair, "ended" | "ended=" | "ended=1" | "ended=true");
    if query.is_some_and(|query| query.split('&').any(asks)) {
        let asked = kept.roster.read().ended_sessions.clone();
        return ask(asked, ListEndedSessions, "rudp").await;
    }
    let asked = kept.roster.read().sessions.clone();
    ask(asked, ListSessions, "rudp").await
}

async fn link(State(kept): State<Kept>) -> Response {
    let asked = kept.roster.read().link.clone();
    ask(asked, DescribeLink, "rudp").await
}

/// Asks a role and answers with what it says.
async fn ask<M>(whom: Option<Recipient<M>>, message: M, name: &str) -> Response
where
    M: Message + Send + 'static,
    M::Result: Serialize + Send + 'static,
{
    let Some(whom) = whom else {
        return problem(StatusCode::NOT_FOUND, &format!("{name} is not configured"));
    };
    match tokio::time::timeout(ASK_TIMEOUT, whom.send(message)).await {
        Ok(Ok(answer)) => Json(answer).into_response(),
        Ok(Err(_)) | Err(_) => problem(
            StatusCode::SERVICE_UNAVAILABLE,
            &format!("{name} does not answer, it may be restarting: try again"),
        ),
    }
}

async fn reload(State(kept): State<Kept>) -> Response {
    let supervisor = kept.roster.read().reload.clone();
    let Some(supervisor) = supervisor else {
        return problem(
            StatusCode::NOT_FOUND,
            "there is no configuration file to reload",
        );
    };
    match supervisor.send(Reload).await {
        Ok(Ok(reloaded)) => Json(reloaded).into_response(),
        Ok(Err(refused)) => (StatusCode::BAD_REQUEST, Json(refused)).into_response(),
        Err(_) => problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "the supervisor is shutting down",
        ),
    }
}

async fn crash_component(State(kept): State<Kept>, Path(name): Path<String>) -> Response {
    if !kept.config.fault_injection {
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
    if !kept.config.fault_injection {
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
    match tokio::time::timeout(ASK_TIMEOUT, endpoint.send(CrashSession(client))).await {
        Ok(Ok(true)) => {
            let crashed = serde_json::json!({ "crashed": client });
            (StatusCode::ACCEPTED, Json(crashed)).into_response()
        }
        Ok(Ok(false)) => problem(StatusCode::NOT_FOUND, "no such session"),
        Ok(Err(_)) | Err(_) => problem(StatusCode::SERVICE_UNAVAILABLE, "rudp does not answer"),
    }
}

fn no_fault_injection() -> Response {
    problem(
        StatusCode::FORBIDDEN,
        "fault injection is off: set fault_injection = true in [http] and reload",
    )
}
