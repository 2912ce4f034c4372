use std::sync::Arc;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, StatusCode, header},
};
use serde_json::{Value, json};
use tower::ServiceExt;
use zeugma_lake::seam::Tail;

use crate::{
    Components, Grant, Query, RemoteTail,
    tests::{City, dead_letter, fleet, number, parking},
};

struct Got {
    status: StatusCode,
    media_type: String,
    next: Option<String>,
    body: Vec<u8>,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn components(city: &City) -> Components {
    Components {
        lake: city.lake.clone(),
        tail: Some(city.tail.clone() as Arc<dyn Tail>),
        metrics: Arc::new(|| "zeugma_up 1\n".into()),
        ready: Arc::new(|| vec!["the clock is not credible".into()]),
        serves_tail: true,
        writer: None,
    }
}

fn router(city: &City) -> Router {
    crate::router(components(city), Default::default())
}

async fn send(router: &Router, request: Request<Body>) -> Got {
    let response = router.clone().oneshot(request).await.unwrap();
    let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let (media_type, next) = (header("content-type").unwrap_or_default(), header("zeugma-next"));
    let status = response.status();
    Got { status, media_type, next, body: to_bytes(response.into_body(), 64 << 20).await.unwrap().to_vec() }
}

async fn get(router: &Router, path: &str, accept: &str) -> Got {
    let request = Request::get(path).header(header::HOST, "localhost:8080").header(header::ACCEPT, accept);
    send(router, request.body(Body::empty()).unwrap()).await
}

async fn ask(router: &Router, body: impl Into<Body>) -> Got {
    let request = Request::post("/api/v1/sql").header(header::HOST, "127.0.0.1:8080");
    send(router, request.body(body.into()).unwrap()).await
}

async fn city() -> City {
    let city = City::new().await;
    city.commit("parking", vec![parking("lamia", "p1", 2..7), parking("volos", "p1", 2..4)], 1).await;
    city.commit("fleet", vec![fleet("lamia", "bus-1", 0..10), fleet("lamia", "bus-2", 20..30)], 1).await;
    city.commit("dead_letters", vec![dead_letter(Some("lamia"), 1)], 1).await;
    city.tail_holds(1, vec![(parking("lamia", "p1", 0..2), vec![2, 3])]);
    city
}

#[tokio::test]
async fn sql_is_answered_in_each_form() {
    let city = city().await;
    let router = router(&city);
    let got = ask(
        &router,
        r#"{"sql": "SELECT tenant, count(*) AS n FROM parking GROUP BY tenant ORDER BY tenant"}"#,
    )
    .await;
    assert_eq!((got.status, got.media_type.as_str()), (StatusCode::OK, "application/json"));
    let columns = json!([{ "name": "tenant", "type": "text" }, { "name": "n", "type": "bigint" }]);
    assert_eq!(got.json(), json!({ "columns": columns, "rows": [["lamia", 7], ["volos", 2]] }));
    let path = "/api/v1/sql?q=SELECT%20*%20FROM%20parking";
    assert_eq!(get(&router, path, "application/x-ndjson").await.text().lines().count(), 9);
    let csv = get(&router, path, "text/csv").await;
    assert!(csv.text().starts_with("tenant,device,time,received_at,"), "{}", csv.text());
    assert_eq!(csv.text().lines().count(), 10);
    assert_eq!(&get(&router, path, "application/vnd.apache.parquet").await.body[..4], b"PAR1");
    let arrow = get(&router, path, "application/vnd.apache.arrow.stream").await;
    assert_eq!(arrow.media_type, "application/vnd.apache.arrow.stream");
    let browser = get(&router, path, "text/html,application/xhtml+xml,*/*;q=0.8").await;
    assert_eq!(browser.media_type, "application/json");
    let lake = get(&router, &format!("{path}&tail=off"), "application/x-ndjson").await;
    assert_eq!(lake.text().lines().count(), 7);
    assert_eq!(get(&router, path, "image/png").await.status, StatusCode::NOT_ACCEPTABLE);
    let empty = get(&router, "/api/v1/sql?q=SELECT%20*%20FROM%20energy", "text/csv").await;
    assert_eq!(empty.text().lines().count(), 1);
}

#[tokio::test]
async fn what_cannot_be_answered_is_a_problem_with_a_stable_type() {
    let city = city().await;
    let router = router(&city);
    let long = format!(r#"{{"sql": "SELECT '{}'"}}"#, "x".repeat(10_000_000));
    for (got, status, name) in [
        (ask(&router, r#"{"sql": "SELECT nothing FROM parking"}"#).await, 400, "sql"),
        (ask(&router, r#"{"sql": "DROP TABLE parking"}"#).await, 403, "read-only"),
        (ask(&router, r#"{"sql": "SELECT * FROM '/etc/passwd'"}"#).await, 400, "sql"),
        (ask(&router, "SELECT 1").await, 400, "parameter"),
        (ask(&router, long).await, 413, "too-large"),
        (get(&router, "/api/v1/sql?q=SELECT%201&version=3", "*/*").await, 400, "parameter"),
        (get(&router, "/api/v1/nonsense/latest", "*/*").await, 404, "not-found"),
        (get(&router, "/nothing", "*/*").await, 404, "not-found"),
        (get(&router, "/readyz", "*/*").await, 503, "not-ready"),
        (get(&router, "/api/v1/parking/latest?bbox=1,2,3,4", "*/*").await, 400, "parameter"),
        (get(&router, "/api/v1/parking/latest", "application/geo+json").await, 406, "not-acceptable"),
        (get(&router, "/api/v1/parking/readings?every=5x", "*/*").await, 400, "parameter"),
        (get(&router, "/api/v1/parking/readings?agg=avg", "*/*").await, 400, "parameter"),
        (get(&router, "/api/v1/parking/readings?limit=100001", "*/*").await, 400, "parameter"),
        (get(&router, "/api/v1/parking/readings?tenant=a'b", "*/*").await, 400, "parameter"),
        (get(&router, "/api/v1/parking/readings?cursor=x", "*/*").await, 400, "parameter"),
    ] {
        assert_eq!(got.media_type, "application/problem+json", "{}", got.text());
        assert_eq!(got.json()["status"], status, "{}", got.text());
        assert_eq!(got.status.as_u16(), status);
        assert_eq!(got.json()["type"], format!("https://zeugma.city/problems/{name}"), "{}", got.text());
        assert!(got.json()["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{}", got.text());
    }
    let delete =
        Request::delete("/api/v1/sql").header(header::HOST, "localhost").body(Body::empty()).unwrap();
    let got = send(&router, delete).await;
    assert_eq!(
        (got.status, got.media_type.as_str()),
        (StatusCode::METHOD_NOT_ALLOWED, "application/problem+json")
    );
    let mistake = ask(&router, r#"{"sql": "SELECT nothing FROM parking"}"#).await.json();
    assert_eq!((&mistake["line"], &mistake["column"]), (&json!(1), &json!(8)));
}

#[tokio::test]
async fn only_names_of_this_machine_are_answered() {
    let city = city().await;
    let router = router(&city);
    for (host, status) in [
        ("localhost", 200),
        ("LOCALHOST:80", 200),
        ("127.0.0.1:8080", 200),
        ("[::1]:8080", 200),
        ("evil.example", 421),
        ("localhost.evil.example:8080", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
    ] {
        let request = Request::get("/healthz").header(header::HOST, host).body(Body::empty()).unwrap();
        assert_eq!(send(&router, request).await.status.as_u16(), status, "{host}");
    }
}

#[tokio::test]
async fn domains_say_what_there_is() {
    let city = city().await;
    let router = router(&city);
    let all = get(&router, "/api/v1/domains", "*/*").await.json();
    let names: Vec<&str> =
        all["domains"].as_array().unwrap().iter().map(|d| d["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["connectivity", "device_health", "energy", "fleet", "parking"]);
    let parking = get(&router, "/api/v1/domains/parking", "*/*").await.json();
    assert_eq!(parking["tenants"], json!(["lamia", "volos"]));
    assert_eq!(parking["rows"], 9);
    assert_eq!(parking["to"], "2026-09-21T14:13:20Z");
    assert_eq!(parking["from"], "2026-09-21T14:07:20Z");
    let column =
        parking["columns"].as_array().unwrap().iter().find(|c| c["name"] == "occupied_spaces").unwrap();
    assert_eq!(
        (&column["type"], &column["required"], &column["counter"]),
        (&json!("integer"), &json!(true), &json!(false))
    );
    assert_eq!(get(&router, "/api/v1/domains/energy", "*/*").await.json()["from"], Value::Null);
}

#[tokio::test]
async fn latest_is_the_newest_reading_of_each_device() {
    let city = city().await;
    let router = router(&city);
    let got = get(&router, "/api/v1/parking/latest", "*/*").await.json();
    let names: Vec<&Value> =
        got["columns"].as_array().unwrap().iter().map(|column| &column["name"]).collect();
    assert_eq!(names[..3], ["tenant", "device", "time"]);
    assert!(!names.contains(&&json!("date")));
    let rows = got["rows"].as_array().unwrap();
    let newest: Vec<(&Value, &Value)> = rows.iter().map(|row| (&row[0], &row[2])).collect();
    let (lamia, volos) = (json!("2026-09-21T14:13:20Z"), json!("2026-09-21T14:11:20Z"));
    assert_eq!(newest, [(&json!("lamia"), &lamia), (&json!("volos"), &volos)]);
    let one = get(&router, "/api/v1/parking/latest?tenant=volos", "*/*").await.json();
    assert_eq!(one["rows"].as_array().unwrap().len(), 1);
    let places = get(&router, "/api/v1/fleet/latest", "application/geo+json").await;
    assert_eq!(places.media_type, "application/geo+json");
    let places = places.json();
    assert_eq!(places["features"].as_array().unwrap().len(), 2);
    assert_eq!(places["features"][1]["geometry"], json!({ "type": "Point", "coordinates": [22.2, 38.5] }));
    assert_eq!(places["features"][1]["properties"]["device"], "bus-2");
    let boxed = get(&router, "/api/v1/fleet/latest?bbox=22.1,38,22.3,39", "*/*").await.json();
    assert_eq!(boxed["rows"].as_array().unwrap().len(), 1);
    assert_eq!(boxed["rows"][0][1], "bus-2");
}

#[tokio::test]
async fn readings_come_page_by_page_without_gap_or_repeat() {
    let city = city().await;
    let router = router(&city);
    let (mut cursor, mut seen, mut pages) = (String::new(), Vec::new(), 0);
    loop {
        let got = get(&router, &format!("/api/v1/parking/readings?limit=4{cursor}"), "*/*").await;
        let page = got.json();
        pages += 1;
        seen.extend(page["rows"].as_array().unwrap().iter().map(|row| row.as_array().unwrap()[..3].to_vec()));
        assert_eq!(page["next"].as_str(), got.next.as_deref());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!((pages, seen.len()), (3, 9));
    let mut sorted: Vec<String> = seen.iter().map(|row| json!(row).to_string()).collect();
    let as_seen = sorted.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!(sorted, as_seen);
    let path = "/api/v1/parking/readings?tenant=lamia&device=p1&from=2026-09-21T14:10:20Z&to=2026-09-21T17:12:20%2B03:00";
    let between = get(&router, path, "*/*").await.json();
    assert_eq!(between["rows"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn buckets_gather_each_devices_numbers() {
    let city = city().await;
    let router = router(&city);
    let path = "/api/v1/parking/readings?tenant=lamia&every=5m&agg=min,max,count";
    let got = get(&router, path, "*/*").await.json();
    let names: Vec<&str> =
        got["columns"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(
        names[..6],
        ["tenant", "device", "time", "occupied_spaces_min", "occupied_spaces_max", "occupied_spaces_count"]
    );
    // 14:13:20 back to 14:07:20: three readings before 14:10, four after.
    assert_eq!(
        got["rows"][0].as_array().unwrap()[2..6],
        [json!("2026-09-21T14:05:00Z"), json!(4), json!(6), json!(3)]
    );
    assert_eq!(
        got["rows"][1].as_array().unwrap()[2..6],
        [json!("2026-09-21T14:10:00Z"), json!(0), json!(3), json!(4)]
    );
    let first = get(&router, &format!("{path}&limit=1"), "*/*").await.json();
    let next = first["next"].as_str().unwrap();
    let second = get(&router, &format!("{path}&limit=1&cursor={next}"), "*/*").await.json();
    assert_eq!((&second["rows"][0], &second["next"]), (&got["rows"][1], &Value::Null));
}

#[tokio::test]
async fn tail_of_another_process_is_joined_over_http() {
    let city = city().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let served = tokio::spawn(crate::serve(listener, components(&city), stop.clone()));
    let tail = RemoteTail::new(&format!("http://{address}")).unwrap();
    let view = tail.view("parking").await.unwrap();
    assert_eq!((view.source.as_str(), view.released_through), ("source-a", 1));
    assert_eq!((view.batches[0].rows.num_rows(), view.batches[0].positions.to_vec()), (2, vec![2, 3]));
    let query = Query::new(city.lake.clone(), Some(Arc::new(tail)), crate::Config::default()).unwrap();
    assert_eq!(number(&query, &Grant::All, "SELECT count(*) FROM parking").await, 9);
    assert_eq!(number(&query, &Grant::All, "SELECT count(*) FROM energy").await, 0);
    assert_eq!(number(&query, &Grant::tenants(["volos"]), "SELECT count(*) FROM parking").await, 2);
    stop.cancel();
    served.await.unwrap().unwrap();
    let error = query.sql(&Grant::All, "SELECT 1 FROM parking").await.unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Unavailable, "{error:?}");
    let lake = query
        .ask(&Grant::All, crate::Rows::Lake, "SELECT 1 FROM parking")
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    assert_eq!(lake.iter().map(|rows| rows.num_rows()).sum::<usize>(), 7);
}

#[tokio::test]
async fn page_asks_nobody_else() {
    let city = city().await;
    let router = router(&city);
    for path in ["/", "/app.js", "/app.css"] {
        let got = get(&router, path, "*/*").await;
        assert_eq!(got.status, StatusCode::OK);
        let text = got.text();
        assert!(text.len() > 500, "{path} is empty");
        for outside in
            ["http://", "https://", "\"//", "'//", "url(", "@import", "innerHTML", "eval(", "onclick="]
        {
            assert!(!text.contains(outside), "{path} has `{outside}`");
        }
    }
    let request = Request::get("/").header(header::HOST, "localhost").body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    assert_eq!(response.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    assert_eq!(get(&router, "/metrics", "*/*").await.text(), "zeugma_up 1\n");
}
