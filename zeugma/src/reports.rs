//! Reports of a server about work that takes long: one JSON object a line, as they come.

use anyhow::{Context, bail};
use serde_json::Value;

/// The reports of an answer.
#[derive(Debug)]
pub struct Reports {
    answer: reqwest::Response,
    /// What has come and makes no whole line yet.
    text: Vec<u8>,
}

impl Reports {
    /// The reports that this answer consists of.
    pub fn of(answer: reqwest::Response) -> Reports {
        Reports { answer, text: Vec::new() }
    }

    /// Hands all reports to `each`, and answers the last, which says that it is done.
    ///
    /// # Errors
    /// What the server says has failed; where the answer breaks off, this sentence.
    pub async fn last(mut self, broken: &'static str, mut each: impl FnMut(&Value)) -> anyhow::Result<Value> {
        let mut last = Value::Null;
        while let Some(report) = self.next().await.context(broken)? {
            each(&report);
            last = report;
        }
        match last["error"].as_str() {
            Some(error) => bail!("{error}"),
            None if last["done"] != true => bail!(broken),
            None => Ok(last),
        }
    }

    /// The next report; none behind the last.
    ///
    /// # Errors
    /// Where the answer breaks off, or is none of reports.
    pub async fn next(&mut self) -> anyhow::Result<Option<Value>> {
        loop {
            if let Some(end) = self.text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.text.drain(..=end).collect();
                return serde_json::from_slice(&line).map(Some).context("the server reports no JSON");
            }
            match self.answer.chunk().await? {
                Some(chunk) => self.text.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }
}
