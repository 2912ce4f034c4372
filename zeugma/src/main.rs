//! Zeugma joins every sensor of a city into tables that anybody entitled can ask.

mod memory;

use std::process::ExitCode;

use tokio_util::sync::CancellationToken;
use zeugma::{
    Usage,
    cli::{self, LogFormat},
    log_json::Json,
    say,
};

/// Readings are taken by one thread and let go by another, which makes glibc's threads wait for each other.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Wrong use (sysexits.h, EX_USAGE).
const WRONG_USE: u8 = 64;

fn main() -> ExitCode {
    memory::give_back();
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(cli::Ended::Help(text)) => {
            return if say::text(&text).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        Err(cli::Ended::Wrong(usage)) => return wrong_use(&usage),
    };
    start_logs(cli.log_format);
    // Both providers are linked, as libraries below differ in theirs; we say which one counts.
    rustls::crypto::ring::default_provider().install_default().ok();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("zeugma: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        let shutdown = CancellationToken::new();
        tokio::spawn(stop_on_signals(shutdown.clone()));
        cli::run(cli.command, shutdown).await
    });
    // What a thread still waits for, as a disk that takes nothing, is not waited for: it was not acknowledged.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<Usage>() {
            Some(usage) => wrong_use(usage),
            None => {
                eprintln!("zeugma: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

fn wrong_use(usage: &Usage) -> ExitCode {
    eprintln!("zeugma: {usage}");
    ExitCode::from(WRONG_USE)
}

fn start_logs(format: LogFormat) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        EnvFilter::new("warn,zeugma=info,zeugma_ingest=info,zeugma_lake=info,zeugma_query=info")
    });
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    match format {
        LogFormat::Text => logs.with_ansi(ansi).with_target(false).init(),
        LogFormat::Json => logs.event_format(Json).init(),
    }
}

/// The first SIGINT or SIGTERM stops in order, the second at once.
async fn stop_on_signals(shutdown: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        tracing::error!("signals cannot be caught: stop with SIGKILL, nothing is lost by it");
        return;
    };
    for again in [false, true] {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if again {
            std::process::exit(1);
        }
        shutdown.cancel();
    }
}
