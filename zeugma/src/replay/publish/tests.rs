//! The publisher against a server of a few lines that does what each test needs.

use std::sync::Arc;

use rumqttc::v5::mqttbytes::v5::ConnAck;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;

/// What the server answers to a publish.
enum Answer {
    Ack,
    Refuse,
    Keep,
    HangUp,
}

/// Serves one connection until it ends or an answer is `HangUp`; answers the payloads it saw.
async fn serve(stream: &mut TcpStream, mut answer: impl FnMut(u64) -> Answer) -> Vec<u64> {
    let (mut bytes, mut seen) = (bytes::BytesMut::new(), Vec::new());
    loop {
        match Packet::read(&mut bytes, None) {
            Ok(Packet::Connect(..)) => {
                let ack =
                    ConnAck { session_present: false, code: ConnectReturnCode::Success, properties: None };
                send(stream, Packet::ConnAck(ack)).await;
            }
            Ok(Packet::Publish(publish)) => {
                let number = std::str::from_utf8(&publish.payload).expect("text").parse().expect("a number");
                seen.push(number);
                let mut ack = PubAck::new(publish.pkid, None);
                match answer(number) {
                    Answer::Ack => {}
                    Answer::Refuse => ack.reason = PubAckReason::NotAuthorized,
                    Answer::Keep => continue,
                    Answer::HangUp => return seen,
                }
                send(stream, Packet::PubAck(ack)).await;
            }
            Ok(Packet::Disconnect(_)) => return seen,
            Ok(_) => {}
            Err(_) => match stream.read_buf(&mut bytes).await {
                Ok(0) | Err(_) => return seen,
                Ok(_) => {}
            },
        }
    }
}

/// Ends the connection so that the client still reads every acknowledgement before the end: a socket
/// closed over bytes that nobody read is reset, and a reset drops what the client has not read yet.
async fn hang_up(mut stream: TcpStream) {
    stream.shutdown().await.ok();
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.ok();
}

async fn send(stream: &mut TcpStream, packet: Packet) {
    let mut bytes = bytes::BytesMut::new();
    packet.write(&mut bytes, None).expect("a small packet");
    // The client may be gone already; the test sees that in its own numbers.
    stream.write_all(&bytes).await.ok();
}

fn messages(range: std::ops::Range<u64>) -> Receiver<Vec<Message>> {
    let (out, source) = tokio::sync::mpsc::channel(1024);
    for number in range {
        let message = Message { topic: "city/v1/a/b/c".into(), payload: number.to_string().into() };
        out.try_send(vec![message]).expect("room for all");
    }
    source
}

async fn server() -> (TcpListener, Link) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let drain = Duration::from_secs(1);
    (listener, Link { host: "127.0.0.1".to_owned(), port, client_id: "test".to_owned(), drain })
}

#[tokio::test]
async fn refused_readings_are_counted_apart_from_acknowledged_ones() {
    let (listener, link) = server().await;
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        serve(&mut stream, |number| if number % 10 == 3 { Answer::Refuse } else { Answer::Ack }).await
    });
    let mut summary = Summary::default();
    let token = CancellationToken::new();
    publish(&link, messages(0..1000), &token, &mut summary, |_| {}).await.expect("a server that answers");
    assert_eq!(summary, Summary { sent: 1000, acknowledged: 900, refused: 100 });
    assert_eq!(serving.await.expect("no panic"), Vec::from_iter(0..1000));
}

#[tokio::test]
async fn broken_connection_sends_again_what_was_not_acknowledged_in_order() {
    let (listener, link) = server().await;
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let mut seen = serve(&mut stream, |number| match number {
            0..100 => Answer::Ack,
            100..300 => Answer::Keep,
            _ => Answer::HangUp,
        })
        .await;
        hang_up(stream).await;
        let (mut stream, _) = listener.accept().await.expect("the client again");
        seen.extend(serve(&mut stream, |_| Answer::Ack).await);
        seen
    });
    let mut summary = Summary::default();
    let token = CancellationToken::new();
    publish(&link, messages(0..1000), &token, &mut summary, |_| {}).await.expect("a server that comes back");
    assert_eq!(summary, Summary { sent: 1000, acknowledged: 1000, refused: 0 });
    // 0..=300 by the first connection; from the first unanswered one on, all by the second.
    assert_eq!(serving.await.expect("no panic"), Vec::from_iter((0..=300).chain(100..1000)));
}

#[tokio::test]
async fn acknowledgement_that_comes_together_with_the_end_of_the_connection_counts() {
    let (listener, link) = server().await;
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        serve(&mut stream, |number| if number < 4 { Answer::Keep } else { Answer::HangUp }).await;
        // Nothing here waits, so the client finds all of it in one read. Its packet ids begin at 1.
        for packet_id in 1..=5 {
            send(&mut stream, Packet::PubAck(PubAck::new(packet_id, None))).await;
        }
        hang_up(stream).await;
    });
    let mut summary = Summary::default();
    let token = CancellationToken::new();
    publish(&link, messages(0..5), &token, &mut summary, |_| {}).await.expect("nothing to send again");
    assert_eq!(summary, Summary { sent: 5, acknowledged: 5, refused: 0 });
    serving.await.expect("no panic");
}

#[tokio::test]
async fn unanswered_readings_never_exceed_the_window() {
    let (listener, link) = server().await;
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        serve(&mut stream, |_| Answer::Keep).await
    });
    let token = CancellationToken::new();
    let stop = token.clone();
    let mut summary = Summary::default();
    let watch = |summary: &Summary| {
        if summary.sent >= u64::from(WINDOW) {
            stop.cancel();
        }
    };
    // The stop waits for acknowledgements that never come, and no longer than it says.
    let began = Instant::now();
    publish(&link, messages(0..1000), &token, &mut summary, watch).await.expect("a stop is no error");
    assert_eq!(summary, Summary { sent: u64::from(WINDOW), acknowledged: 0, refused: 0 });
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert_eq!(serving.await.expect("no panic").len(), usize::from(WINDOW));
}

#[tokio::test]
async fn absent_server_is_an_error_that_says_what_to_do() {
    let (listener, link) = server().await;
    drop(listener);
    let token = CancellationToken::new();
    let mut summary = Summary::default();
    let error = publish(&link, messages(0..1), &token, &mut summary, |_| {}).await;
    let error = error.expect_err("nobody listens").to_string();
    assert_eq!(summary, Summary::default());
    assert!(error.contains("zeugma up") && error.contains("--mqtt"), "{error}");
}

#[tokio::test]
async fn reading_larger_than_any_server_takes_is_refused_here() {
    let (listener, link) = server().await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        serve(&mut stream, |_| Answer::Ack).await
    });
    let (out, source) = tokio::sync::mpsc::channel(1);
    let topic: Arc<str> = "city/v1/a/b/c".into();
    let large = Message { topic: topic.clone(), payload: vec![b'1'; PAYLOAD_BYTES_MAX + 1].into() };
    out.try_send(vec![large, Message { topic, payload: "2".into() }]).expect("room");
    drop(out);
    let mut summary = Summary::default();
    let token = CancellationToken::new();
    publish(&link, source, &token, &mut summary, |_| {}).await.expect("a server that answers");
    assert_eq!(summary, Summary { sent: 2, acknowledged: 1, refused: 1 });
}

#[test]
fn tries_bridge_as_much_as_their_limits_say() {
    let bridged = |tries_max: u32| (1..tries_max).map(pause).sum::<Duration>();
    assert_eq!(bridged(FIRST_TRIES_MAX), Duration::from_millis(1750));
    assert_eq!(bridged(TRIES_MAX), Duration::from_millis(31_750));
}

#[tokio::test]
async fn server_that_knows_no_such_client_is_not_asked_again() {
    let (listener, link) = server().await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let code = ConnectReturnCode::BadUserNamePassword;
        send(&mut stream, Packet::ConnAck(ConnAck { session_present: false, code, properties: None })).await;
        stream.read_to_end(&mut Vec::new()).await.ok();
    });
    let token = CancellationToken::new();
    let outcome = publish(&link, messages(0..1), &token, &mut Summary::default(), |_| {}).await;
    assert!(matches!(outcome, Err(Error::Rejected(..))), "{outcome:?}");
}
