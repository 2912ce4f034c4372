//! `zeugma retention`: how long readings are kept.

use anyhow::bail;
use serde_json::{Value, json};

use crate::{say, writer::Writer};

/// What to do with the rules.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// The rules there are
    List(Writer),
    /// Keep readings of a tenant in a domain for so long; a closer rule goes before a wider one
    ///
    /// Without --tenant it is for all tenants, without --domain for all tables; the closest rule holds: of tenant
    /// and domain, of the tenant, of the domain, of everything. What is older goes within a day, and can be
    /// read in older versions for as long as these are kept (--keep-versions).
    Set(SetArgs),
    /// Drop the rule for exactly this tenant and domain
    Unset(UnsetArgs),
}

/// What a rule is for.
#[derive(Debug, clap::Args)]
pub struct For {
    /// Of whom; all, where it is left out
    #[arg(long, env = "ZEUGMA_TENANT", value_name = "TENANT")]
    pub tenant: Option<String>,
    /// In which table, as fleet or dead_letters; all, where it is left out
    #[arg(long, env = "ZEUGMA_DOMAIN", value_name = "DOMAIN")]
    pub domain: Option<String>,
}

/// A rule.
#[derive(Debug, clap::Args)]
pub struct SetArgs {
    /// What it is for.
    #[command(flatten)]
    pub of: For,
    /// How long: whole days, as 60d, or forever
    #[arg(long, env = "ZEUGMA_KEEP", value_name = "TIME", value_parser = keep)]
    pub keep: Keep,
    /// Which server.
    #[command(flatten)]
    pub writer: Writer,
}

/// Which rule.
#[derive(Debug, clap::Args)]
pub struct UnsetArgs {
    /// What it is for.
    #[command(flatten)]
    pub of: For,
    /// Which server.
    #[command(flatten)]
    pub writer: Writer,
}

/// How long readings are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// So many days.
    Days(u32),
    /// For ever.
    Forever,
}

/// Runs it.
pub async fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::List(writer) => list(writer).await,
        Command::Set(SetArgs { of: For { tenant, domain }, keep, writer }) => {
            let keep_days = match keep {
                Keep::Days(days) => Some(days),
                Keep::Forever => None,
            };
            let body = json!({ "tenant": tenant, "domain": domain, "keep_days": keep_days });
            let set = writer.post("retention/set", &body).await?;
            Ok(say::line(&line(&set["set"]))?)
        }
        Command::Unset(UnsetArgs { of: For { tenant, domain }, writer }) => {
            writer.post("retention/unset", &json!({ "tenant": tenant, "domain": domain })).await?;
            list(writer).await
        }
    }
}

async fn list(writer: &Writer) -> anyhow::Result<()> {
    let rules = writer.get("retention").await?;
    let Some(rules) = rules["rules"].as_array() else { bail!("the server's answer has no rules") };
    let lines: Vec<String> = rules.iter().map(line).collect();
    let none = || "there are no rules: everything is kept for ever".to_owned();
    Ok(say::line(&if lines.is_empty() { none() } else { lines.join("\n") })?)
}

fn line(rule: &Value) -> String {
    let whose = rule["tenant"].as_str().unwrap_or("all tenants");
    let table = rule["table"].as_str().unwrap_or("all tables");
    match rule["keep_days"].as_u64() {
        Some(days) => format!("{whose}, {table}: {days} days"),
        None => format!("{whose}, {table}: for ever"),
    }
}

fn keep(text: &str) -> Result<Keep, String> {
    const WANTED: &str = "whole days are wanted, as 60d or 2years, or forever";
    const DAY_S: u64 = 86_400;
    if text == "forever" {
        return Ok(Keep::Forever);
    }
    let seconds = humantime::parse_duration(text).map_err(|_| WANTED)?.as_secs();
    match u32::try_from(seconds / DAY_S) {
        Ok(days) if days > 0 && (seconds % DAY_S == 0 || days > 27) => Ok(Keep::Days(days)),
        _ => Err(WANTED.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_read_and_hours_are_not() {
        assert_eq!(keep("60d"), Ok(Keep::Days(60)));
        assert_eq!(keep("2weeks"), Ok(Keep::Days(14)));
        assert_eq!(keep("1year"), Ok(Keep::Days(365)));
        assert_eq!(keep("forever"), Ok(Keep::Forever));
        for wrong in ["", "0d", "5", "36h", "soon"] {
            assert!(keep(wrong).is_err(), "{wrong}");
        }
    }
}
