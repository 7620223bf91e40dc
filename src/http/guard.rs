//! The rules of [`Access`] before every route, and what all answers say to browsers.

use std::{net::IpAddr, sync::Arc};

use axum::{
    Extension, Router,
    extract::Request,
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, header};

use super::Ends;
use super::access::{Access, Refused};

/// Browsers load nothing from elsewhere, show it in nobody's frame, guess no type, and tell no other
/// site that they were here.
const FOR_BROWSERS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

/// Puts the rules before all of `router`'s routes; `rules` gives those of the moment.
pub fn guarded<S, F>(router: Router<S>, rules: F) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    F: Fn() -> Arc<Access> + Clone + Send + Sync + 'static,
{
    router
        .layer(middleware::from_fn(
            move |Extension(ends): Extension<Ends>, request: Request, next: Next| {
                let access = rules();
                check(access, ends.peer.ip(), request, next)
            },
        ))
        .layer(middleware::map_response(for_browsers))
}

/// The request lacks the token that reading needs: the answer holds nothing but its status.
#[derive(Clone, Copy)]
pub(super) struct Untold;

/// Supervisors, balancers and orchestrators ask these, and have no token.
const PROBES: [&str; 2] = ["/-/healthy", "/-/ready"];

async fn check(access: Arc<Access>, peer: IpAddr, mut request: Request, next: Next) -> Response {
    let checked = access.check(peer, request.method(), request.uri(), request.headers());
    match checked {
        Ok(()) => next.run(request).await,
        Err(Refused::Token { .. })
            if request.method().is_safe() && PROBES.contains(&request.uri().path()) =>
        {
            request.extensions_mut().insert(Untold);
            next.run(request).await
        }
        Err(refused) => {
            tracing::debug!(%peer, path = %request.uri().path(), "refused: {refused}");
            refused.into_response()
        }
    }
}

async fn for_browsers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in FOR_BROWSERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
