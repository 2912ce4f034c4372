//! A question, in the words of each database.

/// What is asked, and the ratios aimed at.
#[derive(Debug, Clone)]
pub struct Question {
    /// Its line in the table.
    pub name: &'static str,
    /// The largest ratio to DuckDB, and to ClickHouse, that we want.
    pub aims: (f64, f64),
    /// Where we have a table of our own for it: how we are asked.
    pub ours: Option<&'static str>,
    /// SQL, with these words between `@`: `hour`, `ten_minutes`, `day` (the begin of each around `time`),
    /// `at_newest:x` (`x` of the row with the newest time), `row_at_newest:x` (the same, though it may be null),
    /// `lag:x` (`x` of the row before).
    pub sql: &'static str,
}

/// Whose SQL it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Ours,
    DuckDb,
    ClickHouse,
}

impl Question {
    /// The question in a dialect.
    pub fn sql(&self, dialect: Dialect) -> String {
        if let (Dialect::Ours, Some(ours)) = (dialect, self.ours) {
            return ours.to_owned();
        }
        let word = |(at, part): (usize, &str)| {
            if at % 2 == 0 { part.to_owned() } else { dialect.word(part) }
        };
        self.sql.split('@').enumerate().map(word).collect()
    }
}

impl Dialect {
    fn word(self, word: &str) -> String {
        let (name, column) = word.split_once(':').unwrap_or((word, ""));
        match (self, name) {
            (Dialect::Ours, "hour") => "date_bin(INTERVAL '1 hour', time)".into(),
            (Dialect::Ours, "ten_minutes") => "date_bin(INTERVAL '10 minutes', time)".into(),
            (Dialect::Ours, "day") => "date".into(),
            // Of the newest row, as `_latest` tells it, though it may be null.
            (Dialect::DuckDb, "row_at_newest") => format!("arg_max_null({column}, time)"),
            (Dialect::ClickHouse, "row_at_newest") => format!("argMax(tuple({column}), time).1"),
            (Dialect::DuckDb, "hour") => "date_trunc('hour', time)".into(),
            (Dialect::DuckDb, "ten_minutes") => "time_bucket(INTERVAL '10 minutes', time)".into(),
            (Dialect::DuckDb, "day") => "time::DATE".into(),
            (Dialect::DuckDb, "at_newest") => format!("arg_max({column}, time)"),
            (Dialect::ClickHouse, "hour") => "toStartOfHour(time)".into(),
            (Dialect::ClickHouse, "ten_minutes") => "toStartOfTenMinutes(time)".into(),
            (Dialect::ClickHouse, "day") => "toDate32(time)".into(),
            (Dialect::ClickHouse, "at_newest") => format!("argMax({column}, time)"),
            (Dialect::ClickHouse, "lag") => format!("lagInFrame(toNullable({column}))"),
            (_, other) => format!("{other}({column})"),
        }
    }
}
