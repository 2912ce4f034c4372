//! Readings as they are accepted: server-sent events, and what a browser that lost the connection gets.

use std::time::Duration;

use serde_json::Value;
use zeugma_tests::{City, city::PATIENCE};

/// A stream of events as a browser reads it.
struct Events {
    answer: reqwest::Response,
    text: String,
    /// The last id, which a browser sends when it has lost the connection.
    last_id: String,
}

#[derive(Debug, PartialEq)]
struct Event {
    name: String,
    id: String,
    data: Value,
}

impl Events {
    async fn open(url: &str, after: Option<&str>) -> Events {
        let request = reqwest::Client::new().get(url);
        let request = after.iter().fold(request, |request, id| request.header("last-event-id", *id));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200, "{url}");
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let mut events = Events { answer, text: String::new(), last_id: String::new() };
        // The first block is a comment and how long to wait before another connection.
        while !events.text.contains("\n\n") {
            events.more().await;
        }
        assert!(events.text.contains("retry: 2000"), "{}", events.text);
        events.text.drain(..events.text.find("\n\n").unwrap() + 2);
        events
    }

    async fn more(&mut self) {
        let chunk = tokio::time::timeout(PATIENCE, self.answer.chunk()).await.expect("an event in time");
        self.text.push_str(&String::from_utf8_lossy(&chunk.unwrap().expect("the stream goes on")));
    }

    /// The next block; of one that is only a comment, or an id, there is no event.
    async fn block(&mut self) -> Option<Event> {
        let end = loop {
            match self.text.find("\n\n") {
                Some(end) => break end,
                None => self.more().await,
            }
        };
        let block: String = self.text.drain(..end + 2).collect();
        let field = |name: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.unwrap_or_default().to_owned()
        };
        if !field("id").is_empty() {
            self.last_id = field("id");
        }
        let data = || serde_json::from_str(&field("data")).unwrap();
        (!field("event").is_empty()).then(|| Event { name: field("event"), id: field("id"), data: data() })
    }

    async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.block().await {
                return event;
            }
        }
    }

    async fn spaces(&mut self) -> (i64, String) {
        let event = self.next().await;
        assert_eq!((event.name.as_str(), &event.data["domain"]), ("reading", &Value::from("parking")));
        (event.data["occupied_spaces"].as_i64().unwrap(), event.id)
    }
}

fn parking(minute: i64) -> String {
    let time_us = (1_790_000_000 + minute * 60) * 1_000_000;
    format!(r#"{{"time":{time_us},"occupied_spaces":{minute}}}"#)
}

const SQUARE: &str = "city/v1/lamia/parking/square-1";

#[tokio::test(flavor = "multi_thread")]
async fn reading_is_told_as_it_is_accepted_to_those_who_want_it() {
    let city = City::start().await;
    let mut all = Events::open(&city.url("/api/v1/live?domain=fleet,parking"), None).await;
    let mut some = Events::open(&city.url("/api/v1/live?domain=parking&tenant=ostrava&device=b"), None).await;
    let bus = r#"{"time":1790000000000000,"latitude":38.9,"longitude":22.4}"#;
    city.publish("city/v1/lamia/fleet/bus-1", bus).await;
    city.publish(SQUARE, parking(1)).await;
    city.publish("city/v1/ostrava/parking/a", parking(2)).await;
    city.publish("city/v1/ostrava/parking/b", parking(3)).await;
    let first = all.next().await;
    assert_eq!((first.name.as_str(), &first.data["domain"]), ("reading", &Value::from("fleet")));
    assert_eq!((&first.data["device"], &first.data["latitude"]), (&Value::from("bus-1"), &Value::from(38.9)));
    assert!(first.data.get("date").is_none() && first.data["received_at"].is_string(), "{:?}", first.data);
    for minute in 1..4 {
        assert_eq!(all.spaces().await.0, minute);
    }
    assert_eq!(some.spaces().await.0, 3);
    for (query, status) in [("", 400), ("?domain=nonsense", 404), ("?domain=dead_letters", 404)] {
        assert_eq!(city.get(&format!("/api/v1/live{query}")).await.0, status, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_connection_goes_on_where_it_ended_as_long_as_the_tail_has_it() {
    let mut city = City::start().await;
    let url = city.url("/api/v1/live?domain=parking");
    let mut events = Events::open(&url, None).await;
    for minute in 0..3 {
        city.publish(SQUARE, parking(minute)).await;
    }
    assert_eq!(events.spaces().await.0, 0);
    let (_, id) = events.spaces().await;
    drop(events);
    city.publish(SQUARE, parking(3)).await;
    let mut events = Events::open(&url, Some(&id)).await;
    city.publish(SQUARE, parking(4)).await;
    let mut last = String::new();
    for minute in 2..5 {
        let (found, id) = events.spaces().await;
        assert_eq!(found, minute);
        last = id;
    }
    drop(events);
    // What was committed since then is in the lake, and told of there.
    city.publish(SQUARE, parking(5)).await;
    city.restart().await;
    let url = city.url("/api/v1/live?domain=parking");
    let mut events = Events::open(&url, Some(&last)).await;
    assert_eq!(events.next().await.name, "missed");
    city.publish(SQUARE, parking(6)).await;
    assert_eq!(events.spaces().await.0, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_that_is_lost_within_a_payload_gets_the_rest_of_it() {
    let city = City::start().await;
    let url = city.url("/api/v1/live?domain=parking");
    let mut events = Events::open(&url, None).await;
    city.publish(SQUARE, format!("[{},{},{}]", parking(0), parking(1), parking(2))).await;
    let (first, id) = events.spaces().await;
    assert_eq!((first, id.is_empty()), (0, false));
    drop(events);
    let mut events = Events::open(&url, Some(&id)).await;
    city.publish(SQUARE, parking(3)).await;
    let mut found = Vec::new();
    while found.last() != Some(&3) {
        found.push(events.spaces().await.0);
    }
    assert!(found.ends_with(&[1, 2, 3]), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_connection_goes_on_in_domains_that_were_silent() {
    let city = City::start().await;
    let url = city.url("/api/v1/live?domain=fleet,parking");
    let mut events = Events::open(&url, None).await;
    // Both begin.
    assert_eq!((events.block().await, events.block().await), (None, None));
    let nothing_yet = events.last_id.clone();
    let bus = r#"{"time":1790000000000000,"latitude":38.9,"longitude":22.4}"#;
    city.publish("city/v1/lamia/fleet/bus-1", bus).await;
    assert_eq!(events.next().await.data["device"], "bus-1");
    let after_fleet = events.last_id.clone();
    drop(events);
    city.publish(SQUARE, parking(1)).await;
    let mut events = Events::open(&url, Some(&after_fleet)).await;
    assert_eq!(events.spaces().await.0, 1);
    let mut events = Events::open(&url, Some(&nothing_yet)).await;
    assert_eq!(events.next().await.data["device"], "bus-1");
    assert_eq!(events.spaces().await.0, 1);
    // Whoever asks for a domain that it has not followed is told to look for itself.
    let only_fleet = after_fleet.split(',').find(|part| part.contains("fleet")).unwrap();
    let mut events = Events::open(&url, Some(only_fleet)).await;
    assert_eq!(events.next().await.name, "missed");
}

#[tokio::test(flavor = "multi_thread")]
async fn open_streams_do_not_hold_up_a_stop() {
    let mut city = City::start().await;
    let mut events = Events::open(&city.url("/api/v1/live?domain=parking"), None).await;
    assert_eq!(events.block().await, None);
    let stopping = tokio::time::timeout(Duration::from_secs(6), city.stop());
    stopping.await.expect("a stop that waits for no browser");
    assert!(events.answer.chunk().await.ok().flatten().is_none(), "the stream has ended");
}
