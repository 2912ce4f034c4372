//! `--config FILE.toml`: a key for each flag, of the same name; what it holds becomes the flag's default.

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf};

use clap::Command;
use toml::Value;

use crate::Usage;

/// The command with the file's values as defaults of its flags.
///
/// # Errors
/// Where the file cannot be read, or has a key that no flag has.
pub fn with_defaults(command: Command, args: &[OsString]) -> Result<Command, Usage> {
    let Some(path) = named(args) else { return Ok(command) };
    let fail = |problem: String| Usage(format!("cannot use --config {}: {problem}", path.display()));
    let text = std::fs::read_to_string(&path).map_err(|error| fail(error.to_string()))?;
    let table: BTreeMap<String, Value> =
        toml::from_str(&text).map_err(|error| fail(error.message().to_owned()))?;
    let mut values = BTreeMap::new();
    for (key, value) in table {
        let flag = key.replace('_', "-");
        if !has_flag(&command, &flag) {
            return Err(fail(format!("there is no flag `{key}`")));
        }
        values.insert(
            flag,
            texts(&value).ok_or_else(|| fail(format!("`{key}` must be a text, number or list")))?,
        );
    }
    Ok(with_values(command, &values))
}

fn with_values(command: Command, values: &BTreeMap<String, Vec<String>>) -> Command {
    let command = command.mut_args(|arg| match arg.get_long().and_then(|long| values.get(long)) {
        Some(values) => arg.default_values(values.clone()).required(false),
        None => arg,
    });
    command.mut_subcommands(|subcommand| with_values(subcommand, values))
}

fn has_flag(command: &Command, flag: &str) -> bool {
    command.get_arguments().any(|arg| arg.get_long() == Some(flag))
        || command.get_subcommands().any(|subcommand| has_flag(subcommand, flag))
}

fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Integer(number) => Some(vec![number.to_string()]),
        Value::Float(number) => Some(vec![number.to_string()]),
        Value::Boolean(flag) => Some(vec![flag.to_string()]),
        Value::Array(values) => {
            let texts: Option<Vec<_>> = values.iter().map(texts).collect();
            texts.map(|texts| texts.into_iter().flatten().collect())
        }
        _ => None,
    }
}

/// The file that the command line or the environment names; it must be known before the flags are read.
fn named(args: &[OsString]) -> Option<PathBuf> {
    let mut args = args.iter().map(|arg| arg.to_string_lossy());
    while let Some(arg) = args.next() {
        if arg == "--config" {
            return args.next().map(|path| PathBuf::from(path.into_owned()));
        }
        if let Some(path) = arg.strip_prefix("--config=") {
            return Some(path.into());
        }
    }
    std::env::var_os("ZEUGMA_CONFIG").map(PathBuf::from)
}
