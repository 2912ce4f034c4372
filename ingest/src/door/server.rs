//! How the listener starts and ends, and how the library's server is put together.

use std::rc::Rc;

use ntex::{
    ServiceFactory, SharedCfg, fn_service,
    io::{Io, IoConfig},
    rt::{DefaultRuntime, System},
    server::ServerBuilder,
    service::fn_factory_with_config,
    time::{Millis, Seconds, timeout},
};
use ntex_mqtt::{Control, MqttServer, MqttServiceConfig, QoS, v3, v5};
use tokio::sync::mpsc;

use super::{
    DRAIN, Parts,
    gate::Gates,
    publish::Error,
    rules::{self, PACKET_BYTES_ANNOUNCED},
    session::Session,
    worker::Worker,
};

/// How long one packet, or this much of a long payload, may take from its first byte to its last: a client
/// that is gone in the middle of one sends no further keep-alive to miss.
const PIECE_SECONDS_MAX: Seconds = Seconds(60);
const PIECE_BYTES: u32 = 4 * 1024;

const NAME: &str = "door";

/// Serves until the door closes.
pub(super) fn run(
    listener: std::net::TcpListener,
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
        let (workers, mut closing) = (parts.config.workers.max(1), parts.closing.clone());
        let server = match listen(listener, parts) {
            Ok(server) => server.workers(workers).run(),
            Err(error) => return drop(started.send(Err(error))),
        };
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

fn listen(listener: std::net::TcpListener, parts: Parts) -> std::io::Result<ServerBuilder> {
    let handshake = Seconds(parts.config.handshake_seconds_max);
    let mqtt = MqttServiceConfig::new()
        .protocol_version_timeout(handshake)
        .set_connect_timeout(handshake)
        .set_max_size(PACKET_BYTES_ANNOUNCED)
        .set_max_receive(parts.config.in_flight_max)
        .set_max_qos(QoS::ExactlyOnce)
        // Whoever publishes and leaves at once has published: the library would drop what it reads then.
        .set_handle_qos_after_disconnect(Some(QoS::ExactlyOnce))
        .set_min_chunk_size(PIECE_BYTES);
    // The rate is never reached, so that the time is a limit and not a pace.
    let io = IoConfig::new().set_frame_read_rate(PIECE_SECONDS_MAX, PIECE_SECONDS_MAX, u32::MAX);
    let server =
        ntex::server::build()
            .name(NAME)
            .disable_signals()
            .listen(NAME, listener, async move |_| protocols(&Worker::start(&parts)))?;
    Ok(server.config(NAME, SharedCfg::new(NAME).add(mqtt).add(io)))
}

/// Both protocols of one worker.
fn protocols(worker: &Rc<Worker>) -> impl ServiceFactory<Io, SharedCfg, Response = ()> + use<> {
    let (for_v3, for_v5) = (worker.clone(), worker.clone());
    let v3 =
        v3::MqttServer::new(fn_service(async move |handshake| Ok(rules::welcome_v3(&for_v3, handshake))))
            .replace_middlewares(Gates)
            .control(fn_factory_with_config(async |_| {
                Ok::<_, Error>(fn_service(async |control: Control<Error>| note(&control).map(|()| None)))
            }))
            .protocol(fn_factory_with_config(async |_| {
                Ok::<_, Error>(fn_service(async |message| Ok::<_, Error>(rules::answer_v3(message))))
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
