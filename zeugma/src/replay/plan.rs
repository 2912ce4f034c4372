//! The call, checked: what is to be read from which files, and where it goes.

use zeugma_schemas::id::{is_domain_name, is_id, is_reserved_domain};

use super::{
    Args, Link, Speed, Usage,
    mapping::{Mapping, raw},
    publish,
    rows::{Row, Source},
    time::Clock,
};

/// Where MQTT servers listen when an address names no port.
const MQTT_PORT: u16 = 1883;

/// What to do, free of contradictions.
#[derive(Debug)]
pub struct Plan {
    /// Files in the order given.
    pub sources: Vec<Source>,
    /// Columns to read: the time, then one for each mapped field, then the device where a column names it.
    pub wanted: Vec<String>,
    /// Rows to readings.
    pub mapping: Mapping,
    /// Whether times without an offset can be read.
    pub has_zone: bool,
    /// First part of the topics.
    pub tenant: String,
    /// Second part of the topics.
    pub domain: String,
    /// How fast rows go out.
    pub speed: Speed,
    device: Option<String>,
    mqtt: (String, u16),
}

impl Plan {
    /// Checks the call; touches files only to see whether they exist.
    pub fn new(args: &Args) -> Result<Plan, Usage> {
        check_names(args)?;
        check_fields(args)?;
        let header = args.no_header.then_some(args.columns.as_slice());
        let sources = args.files.iter().map(|path| Source::new(path, header)).collect::<Result<_, _>>()?;
        let clock = Clock::new(&args.time_format, args.time_zone.as_deref()).map_err(Usage)?;
        let mapped = args.map.iter().map(|field| &field.column);
        let wanted =
            [&args.time_column].into_iter().chain(mapped).chain(&args.device_column).cloned().collect();
        Ok(Plan {
            sources,
            wanted,
            has_zone: clock.has_zone(),
            mapping: Mapping::new(clock, &args.map, &args.text),
            tenant: args.tenant.clone(),
            domain: args.domain.clone(),
            speed: args.speed,
            device: args.device.clone(),
            mqtt: parse_address(&args.mqtt)?,
        })
    }

    /// The name of the device that a row of the wanted cells belongs to.
    pub fn device_name(&self, row: &Row) -> String {
        match &self.device {
            Some(name) => name.clone(),
            None => row.cells.last().map(raw).unwrap_or_default(),
        }
    }

    /// The server, and this run's name there.
    pub fn link(&self, client_id: String) -> Link {
        Link { host: self.mqtt.0.clone(), port: self.mqtt.1, client_id, drain: publish::DRAIN }
    }
}

fn check_names(args: &Args) -> Result<(), Usage> {
    if !is_id(&args.tenant) {
        return Err(Usage(format!("--tenant {}: 1 to 64 characters of a-z A-Z 0-9 . _ -", args.tenant)));
    }
    if !is_domain_name(&args.domain) || is_reserved_domain(&args.domain) {
        return Err(Usage(format!("--domain {}: no table can have this name", args.domain)));
    }
    Ok(())
}

fn check_fields(args: &Args) -> Result<(), Usage> {
    for (index, field) in args.map.iter().enumerate() {
        if field.name == "time" {
            return Err(Usage("--map time=…: the time is named by --time-column".to_owned()));
        }
        if args.map[..index].iter().any(|other| other.name == field.name) {
            return Err(Usage(format!("--map {}=…: mapped twice", field.name)));
        }
    }
    match args.text.iter().find(|text| !args.map.iter().any(|field| field.name == **text)) {
        Some(text) => Err(Usage(format!("--text {text}: there is no --map {text}=…"))),
        None => Ok(()),
    }
}

fn parse_address(text: &str) -> Result<(String, u16), Usage> {
    let wrong = || Usage(format!("--mqtt {text}: give host:port, as 127.0.0.1:1883"));
    let (host, port) = match text.rsplit_once(':') {
        // The colons of a bare IPv6 address would be taken for the port's.
        Some((host, _)) if host.contains(':') && !host.starts_with('[') => return Err(wrong()),
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| wrong())?),
        _ => (text, MQTT_PORT),
    };
    if host.is_empty() || host.contains('/') {
        return Err(wrong());
    }
    Ok((host.to_owned(), port))
}
