//! Questions to a server in another process, from code that is not asynchronous.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

/// A question may take this long: a server that starts answers late.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// How often something that must come is asked for.
const LOOK: Duration = Duration::from_millis(25);

/// Asks one server over HTTP.
#[derive(Debug, Clone, Copy)]
pub struct Asker {
    addr: SocketAddr,
}

impl Asker {
    /// Of the server that answers here.
    pub fn new(addr: SocketAddr) -> Asker {
        Asker { addr }
    }

    /// The rows that SQL answers.
    pub fn sql(&self, sql: &str) -> anyhow::Result<Vec<Vec<Value>>> {
        let body = serde_json::json!({ "sql": sql }).to_string();
        let head = "POST /api/v1/sql HTTP/1.0\r\nContent-Type: application/json\r\n";
        let text = self.exchange(head, &body).with_context(|| sql.to_owned())?;
        let answer: Value = serde_json::from_str(&text).with_context(|| format!("{sql}: {text}"))?;
        let rows = answer["rows"].as_array().with_context(|| format!("{sql}: no rows in {text}"))?;
        Ok(rows.iter().map(|row| row.as_array().cloned().unwrap_or_default()).collect())
    }

    /// The one number that SQL answers.
    pub fn number(&self, sql: &str) -> anyhow::Result<u64> {
        let rows = self.sql(sql)?;
        let value = rows.first().and_then(|row| row.first());
        value.and_then(Value::as_u64).with_context(|| format!("{sql}: {rows:?}"))
    }

    /// The value of a metric's line that begins like this; 0 where there is none.
    pub fn metric(&self, line: &str) -> anyhow::Result<f64> {
        let text = self.get("/metrics")?;
        let found = text.lines().find_map(|candidate| candidate.strip_prefix(line));
        Ok(found.and_then(|rest| rest.trim().parse().ok()).unwrap_or(0.0))
    }

    /// The text of a path that answers well.
    pub fn get(&self, path: &str) -> anyhow::Result<String> {
        self.exchange(&format!("GET {path} HTTP/1.0\r\n"), "").with_context(|| path.to_owned())
    }

    /// One request, one connection. In HTTP/1.0 the answer ends with the connection, unframed.
    fn exchange(&self, head: &str, body: &str) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.addr, ANSWER_MAX)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        write!(stream, "{head}Host: {}\r\nContent-Length: {}\r\n\r\n{body}", self.addr, body.len())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, text) = answer.split_once("\r\n\r\n").context("the answer has no end of its head")?;
        ensure!(head.split(' ').nth(1) == Some("200"), "{} {text}", head.lines().next().unwrap_or_default());
        Ok(text.to_owned())
    }

    /// Asks again and again until it is so; says what was awaited where patience ends.
    pub fn until(
        &self,
        awaited: &str,
        patience: Duration,
        mut is_so: impl FnMut(&Asker) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let last = is_so(self);
            match last {
                Ok(true) => return Ok(()),
                Ok(false) if Instant::now() > deadline => bail!("waited in vain for {awaited}"),
                Err(error) if Instant::now() > deadline => {
                    return Err(error.context(format!("waited in vain for {awaited}")));
                }
                _ => std::thread::sleep(LOOK),
            }
        }
    }
}
