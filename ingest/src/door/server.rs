//! How the listener starts and ends, and how the library's server is put together.

use std::{net::TcpStream, rc::Rc, sync::mpsc::SyncSender, time::Duration};

use ntex::{
    ServiceFactory, SharedCfg, fn_service,
    io::{Io, IoConfig, Layer},
    rt::{DefaultRuntime, System, from_tcp_stream},
    service::{apply_fn_factory, boxed, fn_factory_with_config, map_config},
    time::{Millis, Seconds, sleep, timeout},
    util::BytePageSize,
};
use ntex_mqtt::{Control, MqttServer, MqttServiceConfig, QoS, v3, v5};
use ntex_server::{Server, ServerConfiguration, WorkerPool};
use socket2::{SockRef, TcpKeepalive};
use tokio::{net::TcpListener, sync::mpsc};

use super::{
    DRAIN, Parts,
    frames::{Frames, Number},
    gate::Gates,
    limits::{ALIASES_MAX, BACKLOG, READ_BYTES},
    publish::Error,
    rules::{self, PACKET_BYTES_ANNOUNCED},
    session::Session,
    worker::Worker,
};

/// How long one packet, or this much of a long payload, may take from its first byte to its last: a client
/// that is gone in the middle of one sends no further keep-alive to miss.
const PIECE_SECONDS_MAX: Seconds = Seconds(60);
const PIECE_BYTES: u32 = 4 * 1024;

/// A peer that is gone without a word: asked after a minute of silence, given up after four answers missed.
const ASK_AFTER: Duration = Duration::from_secs(60);
const ASK_EVERY: Duration = Duration::from_secs(15);
const ASK_TIMES: u32 = 4;

/// A peer that is there and does not read its acknowledgements is given up after this.
const UNREAD_MAX: Duration = Duration::from_secs(120);

/// Less than this is too little to read into; and how many free buffers each worker keeps. As the library has it.
const BUFFER_BYTES_LOW: usize = 536;
const BUFFERS_KEPT: usize = 128;

/// Between two tries to take a connection where there are no file descriptors left, for one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

const NAME: &str = "door";

/// Sets what a listener needs, and what its connections inherit.
pub(super) fn prepare(listener: &std::net::TcpListener) -> std::io::Result<()> {
    let socket = SockRef::from(listener);
    let ask = TcpKeepalive::new().with_time(ASK_AFTER).with_interval(ASK_EVERY).with_retries(ASK_TIMES);
    socket.set_tcp_keepalive(&ask)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNREAD_MAX))?;
    listener.set_nonblocking(true)?;
    // It listens already; this only lets more wait.
    socket.listen(BACKLOG)
}

/// Serves until the door closes.
pub(super) fn run(
    listener: std::net::TcpListener,
    parts: Parts,
    started: SyncSender<std::io::Result<()>>,
    mut drained: mpsc::UnboundedReceiver<()>,
) {
    let system = System::build()
        .name(NAME)
        .disable_signals()
        .panic_handling(false)
        .ping_interval(0)
        .build(DefaultRuntime);
    system.block_on(async move {
        let listener = match TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return drop(started.send(Err(error))),
        };
        let (workers, beginning) = (parts.config.workers, parts.beginning.clone());
        let mut closing = parts.closing.clone();
        let settings = settings(&parts);
        let pool = WorkerPool::new().name(NAME).workers(workers).disable_signals();
        let pool = pool.run(Connections { parts, settings });
        beginning.wait(workers, &pool).await;
        // Nobody waits any more where the door was dropped meanwhile.
        let _ = started.send(Ok(()));
        tokio::select! {
            _ = closing.wait_for(|closing| *closing) => {}
            () = deal(&listener, &pool) => {}
        }
        drop(listener);
        let all = async {
            for _ in 0..workers {
                drained.recv().await;
            }
        };
        // A worker waits for its payloads and then for its sockets; twice the first covers both.
        let at_most = Millis::from(DRAIN * 2);
        if timeout(at_most, all).await.is_err() {
            tracing::warn!("the door closes before all payloads were acknowledged");
        }
        pool.stop(false).await;
    });
}

/// Takes connections and gives them to one worker after the other.
async fn deal(listener: &TcpListener, pool: &Server<TcpStream>) {
    loop {
        match listener.accept().await.and_then(|(stream, _)| stream.into_std()) {
            // It comes back where the pool has ended or all workers have failed, and is closed by that.
            Ok(stream) => drop(pool.process(stream)),
            Err(error) if ended_meanwhile(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "no connection can be taken, trying again");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether an error is of the connection that would have been taken, and not of the listener (accept(2)).
fn ended_meanwhile(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// What the library wants to know of the protocol and of sockets.
fn settings(parts: &Parts) -> SharedCfg {
    let handshake = Seconds(parts.config.handshake_seconds_max);
    let mqtt = MqttServiceConfig::new()
        .protocol_version_timeout(handshake)
        .set_connect_timeout(handshake)
        .set_max_size(PACKET_BYTES_ANNOUNCED)
        .set_max_receive(parts.config.in_flight_max)
        .set_max_topic_alias(ALIASES_MAX)
        .set_max_qos(QoS::ExactlyOnce)
        // Whoever publishes and leaves at once has published: the library would drop what it reads then.
        .set_handle_qos_after_disconnect(Some(QoS::ExactlyOnce))
        .set_min_chunk_size(PIECE_BYTES);
    // The rate is never reached, so that the time is a limit and not a pace.
    let io = IoConfig::new()
        .set_frame_read_rate(PIECE_SECONDS_MAX, PIECE_SECONDS_MAX, u32::MAX)
        .set_read_buf(READ_BYTES, BUFFER_BYTES_LOW, BUFFERS_KEPT)
        // Acknowledgements are 4 bytes each.
        .set_write_page_size(BytePageSize::Size4);
    SharedCfg::new(NAME).add(mqtt).add(io).into()
}

/// What each worker makes of connections.
#[derive(Clone)]
struct Connections {
    parts: Parts,
    settings: SharedCfg,
}

impl ServerConfiguration for Connections {
    type Item = TcpStream;
    type Factory = boxed::BoxServiceFactory<(), TcpStream, (), (), ()>;

    async fn create(&self) -> Result<Self::Factory, ()> {
        let worker = Worker::start(&self.parts);
        self.parts.beginning.of_worker().await;
        let settings = self.settings.clone();
        Ok(boxed::factory(map_config(connections(&worker, settings.clone()), move |()| settings.clone())))
    }
}

/// Every connection of one worker, from its first moment.
fn connections(
    worker: &Rc<Worker>,
    settings: SharedCfg,
) -> impl ServiceFactory<TcpStream, SharedCfg, Response = (), Error = (), InitError = ()> + use<> {
    let protocols = protocols(worker);
    let worker = worker.clone();
    let served = apply_fn_factory(protocols, async move |stream: TcpStream, protocols| {
        let Ok(io) = from_tcp_stream(stream, settings.clone()) else { return Ok(()) };
        let number = worker.guests.arrive(io.get_ref());
        let ended = protocols.call(io.add_filter(Frames::new(Number(number)))).await;
        worker.guests.depart(number);
        ended
    });
    served.map_err(|_| ()).map_init_err(|_| ())
}

/// Both protocols of one worker.
fn protocols(
    worker: &Rc<Worker>,
) -> impl ServiceFactory<Io<Layer<Frames>>, SharedCfg, Response = (), Error: std::fmt::Debug> + use<> {
    let (for_v3, for_v5) = (worker.clone(), worker.clone());
    let v3 =
        v3::MqttServer::new(fn_service(async move |handshake| Ok(rules::welcome_v3(&for_v3, handshake))))
            .replace_middlewares(Gates)
            .control(fn_factory_with_config(async |_| {
                Ok::<_, Error>(fn_service(async |control: Control<Error>| note(&control).map(|()| None)))
            }))
            .protocol(fn_factory_with_config(async |session: v3::Session<Rc<Session>>| {
                Ok::<_, Error>(fn_service(async move |message| {
                    Ok::<_, Error>(rules::answer_v3(&session, message))
                }))
            }))
            .publish(fn_factory_with_config(async |session: v3::Session<Rc<Session>>| {
                Ok::<_, Error>(fn_service(move |publish| rules::publish_v3(Rc::clone(&session), publish)))
            }));
    let v5 =
        v5::MqttServer::new(fn_service(async move |handshake| Ok(rules::welcome_v5(&for_v5, handshake))))
            .replace_middlewares(Gates)
            .control(fn_factory_with_config(async |_| {
                Ok::<_, Error>(fn_service(async |control: Control<Error>| note(&control).map(|()| None)))
            }))
            .protocol(fn_factory_with_config(async |_| {
                Ok::<_, Error>(fn_service(async |message| Ok::<_, Error>(rules::answer_v5(message))))
            }))
            .publish(fn_factory_with_config(async |session: v5::Session<Rc<Session>>| {
                Ok::<_, Error>(fn_service(move |publish| rules::publish_v5(Rc::clone(&session), publish)))
            }));
    MqttServer::new().v3(v3).v5(v5)
}

/// Why connections end is of interest to whoever looks for it, and to nobody else.
fn note(control: &Control<Error>) -> Result<(), Error> {
    if let Control::Stop(reason) = control {
        tracing::debug!(?reason, "a connection ends");
    }
    Ok(())
}
