//! A server: ingest and query, together (`up`) or apart, each on its port.

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use tokio_util::sync::CancellationToken;
use zeugma_ingest::{Clock, Ingest, Status, dead_letters::DeadLetters, upkeep::Asking};
use zeugma_lake::{Lake, seam::Tail, upkeep::KEEP_MAX};
use zeugma_query::{Components, Writer};

use crate::{Usage, asking, limits::LimitArgs, notify::Notify};

/// Open files that a busy server needs: 12,000 connections and 3,000 that introduce themselves (see
/// `zeugma_ingest::door::limits`), and files of the lake.
const OPEN_FILES_WANTED: u64 = 16_384;

/// Where the lake and the journal lie.
#[derive(Debug, Clone, clap::Args)]
pub struct PlaceArgs {
    /// Folder of the journal, and of the lake if that has no place of its own
    #[arg(long, env = "ZEUGMA_DATA", value_name = "DIR", default_value = "zeugma-data")]
    pub data: PathBuf,
    /// Where the lake lies: a path, file:// or s3:// (credentials in AWS_*) [default: lake in --data]
    #[arg(long, env = "ZEUGMA_LAKE", value_name = "URL")]
    pub lake: Option<String>,
}

/// What the writing half is told.
#[derive(Debug, Clone, clap::Args)]
pub struct WriterArgs {
    /// Where devices publish
    #[arg(long, env = "ZEUGMA_MQTT", value_name = "ADDR", default_value = "127.0.0.1:1883", value_parser = address)]
    pub mqtt: SocketAddr,
    /// A broker to subscribe to as well: mqtt://host or mqtts://host, ?tenants=a,b trusts it for these alone
    #[arg(long, env = "ZEUGMA_BROKER", value_name = "URL")]
    pub broker: Option<String>,
    /// Folder of more schemas (.avsc), looked at every 5 s; a bad file is reported and ignored
    #[arg(long, env = "ZEUGMA_SCHEMAS", value_name = "DIR")]
    pub schemas: Option<PathBuf>,
    /// How long readings may wait before they are committed to the lake; they can be asked at once
    #[arg(
        long,
        env = "ZEUGMA_COMMIT_INTERVAL",
        value_name = "TIME",
        default_value = "60s",
        value_parser = humantime::parse_duration
    )]
    pub commit_interval: Duration,
    /// How long a version of a table can still be asked for after it was replaced, and its files take room; 1h at
    /// least, 6d at most
    #[arg(
        long,
        env = "ZEUGMA_KEEP_VERSIONS",
        value_name = "TIME",
        default_value = "24h",
        value_parser = keep_versions
    )]
    pub keep_versions: Duration,
    /// Believe this machine's clock even where most readings of many devices lie ahead of it
    #[arg(long, env = "ZEUGMA_TRUST_CLOCK")]
    pub trust_clock: bool,
    /// How much devices may take.
    #[command(flatten)]
    pub limits: LimitArgs,
}

/// Flags of `up`.
#[derive(Debug, Clone, clap::Args)]
pub struct UpArgs {
    /// Where things lie.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// The writing half.
    #[command(flatten)]
    pub ingest: WriterArgs,
    /// Where questions are asked
    #[arg(long, env = "ZEUGMA_HTTP", value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = address)]
    pub http: SocketAddr,
}

/// Flags of `ingest`.
#[derive(Debug, Clone, clap::Args)]
pub struct IngestArgs {
    /// Where things lie.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// The writing half.
    #[command(flatten)]
    pub ingest: WriterArgs,
    /// Where query processes fetch the tail, and operators the metrics
    #[arg(long, env = "ZEUGMA_HTTP", value_name = "ADDR", default_value = "127.0.0.1:8081", value_parser = address)]
    pub http: SocketAddr,
}

/// Flags of `query`.
#[derive(Debug, Clone, clap::Args)]
pub struct QueryArgs {
    /// Where things lie.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Where questions are asked
    #[arg(long, env = "ZEUGMA_HTTP", value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = address)]
    pub http: SocketAddr,
    /// The ingest process, for what is not in the lake yet
    #[arg(long, env = "ZEUGMA_TAIL", value_name = "URL", default_value = "http://127.0.0.1:8081")]
    pub tail: String,
}

/// What a server is told, checked.
#[derive(Debug, Clone)]
pub struct Settings {
    lake: String,
    http: SocketAddr,
    role: Role,
}

#[derive(Debug, Clone)]
enum Role {
    /// Ingest, with query beside it.
    Writes { mqtt: SocketAddr, config: Box<zeugma_ingest::Config> },
    /// Query, with the tail elsewhere.
    Asks { tail: String },
}

impl Settings {
    /// Those of `up`.
    pub fn up(args: &UpArgs) -> Result<Settings, Usage> {
        Self::writing(&args.place, &args.ingest, args.http)
    }

    /// Those of `ingest`.
    pub fn ingest(args: &IngestArgs) -> Result<Settings, Usage> {
        Self::writing(&args.place, &args.ingest, args.http)
    }

    /// Those of `query`.
    pub fn query(args: &QueryArgs) -> Result<Settings, Usage> {
        loopback("--http", args.http)?;
        Ok(Settings {
            lake: args.place.lake(),
            http: args.http,
            role: Role::Asks { tail: args.tail.clone() },
        })
    }

    fn writing(place: &PlaceArgs, writer: &WriterArgs, http: SocketAddr) -> Result<Settings, Usage> {
        loopback("--http", http)?;
        loopback("--mqtt", writer.mqtt)?;
        let broker = writer.broker.as_deref().map(zeugma_ingest::subscriber::Config::parse).transpose();
        let broker = broker.map_err(|problem| Usage(format!("cannot use --broker: {problem}")))?;
        if let Some(folder) = writer.schemas.as_ref().filter(|folder| !folder.is_dir()) {
            return Err(Usage(format!("--schemas {} is no folder", folder.display())));
        }
        if writer.commit_interval.is_zero() {
            return Err(Usage("--commit-interval must be longer than nothing, as 60s".into()));
        }
        let config = zeugma_ingest::Config {
            data: place.data.clone(),
            schemas: writer.schemas.clone(),
            broker,
            commit_interval: writer.commit_interval,
            keep_versions: writer.keep_versions,
            trust_clock: writer.trust_clock,
            limits: (&writer.limits).into(),
        };
        Ok(Settings {
            lake: place.lake(),
            http,
            role: Role::Writes { mqtt: writer.mqtt, config: Box::new(config) },
        })
    }
}

impl PlaceArgs {
    fn lake(&self) -> String {
        self.lake.clone().unwrap_or_else(|| self.data.join("lake").display().to_string())
    }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    /// Where it answers.
    pub http: SocketAddr,
    /// Where devices publish, if it writes.
    pub mqtt: Option<SocketAddr>,
    ingest: Option<Arc<Ingest>>,
    answering: tokio::task::JoinHandle<std::io::Result<()>>,
    stop_answering: CancellationToken,
}

impl Server {
    /// Binds the ports, opens what it needs, and serves.
    ///
    /// # Errors
    /// A sentence that says what to do: a port in use, a folder that cannot be written, a lake that is held.
    pub async fn start(settings: Settings) -> anyhow::Result<Server> {
        Self::start_with(settings, clock()).await
    }

    /// As [`Server::start`], by another clock.
    pub async fn start_with(settings: Settings, clock: Clock) -> anyhow::Result<Server> {
        raise_open_files();
        let http = bind("--http", settings.http)?;
        http.set_nonblocking(true)?;
        let stop_answering = CancellationToken::new();
        let (components, ingest) = match settings.role {
            Role::Writes { mqtt, config } => {
                let mqtt = bind("--mqtt", mqtt)?;
                let lake = Lake::open(&settings.lake).await?;
                let ingest = Arc::new(Ingest::start(*config, lake.clone(), Some(mqtt), clock).await?);
                (writing(lake, &ingest), Some(ingest))
            }
            Role::Asks { tail } => {
                let lake = Lake::open(&settings.lake).await?;
                (asking::components(lake, &tail, stop_answering.clone()).await?, None)
            }
        };
        let http_addr = http.local_addr()?;
        let http = tokio::net::TcpListener::from_std(http)?;
        let answering = tokio::spawn(zeugma_query::serve(http, components, stop_answering.clone()));
        let mqtt = ingest.as_ref().and_then(|ingest| ingest.mqtt_addr());
        Ok(Server { http: http_addr, mqtt, ingest, answering, stop_answering })
    }

    /// The writing half, where this server has one.
    pub fn ingest(&self) -> Option<&Arc<Ingest>> {
        self.ingest.as_ref()
    }

    /// How its writing half fares, where it has one.
    pub fn status(&self) -> Option<Status> {
        self.ingest.as_ref().map(|ingest| ingest.status())
    }

    /// Waits until it can do its work no more, and says why.
    pub async fn failed(&self) -> String {
        match &self.ingest {
            Some(ingest) => ingest.failed().await,
            None => std::future::pending().await,
        }
    }

    /// Stops in order: nothing more is taken, what was taken is committed, answers end.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.stop_answering.cancel();
        let writer = async {
            match self.ingest.map(Arc::try_unwrap) {
                Some(Ok(ingest)) => Ok(ingest.stop().await?),
                Some(Err(_)) => anyhow::bail!("somebody still holds the writer"),
                None => Ok(()),
            }
        };
        // Side by side: together they have ten seconds.
        let (answered, written) = tokio::join!(self.answering, writer);
        written?;
        Ok(answered.context("answering ended badly")??)
    }
}

/// Runs a server until the shutdown, or until it fails.
pub async fn run(settings: Settings, shutdown: CancellationToken) -> anyhow::Result<()> {
    let server = Server::start(settings).await?;
    let http = server.http;
    match server.mqtt {
        Some(mqtt) => tracing::info!(%mqtt, %http, "started: devices publish to mqtt, questions go to http"),
        None => tracing::info!(%http, "started: questions go to http"),
    }
    wait(server, shutdown).await
}

/// Waits for the shutdown or a failure, then stops in order.
pub async fn wait(server: Server, shutdown: CancellationToken) -> anyhow::Result<()> {
    let notify = Arc::new(Notify::from_env());
    notify.ready();
    let (teller, status) = (notify.clone(), server.status());
    let telling = tokio::spawn(async move { teller.keep_telling(status).await });
    let failure = tokio::select! {
        () = shutdown.cancelled() => None,
        reason = server.failed() => Some(reason),
    };
    let reason = failure.as_deref().unwrap_or("told to");
    tracing::info!(reason, "stopping");
    notify.stopping(&format!("stopping: {reason}"));
    let stopped = server.stop().await;
    telling.abort();
    match failure {
        Some(reason) => anyhow::bail!(reason),
        None => stopped.inspect(|()| tracing::info!("stopped; what is not in the lake is in the journal")),
    }
}

/// What queries are given beside a writer: its tail, its counters, its troubles.
fn writing(lake: Lake, ingest: &Arc<Ingest>) -> Components {
    // The writer is stopped by its one owner, so everybody else holds on to parts of it only.
    let (metrics, status, dead_letters) = (ingest.metrics(), ingest.status(), ingest.dead_letters());
    let upkeep = ingest.upkeep();
    Components {
        lake,
        tail: Some(Arc::new(ingest.tail()) as Arc<dyn Tail>),
        metrics: Arc::new(move || metrics.text()),
        ready: Arc::new(move || status.troubles()),
        serves_tail: true,
        writer: Some(writer(dead_letters, &upkeep)),
    }
}

/// What an operator may have it do.
fn writer(dead_letters: DeadLetters, upkeep: &Asking) -> Writer {
    let (compacts, erases, blocked) = (upkeep.clone(), upkeep.clone(), upkeep.blocked.clone());
    let (sets, unsets) = (upkeep.rules.clone(), upkeep.rules.clone());
    Writer {
        replay: Arc::new(move |letters| {
            let dead_letters = dead_letters.clone();
            Box::pin(async move { dead_letters.replay(letters).await.map_err(sentence) })
        }),
        compact: Arc::new(move |table| compacts.compact(table)),
        erase: Arc::new(move |subject, and_block| erases.erase(subject, and_block)),
        unblock: Arc::new(move |subject| {
            let blocked = blocked.clone();
            Box::pin(async move { blocked.lift(&subject).await.map_err(sentence) })
        }),
        set_rule: Arc::new(move |rule| {
            let rules = sets.clone();
            Box::pin(async move { rules.set(rule).await.map_err(sentence) })
        }),
        unset_rule: Arc::new(move |tenant, table| {
            let rules = unsets.clone();
            Box::pin(async move { rules.unset(tenant.as_deref(), table.as_deref()).await.map_err(sentence) })
        }),
    }
}

fn sentence(error: impl std::error::Error) -> String {
    error.to_string()
}

/// The machine's clock, microseconds since 1970.
pub fn clock() -> Clock {
    Arc::new(|| {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    })
}

/// An address and a port.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "an address and a port are wanted, as 127.0.0.1:8080".to_owned())
}

/// How long versions are kept.
fn keep_versions(text: &str) -> Result<Duration, String> {
    let keep = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if keep <= KEEP_MAX {
        return Ok(keep);
    }
    let days = KEEP_MAX.as_secs() / 86_400;
    Err(format!(
        "versions are kept for {days}d at most; copy what must be read for longer, as with zeugma sql"
    ))
}

/// Until there are tokens, nothing but this machine itself is served.
fn loopback(flag: &str, addr: SocketAddr) -> Result<(), Usage> {
    if addr.ip().is_loopback() {
        return Ok(());
    }
    Err(Usage(format!(
        "{flag} {addr} is open to others, and there are no tokens yet: use 127.0.0.1:{}",
        addr.port()
    )))
}

fn bind(flag: &str, addr: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(addr).with_context(|| {
        format!("cannot listen on {addr}: stop what listens there, or choose another address with {flag}")
    })
}

fn raise_open_files() {
    match rlimit::increase_nofile_limit(OPEN_FILES_WANTED) {
        Ok(limit) if limit >= OPEN_FILES_WANTED => {}
        Ok(limit) => {
            tracing::warn!(
                "only {limit} files may be open, {OPEN_FILES_WANTED} are wanted: raise the hard limit"
            );
        }
        Err(error) => tracing::warn!("the limit of open files stays as it is: {error}"),
    }
}
