//! Log lines for programs: one JSON object a line, the event's fields beside time, level, target and message.

use std::{error::Error, fmt};

use chrono::{SecondsFormat, Utc};
use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

/// Writes an event as one object. We open no spans, so none are written.
#[derive(Debug, Clone, Copy, Default)]
pub struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields(Map::new());
        // Ours come last, so that no field of an event can pass for one of them.
        event.record(&mut fields);
        let metadata = event.metadata();
        let time = Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true);
        fields.put("time", time);
        fields.put("level", metadata.level().as_str());
        fields.put("target", metadata.target());
        writeln!(writer, "{}", Value::Object(fields.0))
    }
}

/// The fields of an event.
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), value);
    }

    /// The error and what is behind it, as one text.
    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let (mut text, mut cause) = (value.to_string(), value.source());
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        self.put(field.name(), text);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::{Arc, Mutex},
    };

    use super::*;

    /// What was written.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic before").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn event_is_one_object_and_its_fields_keep_their_types() {
        let lines = Lines::default();
        let writer = lines.clone();
        let logs = tracing_subscriber::fmt().event_format(Json).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(logs, || {
            let error = io::Error::other(zeugma_lake::Error::NoTable { table: "x\n\"y".into() });
            let error = &error as &dyn Error;
            tracing::warn!(error, readings = 7, share = 0.5, full = true, broker = %"b:1", level = "me", "it\nis");
        });
        let written = String::from_utf8(lines.0.lock().expect("no panic").clone()).expect("text");
        assert_eq!(written.matches('\n').count(), 1, "{written}");
        let line: Value = serde_json::from_str(&written).expect("JSON");
        assert_eq!((&line["message"], &line["level"]), (&"it\nis".into(), &"WARN".into()));
        assert_eq!(
            (&line["readings"], &line["share"], &line["full"]),
            (&7.into(), &0.5.into(), &true.into())
        );
        assert_eq!(line["broker"], "b:1");
        assert!(line["error"].as_str().is_some_and(|error| error.contains("x\n\"y")), "{line}");
        assert!(line["time"].as_str().is_some_and(|time| time.ends_with('Z')) && line["target"].is_string());
    }
}
