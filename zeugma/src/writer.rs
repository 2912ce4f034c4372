//! The server that writes, as operators' commands reach it.

use anyhow::Context;
use serde_json::Value;

use crate::{reports::Reports, sql};

/// Which server, and who asks.
#[derive(Debug, clap::Args)]
pub struct Writer {
    /// The server that writes: zeugma up, or zeugma ingest
    #[arg(long, env = "ZEUGMA_URL", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// Who asks; not needed on this machine's own addresses
    #[arg(long, env = "ZEUGMA_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub token: Option<String>,
}

impl Writer {
    /// What it knows, at a path below `/internal/v1/`.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        read(sql::get(&self.at(path), self.token.as_deref()).await?).await
    }

    /// Tells it to do something that is done at once.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        read(sql::post(&self.at(path), self.token.as_deref(), "*/*", body).await?).await
    }

    /// Tells it to do something that takes long.
    pub async fn reports(&self, path: &str, body: &Value) -> anyhow::Result<Reports> {
        Ok(Reports::of(sql::post(&self.at(path), self.token.as_deref(), "*/*", body).await?))
    }

    fn at(&self, path: &str) -> String {
        format!("{}/internal/v1/{path}", self.url.trim_end_matches('/'))
    }
}

async fn read(answer: reqwest::Response) -> anyhow::Result<Value> {
    answer.json().await.context("the answer broke off, or is none of Zeugma's")
}
