//! What HTTP shows and changes of a running link.

use axum::{
    Json, Router,
    extract::State,
    http::{Method, StatusCode},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, put},
};
use serde_json::{Map, Value};

use super::options::Directions;
use crate::{
    http::{only_from_here, problem},
    net::{LinkControl, LinkCounters},
};

/// `GET /counters`; `GET /options`, `PUT` for all of them (what is not named is off), `PATCH` for
/// some (what is not named stays).
pub(super) fn router(control: LinkControl) -> Router {
    let changes = Router::new()
        .route("/options", put(change).patch(change))
        .layer(middleware::from_fn(only_from_here));
    Router::new()
        .route("/counters", get(counters))
        .route("/options", get(options))
        .merge(changes)
        .fallback(|| async {
            let pages = "no such page: there are /counters and /options";
            problem(StatusCode::NOT_FOUND, pages)
        })
        .with_state(control)
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
