//! How the roles are asked, and what is answered for one that does not answer.

use std::time::Duration;

use actix::{Message, Recipient};
use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::problem;

/// How long a role may take to answer what the API asks it.
pub(super) const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// Asks a role and answers with what it says.
pub(super) async fn ask<M>(whom: Option<Recipient<M>>, message: M, name: &str) -> Response
where
    M: Message + Send + 'static,
    M::Result: Serialize + Send + 'static,
{
    let Some(whom) = whom else {
        return problem(StatusCode::NOT_FOUND, &format!("{name} is not configured"));
    };
    match reply(&whom, message).await {
        Some(answer) => Json(answer).into_response(),
        None => silent(name),
    }
}

/// What a role lists; nothing if it is not configured, and `None` if it does not answer.
pub(super) async fn listed<M, T>(whom: Option<&Recipient<M>>, message: M) -> Option<Vec<T>>
where
    M: Message<Result = Vec<T>> + Send + 'static,
    T: Send + 'static,
{
    match whom {
        Some(whom) => reply(whom, message).await,
        None => Some(Vec::new()),
    }
}

/// What a role says, if it answers in time.
pub(super) async fn reply<M>(whom: &Recipient<M>, message: M) -> Option<M::Result>
where
    M: Message + Send + 'static,
    M::Result: Send + 'static,
{
    let answer = tokio::time::timeout(ASK_TIMEOUT, whom.send(message)).await;
    answer.ok()?.ok()
}

/// The answer for a role that has not answered.
pub(super) fn silent(name: &str) -> Response {
    problem(
        StatusCode::SERVICE_UNAVAILABLE,
        &format!("{name} does not answer, it may be restarting: try again"),
    )
}
