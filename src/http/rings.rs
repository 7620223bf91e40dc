//! `GET /api/v1/sessions/CLIENT/{why,samples}`: what the rings of RUDP's connections tell.
//!
//! What they hold may be much, so it is read beside the threads that answer and receive, by few at once.

use std::{
    sync::{Arc, LazyLock},
    time::{Instant, SystemTime},
};

use axum::{
    extract::{Path, RawQuery, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

use super::{
    ask::{ASK_TIMEOUT, reply, silent},
    kept::Kept,
    problem,
};
use crate::{
    role::api::FindRings,
    watch::{
        ring::Rings,
        samples::{POINTS, Samples},
        why::{LAST, MOST, Why},
    },
};

/// So many read rings at once; the others wait for their turn.
const READERS: usize = 2;
static TURNS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(READERS)));

/// Where nobody remembers a connection.
const UNKNOWN: &str = "no connection of that name, ADDRESS:PORT or connection id is remembered: GET \
     /api/v1/sessions and /api/v1/sessions?ended list them; sessions of the signals have no congestion window in \
     bytes, and of connections that [watch] memory has no room for nothing is kept";

/// Why a connection's window is what it is: by the client's name, its ADDRESS:PORT or the connection,
/// over or not; all that fit, the newest first. `?changes=N`: the last N changes of it.
pub(super) async fn why(
    State(kept): State<Kept>,
    Path(who): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let mut changes = LAST;
    for pair in query.iter().flat_map(|query| query.split('&')) {
        match pair.strip_prefix("changes=").map(str::parse) {
            Some(Ok(number)) if number <= MOST => changes = number,
            _ if pair.is_empty() => {}
            _ => {
                let text = format!(
                    "only ?changes=N is known here: how many of the last changes are told, {MOST} at most"
                );
                return problem(StatusCode::BAD_REQUEST, &text);
            }
        }
    }
    read(&kept, move |rings| {
        Why::all(rings, &who, changes, Instant::now())
    })
    .await
}

/// What a connection's ring holds, as arrays for plots: named as for [`why`]. `?since=SECONDS`: only of
/// the time after that; `?points=N`: in N points at most.
pub(super) async fn samples(
    State(kept): State<Kept>,
    Path(who): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    // Everything: what begins with the session is later than this.
    let (mut since, mut points) = (-1.0, POINTS);
    for pair in query.iter().flat_map(|query| query.split('&')) {
        let understood = match pair.split_once('=') {
            Some(("since", seconds)) => seconds.parse().map(|told| since = told).is_ok(),
            Some(("points", number)) => number.parse().map(|told| points = told).is_ok(),
            _ => pair.is_empty(),
        };
        if !understood || f64::is_nan(since) {
            return problem(
                StatusCode::BAD_REQUEST,
                "only ?since=SECONDS and &points=N are known here: from when on, and in how many points",
            );
        }
    }
    read(&kept, move |rings| {
        let now = (Instant::now(), SystemTime::now());
        Samples::all(rings, &who, (since, points), now)
    })
    .await
}

/// Answers with what `look` finds in the rings.
async fn read<T: Serialize>(
    kept: &Kept,
    look: impl FnOnce(&Rings) -> Vec<T> + Send + 'static,
) -> Response {
    let Some(endpoint) = kept.roster.read().rings.clone() else {
        return problem(StatusCode::NOT_FOUND, "rudp is not configured");
    };
    let Some(rings) = reply(&endpoint, FindRings).await else {
        return silent("rudp");
    };
    let Ok(Ok(turn)) = timeout(ASK_TIMEOUT, Arc::clone(&TURNS).acquire_owned()).await else {
        let text = format!("{READERS} read such things just now: try again");
        return problem(StatusCode::SERVICE_UNAVAILABLE, &text);
    };
    let read = spawn_blocking(move || {
        // It lasts as long as the reading, whether somebody still waits for the answer or not.
        let _turn = turn;
        let found = look(&rings);
        (!found.is_empty()).then(|| serde_json::to_vec(&found))
    });
    match read.await {
        Ok(Some(Ok(json))) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Ok(None) => problem(StatusCode::NOT_FOUND, UNKNOWN),
        Ok(Some(Err(_))) | Err(_) => problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            "it could not be told: the log says more",
        ),
    }
}
