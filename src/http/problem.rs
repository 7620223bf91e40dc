//! A refusal of the API.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde::Serialize;

#[derive(Serialize)]
struct Problem<'a> {
    error: &'a str,
}

/// A refusal that says why.
pub(crate) fn problem(code: StatusCode, error: &str) -> Response {
    (code, Json(Problem { error })).into_response()
}
