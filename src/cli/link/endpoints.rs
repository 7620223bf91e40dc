//! What HTTP shows and changes of a running link.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Map, Value};

use super::options::Directions;
use crate::{
    http::{Access, guarded, problem},
    link::{LinkControl, LinkCounters},
};

/// `GET /counters`; `GET /options`, `PUT` for all of them (what is not named is off), `PATCH` for
/// some (what is not named stays). Who may do so: as with the lab's own endpoints.
pub(super) fn router(control: LinkControl, access: Access) -> Router {
    let routes = Router::new()
        .route("/counters", get(counters))
        .route("/options", get(options).put(change).patch(change))
        .fallback(|| async {
            let pages = "no such page: there are /counters and /options";
            problem(StatusCode::NOT_FOUND, pages)
        });
    let access = Arc::new(access);
    guarded(routes, move || Arc::clone(&access)).with_state(control)
}

async fn counters(State(control): State<LinkControl>) -> Json<LinkCounters> {
    Json(control.counters())
}

async fn options(State(control): State<LinkControl>) -> Json<Directions> {
    Json(Directions::of(&control))
}

async fn change(State(control): State<LinkControl>, method: Method, body: String) -> Response {
    let object: Map<String, Value> = match serde_json::from_str(&body) {
        Ok(object) => object,
        Err(error) => {
            let said = format!("a JSON object of options is needed: {error}");
            return problem(StatusCode::BAD_REQUEST, &said);
        }
    };
    let before = if method == Method::PUT {
        Directions::default()
    } else {
        Directions::of(&control)
    };
    match before.with(&object) {
        Ok(options) => {
            options.give(&control);
            Json(options).into_response()
        }
        Err(error) => problem(StatusCode::BAD_REQUEST, &error),
    }
}
