//! Errors as answers: the one file that knows status codes (RFC 9457).

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::Error;

/// A reason why there is no answer, as `application/problem+json`.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    /// Last part of the problem's URI; once released it never changes.
    name: &'static str,
    title: &'static str,
    detail: String,
    /// Line and column of the question, from 1.
    place: Option<(u64, u64)>,
}

const URI: &str = "https://zeugma.city/problems/";

impl Problem {
    fn new(
        status: StatusCode,
        name: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Problem {
        Problem { status, name, title, detail: detail.into(), place: None }
    }

    /// Nothing lies at this path.
    pub fn no_path(path: &str) -> Problem {
        let detail = format!("nothing lies at `{path}`; the interface is under /api/v1");
        Problem::new(StatusCode::NOT_FOUND, "not-found", "There is no such thing", detail)
    }

    /// Something lies at this path, but not for this method.
    pub fn no_method(method: &str, path: &str) -> Problem {
        let detail = format!("`{path}` does not take {method}");
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", "The method does not fit the path", detail)
    }

    /// The request was meant for a name that is not this machine's own.
    pub fn other_host(host: &str) -> Problem {
        let detail = format!(
            "only localhost, 127.0.0.1 and [::1] are answered while no tokens are configured; this was for `{host}`"
        );
        Problem::new(StatusCode::MISDIRECTED_REQUEST, "host", "This name is not answered", detail)
    }

    /// The program is not ready.
    pub fn not_ready(reasons: &[String]) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-ready", "Not ready", reasons.join("; "))
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        let detail = error.to_string();
        match error {
            Error::Sql { place, .. } => {
                let sql =
                    Problem::new(StatusCode::BAD_REQUEST, "sql", "The question is not understood", detail);
                Problem { place, ..sql }
            }
            Error::ReadOnly(_) => {
                Problem::new(StatusCode::FORBIDDEN, "read-only", "Only questions are answered", detail)
            }
            Error::Invalid(_) => {
                Problem::new(StatusCode::BAD_REQUEST, "parameter", "A parameter is not usable", detail)
            }
            Error::NotFound(_) => {
                Problem::new(StatusCode::NOT_FOUND, "not-found", "There is no such thing", detail)
            }
            Error::Gone(_) => Problem::new(StatusCode::GONE, "gone", "It is not kept any more", detail),
            Error::NotAcceptable(_) => Problem::new(
                StatusCode::NOT_ACCEPTABLE,
                "not-acceptable",
                "Not in the form asked for",
                detail,
            ),
            Error::TooLarge(_) => {
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The question is too large", detail)
            }
            Error::Limit(_) => {
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "limit", "The answer is too costly", detail)
            }
            Error::Busy(_) => {
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "Too many questions at once", detail)
            }
            Error::Unavailable { .. } => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "Lake or tail does not answer",
                detail,
            ),
            Error::Internal(_) => {
                tracing::error!(%detail, "a question failed by a mistake of ours");
                let detail = "a mistake of ours; the log of the program has the details";
                Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something is wrong here", detail)
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({
            "type": format!("{URI}{}", self.name),
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let Some((line, column)) = self.place {
            body["line"] = line.into();
            body["column"] = column.into();
        }
        let media_type = HeaderValue::from_static("application/problem+json");
        let mut response =
            (self.status, [(header::CONTENT_TYPE, media_type)], format!("{body}\n")).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
