//! What can go wrong with a question, and what whoever asked can do about it.

use datafusion::{arrow::error::ArrowError, common::SchemaError, error::DataFusionError};
use zeugma_lake as lake;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The SQL cannot be understood or cannot be computed; the engine's own words.
    #[error("{message}")]
    Sql {
        /// What the engine says.
        message: String,
        /// Line and column, from 1, where the engine knows them.
        place: Option<(u64, u64)>,
    },
    /// The statement would change something or reach outside the lake.
    #[error("{0} is not answered here: only SELECT, EXPLAIN, SHOW and DESCRIBE are, one at a time")]
    ReadOnly(String),
    /// A parameter is not what is wanted.
    #[error("{0}")]
    Invalid(String),
    /// There is nothing of this name.
    #[error("{0}")]
    NotFound(String),
    /// There was, and it is deleted.
    #[error("{0}")]
    Gone(String),
    /// There is no answer in the form that was asked for.
    #[error("{0}")]
    NotAcceptable(String),
    /// The question itself is too large.
    #[error("{0}")]
    TooLarge(String),
    /// The answer would take more time or memory than one question may have.
    #[error("{0}")]
    Limit(String),
    /// More questions are being answered than there is room for.
    #[error("{0}")]
    Busy(String),
    /// The lake or the tail does not answer.
    #[error("{message}")]
    Unavailable {
        /// What does not answer.
        message: String,
    },
    /// A mistake of ours.
    #[error("internal: {0}")]
    Internal(String),
}

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Ask differently.
    Invalid,
    /// Ask for what may be asked.
    Forbidden,
    /// Ask for something that exists.
    NotFound,
    /// Ask for something newer.
    Gone,
    /// Ask for another form.
    NotAcceptable,
    /// Ask with fewer words.
    TooLarge,
    /// Ask for less.
    Limit,
    /// Ask again later.
    Unavailable,
    /// Tell us.
    Internal,
}

impl Error {
    /// What to do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Sql { .. } | Error::Invalid(_) => ErrorKind::Invalid,
            Error::ReadOnly(_) => ErrorKind::Forbidden,
            Error::NotFound(_) => ErrorKind::NotFound,
            Error::Gone(_) => ErrorKind::Gone,
            Error::NotAcceptable(_) => ErrorKind::NotAcceptable,
            Error::TooLarge(_) => ErrorKind::TooLarge,
            Error::Limit(_) => ErrorKind::Limit,
            Error::Busy(_) | Error::Unavailable { .. } => ErrorKind::Unavailable,
            Error::Internal(_) => ErrorKind::Internal,
        }
    }

    pub(crate) fn sql(message: impl Into<String>) -> Error {
        Error::Sql { message: message.into(), place: None }
    }
}

impl From<lake::Error> for Error {
    fn from(error: lake::Error) -> Error {
        let message = with_causes(&error);
        match error.kind() {
            lake::ErrorKind::NotFound => Error::NotFound(message),
            lake::ErrorKind::Gone => Error::Gone(message),
            lake::ErrorKind::Internal | lake::ErrorKind::Invalid => Error::Internal(message),
            _ => Error::Unavailable { message },
        }
    }
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Error {
        let place =
            error.diagnostic().and_then(|found| found.span).map(|span| (span.start.line, span.start.column));
        let message = error.strip_backtrace();
        match error.find_root() {
            DataFusionError::ResourcesExhausted(why) => {
                let why = why.lines().next().unwrap_or_default();
                Error::Limit(format!("the answer needs more memory than one question may have: {why}"))
            }
            DataFusionError::External(cause) => of_external(cause.as_ref(), message),
            DataFusionError::ArrowError(cause, _) => of_arrow(cause, message),
            DataFusionError::ObjectStore(_)
            | DataFusionError::ParquetError(_)
            | DataFusionError::IoError(_) => {
                tracing::warn!(%message, "a file of the lake could not be read");
                Error::Unavailable { message: "a file of the lake could not be read; ask again".into() }
            }
            DataFusionError::Internal(_) | DataFusionError::ExecutionJoin(_) => Error::Internal(message),
            DataFusionError::SQL(cause, _) => Error::Sql { message: cause.to_string(), place },
            DataFusionError::Plan(cause) => Error::Sql { message: cause.clone(), place },
            DataFusionError::SchemaError(cause, _) => {
                let message = cause.to_string().replace('\n', " ") + quotes_hint(cause);
                Error::Sql { message, place }
            }
            _ => Error::Sql { message, place },
        }
    }
}

impl From<ArrowError> for Error {
    fn from(error: ArrowError) -> Error {
        of_arrow(&error, error.to_string())
    }
}

/// `"bus-001"` is the name of a column; whoever writes it where there is none means a text.
fn quotes_hint(error: &SchemaError) -> &'static str {
    match error {
        SchemaError::FieldNotFound { field, .. }
            if !field.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') =>
        {
            " A text stands in single quotes."
        }
        _ => "",
    }
}

/// An error of ours that has passed through the engine.
fn of_external(cause: &(dyn std::error::Error + Send + Sync + 'static), message: String) -> Error {
    match cause.downcast_ref::<Error>() {
        Some(Error::Unavailable { message }) => Error::Unavailable { message: message.clone() },
        Some(Error::Internal(message)) => Error::Internal(message.clone()),
        Some(Error::NotFound(message)) => Error::NotFound(message.clone()),
        Some(Error::Gone(message)) => Error::Gone(message.clone()),
        _ => Error::Internal(message),
    }
}

/// Arrow refuses either what the question computes, or what it reads.
fn of_arrow(cause: &ArrowError, message: String) -> Error {
    match cause {
        ArrowError::ParquetError(_) | ArrowError::IoError(..) | ArrowError::IpcError(_) => {
            tracing::warn!(%message, "a file of the lake could not be read");
            Error::Unavailable { message: "a file of the lake could not be read; ask again".into() }
        }
        _ => Error::sql(message),
    }
}

/// An error and what caused it, in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
