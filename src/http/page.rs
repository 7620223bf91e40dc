//! The page that a browser shows at `/`, and what it loads.

use axum::{
    Router,
    response::{Html, IntoResponse},
    routing::get,
};
use http::header::CONTENT_TYPE;

/// Its routes.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(|| async { Html(include_str!("index.html")) }))
        .route(
            "/index.css",
            get(|| typed("text/css; charset=utf-8", include_str!("index.css"))),
        )
        .route(
            "/index.js",
            get(|| typed("text/javascript; charset=utf-8", include_str!("index.js"))),
        )
}

async fn typed(kind: &'static str, text: &'static str) -> impl IntoResponse {
    ([(CONTENT_TYPE, kind)], text)
}
