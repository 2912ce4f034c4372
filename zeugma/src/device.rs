//! `zeugma device`: what an installer does to a device before it goes to its place.

use std::{net::SocketAddrV4, path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use serde::Deserialize;
use zeugma_firmware::settings::{self, KEY_BYTES_MAX, Key, Login, Network, Settings};

use crate::{Usage, say};

mod flash_file;
#[cfg(test)]
mod tests;

use flash_file::FlashFile;

/// What to do with a device.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Write tenant, id, broker, credentials and intervals into the settings of a device's flash
    ///
    /// What readings the flash holds stay there. The settings before these are kept beside them: a device that
    /// cannot live by the new ones goes on by the old, and says so.
    Provision(ProvisionArgs),
}

/// Which settings, and where to.
#[derive(Debug, clap::Args)]
#[command(after_help = "The file of settings, with all that can stand in it:\n
  tenant = \"lamia\"
  device = \"meter-001\"
  broker = \"192.0.2.10:1883\"
  address = \"192.0.2.77/24\"
  gateway = \"192.0.2.1\"
  time_server = \"192.0.2.1:123\"    # left out: the meter's or the receiver's own clock
  user = \"meter-001\"               # with password, where the broker wants to know
  password = \"...\"
  psk_identity = \"meter-001\"       # with psk, for TLS: the key that the broker knows by this name,
  psk = \"00112233...\"              # 16 to 32 bytes in hexadecimal, as `openssl rand -hex 32` makes them
  report_every = \"60s\"
  health_every = \"1h\"")]
pub struct ProvisionArgs {
    /// The flash, as a file: the image that a programmer writes, or the file of an emulated board
    #[arg(long, env = "ZEUGMA_FLASH", value_name = "FILE")]
    pub flash: PathBuf,
    /// How large the flash is, in KiB, where the file is not there yet
    #[arg(long, env = "ZEUGMA_FLASH_KIB", value_name = "KIB", default_value_t = 1024)]
    pub flash_kib: u32,
    /// The settings, in TOML
    #[arg(long, env = "ZEUGMA_SETTINGS", value_name = "FILE.toml")]
    pub settings: PathBuf,
}

/// The file of settings.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    tenant: String,
    device: String,
    broker: SocketAddrV4,
    address: String,
    gateway: std::net::Ipv4Addr,
    time_server: Option<SocketAddrV4>,
    user: Option<String>,
    password: Option<String>,
    psk_identity: Option<String>,
    psk: Option<String>,
    report_every: String,
    health_every: String,
}

/// Runs it.
pub async fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Provision(args) => provision(args).await,
    }
}

async fn provision(args: &ProvisionArgs) -> anyhow::Result<()> {
    let path = args.settings.display();
    let text = std::fs::read_to_string(&args.settings).with_context(|| format!("cannot read {path}"))?;
    let settings = parse(&text).map_err(|error| Usage(format!("{path}: {error:#}")))?;
    let mut flash = FlashFile::open(&args.flash, args.flash_kib)
        .with_context(|| format!("cannot open the flash {}", args.flash.display()))?;
    settings::write(&mut flash, &settings)
        .await
        .with_context(|| format!("cannot write the flash {}", args.flash.display()))?;
    say::line(&format!(
        "{} is {}/{} now, and reports to {} every {}",
        args.flash.display(),
        settings.tenant,
        settings.device,
        settings.broker,
        humantime::format_duration(Duration::from_millis(settings.report_every_ms.into()))
    ))?;
    Ok(())
}

fn parse(text: &str) -> anyhow::Result<Settings> {
    let file: File = toml::from_str(text).map_err(|error| anyhow::anyhow!("{}", error.message()))?;
    let login = match both(file.user, file.password, "user and password")? {
        Some((user, password)) => Some(Login { user: short(&user)?, password: short(&password)? }),
        None => None,
    };
    let key = match both(file.psk_identity, file.psk, "psk_identity and psk")? {
        Some((identity, secret)) => Some(Key { identity: short(&identity)?, secret: bytes(&secret)? }),
        None => None,
    };
    let settings = Settings {
        tenant: short(&file.tenant)?,
        device: short(&file.device)?,
        broker: file.broker,
        login,
        key,
        time_server: file.time_server,
        network: network(&file.address, file.gateway)?,
        report_every_ms: milliseconds(&file.report_every)?,
        health_every_ms: milliseconds(&file.health_every)?,
    };
    settings.check()?;
    Ok(settings)
}

fn short<const N: usize>(text: &str) -> anyhow::Result<heapless::String<N>> {
    text.parse().map_err(|_| anyhow::anyhow!("`{text}` is longer than {N} bytes"))
}

/// Two texts that make sense together only.
fn both(one: Option<String>, other: Option<String>, names: &str) -> anyhow::Result<Option<(String, String)>> {
    match (one, other) {
        (Some(one), Some(other)) => Ok(Some((one, other))),
        (None, None) => Ok(None),
        _ => bail!("{names} go together"),
    }
}

/// What was wrong is told without the key.
fn bytes(text: &str) -> anyhow::Result<heapless::Vec<u8, KEY_BYTES_MAX>> {
    let bytes = hex::decode(text).ok().and_then(|bytes| heapless::Vec::from_slice(&bytes).ok());
    bytes.context("`psk` is 16 to 32 bytes in hexadecimal")
}

fn network(address: &str, gateway: std::net::Ipv4Addr) -> anyhow::Result<Network> {
    let parts =
        address.split_once('/').and_then(|(address, len)| Some((address.parse().ok()?, len.parse().ok()?)));
    let (address, prefix_len) = parts.context("`address` is as 192.0.2.77/24")?;
    Ok(Network { address, prefix_len, gateway })
}

fn milliseconds(text: &str) -> anyhow::Result<u32> {
    let time =
        humantime::parse_duration(text).with_context(|| format!("`{text}` is no time, as 60s or 1h"))?;
    Ok(u32::try_from(time.as_millis())?)
}
