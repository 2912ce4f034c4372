//! The parameters of a request: known ones only, each of the shape that is wanted.

use chrono::{DateTime, NaiveDate};
use zeugma_schemas::id::is_id;

use crate::{Error, Rows};

/// A request's parameters.
#[derive(Debug)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Reads the part of a URL behind `?`.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the known names where another one is there.
    pub fn read(query: Option<&str>, known: &[&str]) -> Result<Params, Error> {
        let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned();
        let pairs: Vec<(String, String)> = pairs.collect();
        for (name, _) in &pairs {
            if !known.contains(&name.as_str()) {
                return Err(invalid(format!(
                    "there is no parameter `{name}` here; there are {}",
                    known.join(", ")
                )));
            }
        }
        Ok(Params(pairs))
    }

    /// A parameter that may stand there once.
    pub fn one(&self, name: &str) -> Result<Option<&str>, Error> {
        let mut values = self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(invalid(format!("`{name}` may be given once"))),
            (value, None) => Ok(value.filter(|value| !value.is_empty())),
        }
    }

    /// A parameter that holds names between commas, or stands there several times.
    pub fn list(&self, name: &str) -> Vec<&str> {
        let values = self.0.iter().filter(|(key, _)| key == name);
        values.flat_map(|(_, value)| value.split(',')).filter(|value| !value.is_empty()).collect()
    }

    /// The same, of tenants or devices.
    pub fn ids(&self, name: &str) -> Result<Vec<&str>, Error> {
        let ids = self.list(name);
        match ids.iter().find(|id| !is_id(id)) {
            Some(id) => {
                Err(invalid(format!("`{name}={id}` is no name: 1 to 64 of a-z A-Z 0-9 . _ - are wanted")))
            }
            None => Ok(ids),
        }
    }

    /// A moment, microseconds since 1970.
    pub fn time_us(&self, name: &str) -> Result<Option<i64>, Error> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        // A plus that nobody has escaped arrives as a blank.
        let moment =
            DateTime::parse_from_rfc3339(&text.replace(' ', "+")).map(|time| time.timestamp_micros());
        let midnight = || text.parse::<NaiveDate>().ok()?.and_hms_opt(0, 0, 0);
        let found = moment.ok().or_else(|| midnight().map(|time| time.and_utc().timestamp_micros()));
        let wanted =
            || invalid(format!("`{name}={text}` is no moment: 2026-03-01T12:00:00Z or 2026-03-01 is wanted"));
        found.map(Some).ok_or_else(wanted)
    }

    /// A whole number within bounds.
    pub fn number(&self, name: &str, default: usize, max: usize) -> Result<usize, Error> {
        let Some(text) = self.one(name)? else { return Ok(default) };
        let number = text.parse().ok().filter(|number| (1..=max).contains(number));
        number.ok_or_else(|| {
            invalid(format!("`{name}={text}` is not usable: a number from 1 to {max} is wanted"))
        })
    }

    /// Whether the tail belongs to the answer, or which version of the table is asked.
    pub fn rows(&self) -> Result<Rows, Error> {
        if let Some(text) = self.one("version")? {
            let version = text.parse().map_err(|_| {
                invalid(format!("`version={text}` is not usable: the number of a version is wanted"))
            })?;
            return Ok(Rows::Version(version));
        }
        match self.one("tail")? {
            None | Some("on") => Ok(Rows::LakeAndTail),
            Some("off") => Ok(Rows::Lake),
            Some(other) => Err(invalid(format!("`tail={other}` is not usable: `on` or `off` is wanted"))),
        }
    }
}

/// A parameter is not what is wanted.
pub fn invalid(detail: impl Into<String>) -> Error {
    Error::Invalid(detail.into())
}
