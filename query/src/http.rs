//! Paths, and what is asked at each of them.

mod body;
mod command;
mod compact;
mod dead_letters;
mod domains;
mod erase;
mod feed;
mod health;
mod latest;
mod live;
mod page;
mod params;
mod readings;
mod retention;
mod sql;
mod tail;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tokio_util::sync::CancellationToken;

use crate::{Components, Grant, Query, problem::Problem};

/// Running answers have this long to end after a shutdown.
pub const GRACE: Duration = Duration::from_secs(8);

/// What all handlers share.
#[derive(Clone)]
struct App {
    query: Query,
    components: Components,
    /// One replay of dead letters at a time: two would only meet each other's repeats.
    replaying: Arc<tokio::sync::Semaphore>,
    /// Streams that may still be opened.
    streams: Arc<tokio::sync::Semaphore>,
    /// Streams end by themselves when this does.
    stopping: CancellationToken,
}

impl App {
    /// Whose readings this request may see. Without tokens only this machine itself is answered, and it is
    /// the operator's.
    fn grant(&self, _headers: &HeaderMap) -> Grant {
        Grant::All
    }
}

/// Everything that is answered.
pub fn router(components: Components, query: Query, stopping: CancellationToken) -> Router {
    let serves_tail = components.serves_tail;
    let mut router = Router::new()
        .route("/", get(page::page))
        .route("/app.js", get(page::script))
        .route("/app.css", get(page::style))
        .route("/api/v1/sql", post(sql::post).get(sql::get))
        .route("/api/v1/domains", get(domains::list))
        .route("/api/v1/domains/{domain}", get(domains::one))
        .route("/api/v1/live", get(live::live))
        .route("/api/v1/{domain}/latest", get(latest::latest))
        .route("/api/v1/{domain}/readings", get(readings::readings))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/internal/v1/compact", post(compact::compact))
        .route("/internal/v1/dead-letters/replay", post(dead_letters::replay))
        .route("/internal/v1/erase", post(erase::erase))
        .route("/internal/v1/erasures", get(erase::list))
        .route("/internal/v1/blocked", get(erase::blocked))
        .route("/internal/v1/blocked/lift", post(erase::lift))
        .route("/internal/v1/retention", get(retention::list))
        .route("/internal/v1/retention/set", post(retention::set))
        .route("/internal/v1/retention/unset", post(retention::unset));
    if serves_tail {
        router = router
            .route("/internal/v1/tail/{table}", get(tail::tail))
            .route("/internal/v1/live", get(feed::feed));
    }
    router
        .fallback(no_path)
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn(only_loopback_names))
        .layer(middleware::map_response(no_sniffing))
        .with_state(App {
            query,
            components,
            replaying: Arc::new(tokio::sync::Semaphore::new(1)),
            streams: Arc::new(tokio::sync::Semaphore::new(live::STREAMS_MAX)),
            stopping,
        })
}

async fn no_path(uri: Uri) -> Problem {
    Problem::no_path(uri.path())
}

async fn no_method(State(_): State<App>, method: Method, uri: Uri) -> Problem {
    Problem::no_method(method.as_str(), uri.path())
}

/// A page of somebody else's whose name was made to point here must not read what lies here.
async fn only_loopback_names(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or(request.uri().host()).unwrap_or_default().to_owned();
    if is_loopback_name(&host) { next.run(request).await } else { Problem::other_host(&host).into_response() }
}

fn is_loopback_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|c| c.is_ascii_digit()) => name,
        _ => host,
    };
    name.eq_ignore_ascii_case("localhost") || name == "127.0.0.1" || name == "[::1]"
}

async fn no_sniffing(mut response: Response) -> Response {
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests;
