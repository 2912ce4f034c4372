//! How the listener starts and ends, and how the library's server is put together.

use std::{net::TcpListener, rc::Rc, time::Duration};

use ntex::{
    ServiceFactory, SharedCfg, fn_service,
    io::{Io, IoConfig, Layer},
    rt::{DefaultRuntime, System},
    server::ServerBuilder,
    service::{apply_fn_factory, fn_factory_with_config},
    time::{Millis, Seconds, timeout},
    util::BytePageSize,
};
use ntex_mqtt::{Control, MqttServer, MqttServiceConfig, QoS, v3, v5};
use socket2::{SockRef, TcpKeepalive};
use tokio::sync::{mpsc, watch};

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

const NAME: &str = "door";

/// Sets what the connections of a listener inherit.
pub(super) fn prepare(listener: &TcpListener) -> std::io::Result<()> {
    let socket = SockRef::from(listener);
    let ask = TcpKeepalive::new().with_time(ASK_AFTER).with_interval(ASK_EVERY).with_retries(ASK_TIMES);
    socket.set_tcp_keepalive(&ask)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNREAD_MAX))?;
    // It listens already; this only lets more wait.
    socket.listen(BACKLOG)
}

/// Serves until the door closes.
pub(super) fn run(
    listener: TcpListener,
    parts: Parts,
    started: std::sync::mpsc::SyncSender<std::io::Result<()>>,
    mut drained: mpsc::UnboundedReceiver<()>,
) {
    let system = System::build()
        .name(NAME)
        .disable_signals()
        .panic_handling(false)
        .ping_interval(0)
        .build(DefaultRuntime);
    system.block_on(async move {
        let (workers, mut closing) = (parts.config.workers, parts.closing.clone());
        let up = parts.up.clone();
        let server = match listen(listener, parts) {
            Ok(server) => server.workers(workers).run(),
            Err(error) => return drop(started.send(Err(error))),
        };
        all_up(&up, workers).await;
        // Nobody waits any more where the door was dropped meanwhile.
        let _ = started.send(Ok(()));
        let _ = closing.wait_for(|closing| *closing).await;
        server.pause().await;
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
        server.stop(false).await;
    });
}

fn listen(listener: TcpListener, parts: Parts) -> std::io::Result<ServerBuilder> {
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
    let server =
        ntex::server::build().name(NAME).disable_signals().listen(NAME, listener, async move |_| {
            let worker = Worker::start(&parts);
            parts.up.send_modify(|up| *up += 1);
            all_up(&parts.up, parts.config.workers).await;
            connections(&worker)
        })?;
    Ok(server.config(NAME, SharedCfg::new(NAME).add(mqtt).add(io)))
}

/// Waits until so many workers have started. After a restart all devices of a city connect at once, and stay where
/// they are: the library gives each to the next of the workers that are there, so it has to know them all.
async fn all_up(up: &watch::Sender<usize>, workers: usize) {
    // It does not fail, as the sender is here.
    drop(up.subscribe().wait_for(|up| *up >= workers).await);
}

/// Every connection of one worker, from its first moment.
fn connections(worker: &Rc<Worker>) -> impl ServiceFactory<Io, SharedCfg, Response = ()> + use<> {
    let protocols = protocols(worker);
    let worker = worker.clone();
    apply_fn_factory(protocols, async move |io: Io, protocols| {
        let number = worker.guests.arrive(io.get_ref());
        let ended = protocols.call(io.add_filter(Frames::new(Number(number)))).await;
        worker.guests.depart(number);
        ended
    })
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
