//! The real firmware on an emulated board: what it took arrives once, whatever happens to server, link and power.
//!
//! Each scenario is played twice: at our own door, and with mosquitto before us.

use std::{net::SocketAddr, time::Duration};

use zeugma_tests::{
    City, Program, Wire,
    ask::Asker,
    board::{Board, Cover, Place, Running, field, flash_bytes, image, position, telegram},
    peers::{self, Mosquitto},
    program,
};

use super::with_peers::ready;

const ID: (&str, &str) = ("lamia", "meter-1");

/// Device `ID` reports to `broker` ten times a second.
fn place(broker: SocketAddr) -> Place<'static> {
    Place { id: ID, broker, key: None, every: Duration::from_millis(100) }
}

/// A minute is long for readings that are a tenth of a second apart.
const PATIENCE: Duration = Duration::from_secs(90);

/// Whom boards report to.
#[derive(Debug, Clone, Copy)]
enum Front {
    Door,
    Mosquitto,
}

/// A city, and what is before it.
struct Site {
    city: City,
    broker: Option<Mosquitto>,
}

impl Site {
    async fn behind(front: Front) -> Site {
        match front {
            Front::Door => Site { city: City::start().await, broker: None },
            Front::Mosquitto => Site::of(Mosquitto::start()).await,
        }
    }

    async fn of(broker: Mosquitto) -> Site {
        let city = City::with(|args| args.ingest.broker = Some(broker.url())).await;
        ready(&city).await;
        Site { city, broker: Some(broker) }
    }

    /// Where a board connects.
    fn mqtt(&self) -> SocketAddr {
        self.broker.as_ref().map_or_else(|| self.city.mqtt(), Mosquitto::addr)
    }

    /// Each series is there without gap and without repetition, and together they have so many readings.
    async fn assert_once(&self, total: u64) {
        self.city.until(TOTAL, total).await;
        assert_once(&self.city.sql(ONCE).await, total);
    }
}

fn meter(broker: SocketAddr) -> Board {
    Board::new("meter", place(broker), telegram)
}

/// It ends well; answers what it said.
fn ends_well(mut board: Running) -> String {
    let status = tokio::task::block_in_place(|| board.end(PATIENCE));
    assert!(status.success(), "{status}: {}", board.log());
    board.log()
}

/// The number behind a text of a board's log.
fn number(log: &str, before: &str) -> u64 {
    let rest = &log[log.find(before).expect(before) + before.len()..];
    rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).expect("a number")
}

/// Flash, and of RAM statics and the most stack ever used, are within the ceilings.
fn assert_ceilings(application: &str, cover: Cover, log: &str) {
    let (flash_kib_max, ram_kib_max) = match cover {
        Cover::None => (110, 32),
        Cover::Tls => (180, 56),
    };
    let flash = flash_bytes(&image(application, cover));
    let (statics, stack) = (number(log, " ms: "), number(log, "statics, "));
    println!("{application}, {cover:?}: {flash} bytes of flash, {} of RAM; {}", statics + stack, log.trim());
    assert!(flash <= flash_kib_max * 1024, "{flash} bytes of flash");
    assert!(statics + stack <= ram_kib_max * 1024, "{statics} + {stack} bytes of RAM");
}

const TOTAL: &str = "SELECT (SELECT count(*) FROM energy) + (SELECT count(*) FROM device_health)";

/// Each series is there without gap and without repetition: so many readings, numbered from 0.
const ONCE: &str = "SELECT domain, count(*), count(DISTINCT seq), min(seq), max(seq) FROM \
     (SELECT 'energy' AS domain, seq FROM energy UNION ALL SELECT 'health', seq FROM device_health) \
     GROUP BY domain ORDER BY domain";

fn assert_once(rows: &[Vec<serde_json::Value>], total: u64) {
    let number = |value: &serde_json::Value| value.as_u64().expect("a number");
    let mut sum = 0;
    for row in rows {
        let (count, distinct, first, last) =
            (number(&row[1]), number(&row[2]), number(&row[3]), number(&row[4]));
        assert_eq!((count, first, last + 1), (distinct, 0, count), "{rows:?}");
        sum += count;
    }
    assert_eq!(sum, total, "{rows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_readings_of_a_board_arrive_once_and_within_its_ceilings() {
    fifty_readings_arrive_once(Front::Door).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_readings_of_a_board_behind_mosquitto_arrive_once() {
    fifty_readings_arrive_once(Front::Mosquitto).await;
}

async fn fifty_readings_arrive_once(front: Front) {
    let site = Site::behind(front).await;
    let board = meter(site.mqtt());
    let log = ends_well(board.start(50));
    site.assert_once(50).await;
    let wrong = "SELECT count(*) FROM energy WHERE voltage_l2_v <> 231.1 OR energy_export_wh <> 3000 \
                 OR energy_import_wh < 1200000 OR active_power_w <> 500 OR abs(EXTRACT(EPOCH FROM received_at - time)) > 5";
    assert_eq!(site.city.value(wrong).await, 0);
    assert_ceilings("meter", Cover::None, &log);
    assert!(number(&log, "first acknowledgement after ") <= 300, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn board_keeps_its_readings_while_ingest_is_killed_five_times() {
    ingest_is_killed_five_times(None);
}

#[tokio::test(flavor = "multi_thread")]
async fn board_behind_mosquitto_loses_nothing_while_ingest_is_killed_five_times() {
    ingest_is_killed_five_times(Some(Mosquitto::start()));
}

fn ingest_is_killed_five_times(broker: Option<Mosquitto>) {
    tokio::task::block_in_place(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let (mqtt, http) = (program::free_port(), program::free_port());
        let (data, mqtt_text, http_text) =
            (folder.path().display().to_string(), mqtt.to_string(), http.to_string());
        let url = broker.as_ref().map(Mosquitto::url);
        let mut args = vec!["up", "--data", &data, "--mqtt", &mqtt_text, "--http", &http_text];
        args.extend(url.iter().flat_map(|url| ["--broker", url]));
        let mut server = Program::start(&args, http);
        let asker = Asker::new(http);
        let is_ready = |asker: &Asker| asker.get("/readyz").map(|_| true);
        asker.until("the broker", PATIENCE, is_ready).expect("a server with its broker");
        let board = meter(broker.as_ref().map_or(mqtt, Mosquitto::addr));
        let running = board.start(120);
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(1_500));
            server.kill();
            server = Program::start(&args, http);
        }
        ends_well(running);
        let has_all = |asker: &Asker| Ok(asker.number(TOTAL)? == 120);
        asker.until("all readings", PATIENCE, has_all).expect("all readings");
        assert_once(&asker.sql(ONCE).expect("an answer"), 120);
        drop(server);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn board_lives_through_cut_and_frozen_links() {
    links_are_cut_and_frozen(Front::Door).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn board_behind_mosquitto_lives_through_cut_and_frozen_links() {
    links_are_cut_and_frozen(Front::Mosquitto).await;
}

async fn links_are_cut_and_frozen(front: Front) {
    let site = Site::behind(front).await;
    let wire = Wire::to(site.mqtt()).await;
    let board = meter(wire.addr());
    let running = board.start(100);
    cut_and_freeze(&wire).await;
    ends_well(running);
    site.assert_once(100).await;
}

async fn cut_and_freeze(wire: &Wire) {
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        wire.cut();
        tokio::time::sleep(Duration::from_millis(500)).await;
        wire.mend();
        tokio::time::sleep(Duration::from_secs(1)).await;
        wire.freeze();
        tokio::time::sleep(Duration::from_millis(500)).await;
        wire.cut();
        wire.mend();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readings_that_a_board_stored_offline_outlive_a_power_cut() {
    power_is_cut_while_offline(Front::Door).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readings_that_a_board_stored_while_mosquitto_was_away_outlive_a_power_cut() {
    power_is_cut_while_offline(Front::Mosquitto).await;
}

async fn power_is_cut_while_offline(front: Front) {
    let site = Site::behind(front).await;
    let wire = Wire::to(site.mqtt()).await;
    let board = meter(wire.addr());
    let running = board.start(u64::from(u32::MAX));
    site.city.until("SELECT count(*) > 0 FROM energy", true).await;
    wire.cut();
    // Ten readings a second, and fewer where the emulator has to share its processor.
    tokio::time::sleep(Duration::from_secs(30)).await;
    running.cut_power();
    wire.mend();
    let log = ends_well(board.start(10));
    let kept = number(&log, ", start 2, ");
    assert!(kept >= 200, "{log}");
    // How many had arrived before the cut, nobody knows. What mosquitto has taken is on its way to us.
    site.city.until(&format!("SELECT ({TOTAL}) >= {}", kept + 10), true).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let total = site.city.value(TOTAL).await.as_u64().expect("a number");
    site.assert_once(total).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn board_with_damaged_settings_says_so_and_goes_on_by_the_last_good_ones() {
    let city = City::start().await;
    let board = meter(city.mqtt());
    board.provision(Place { id: ("lamia", "meter-2"), ..place(city.mqtt()) });
    let mut bytes = std::fs::read(board.flash()).expect("a flash");
    bytes[4096 + 30] ^= 0x10;
    std::fs::write(board.flash(), bytes).expect("a flash");
    let log = ends_well(board.start(3));
    assert!(log.contains("new settings are not used: the settings are damaged"), "{log}");
    assert_eq!(city.value("SELECT count(*) FROM energy WHERE device = 'meter-1'").await, 2);
}

const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const OTHER_KEY: &str = "ffeeddccbbaa99887766554433221100";

/// `ID` with a key.
fn sealed(broker: SocketAddr, key: &'static str) -> Place<'static> {
    Place { key: Some(("lamia.meter-1", key)), ..place(broker) }
}

#[tokio::test(flavor = "multi_thread")]
async fn board_under_tls_lives_through_cut_and_frozen_links_within_its_ceilings() {
    let (broker, tls) = Mosquitto::with_keys(&[("lamia.meter-1", KEY, "city/v1/lamia/+/meter-1")]);
    let site = Site::of(broker).await;
    let wire = Wire::to(tls).await;
    let board = Board::new("meter", sealed(wire.addr(), KEY), telegram);
    let running = board.start(100);
    cut_and_freeze(&wire).await;
    let log = ends_well(running);
    site.assert_once(100).await;
    assert_ceilings("meter", Cover::Tls, &log);
    assert!(number(&log, "first acknowledgement after ") <= 300, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn board_tells_nothing_to_a_broker_that_does_not_hold_its_key() {
    const SAYS: &str = "the broker and this device do not hold the same key";
    let (broker, tls) = Mosquitto::with_keys(&[("lamia.meter-1", KEY, "city/v1/lamia/+/meter-1")]);
    let folder = tempfile::tempdir().expect("a folder");
    let (certificate, key) = peers::certificate(folder.path());
    let only_certificate = Mosquitto::with(&format!(
        "certfile {}\nkeyfile {}\ntls_version tlsv1.3\n",
        certificate.display(),
        key.display()
    ));
    let site = Site::of(broker).await;
    let board = Board::new("meter", sealed(tls, OTHER_KEY), telegram);
    for deceiver in [sealed(tls, OTHER_KEY), sealed(only_certificate.addr(), KEY)] {
        board.provision(deceiver);
        let running = board.start(u64::from(u32::MAX));
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !running.log().contains(SAYS) {
            assert!(tokio::time::Instant::now() < deadline, "{}", running.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        running.cut_power();
    }
    assert_eq!(site.city.value(TOTAL).await, 0);
    board.provision(sealed(tls, KEY));
    let log = ends_well(board.start(5));
    let kept = number(&log, ", start 3, ");
    assert!(kept > 0, "what was taken meanwhile is kept: {log}");
    site.assert_once(kept + 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn board_does_not_send_openly_what_was_meant_to_be_sealed() {
    let nobody = program::free_port();
    let open = meter(nobody);
    open.provision(sealed(nobody, KEY));
    let closed = Board::new("meter", sealed(nobody, KEY), telegram);
    closed.provision(place(nobody));
    for (board, says) in [(open, "this program no TLS"), (closed, "this program speaks TLS")] {
        let mut running = board.start(1);
        let status = tokio::task::block_in_place(|| running.end(PATIENCE));
        assert_eq!(status.code(), Some(4));
        assert!(running.log().contains(says), "{}", running.log());
    }
}

/// How many boards run at once: `ZEUGMA_BOARDS`, in continuous integration one of each kind.
fn boards() -> usize {
    std::env::var("ZEUGMA_BOARDS").ok().and_then(|count| count.parse().ok()).unwrap_or(3)
}

/// A board's kind: its application, what it hears, and its table.
type Kind = (&'static str, fn(u64) -> Vec<u8>, &'static str);

const KINDS: [Kind; 3] =
    [("meter", telegram, "energy"), ("bay", field, "parking"), ("tracker", position, "fleet")];

#[tokio::test(flavor = "multi_thread")]
async fn boards_of_three_kinds_report_at_once() {
    three_kinds_report_at_once(&Site::behind(Front::Door).await, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn boards_of_three_kinds_report_through_mosquitto_at_once() {
    three_kinds_report_at_once(&Site::behind(Front::Mosquitto).await, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn boards_of_three_kinds_report_under_tls_at_once() {
    let (broker, tls) = Mosquitto::with_keys(&[("boards", KEY, "city/v1/lamia/#")]);
    let sealed = Place { key: Some(("boards", KEY)), ..place(tls) };
    three_kinds_report_at_once(&Site::of(broker).await, Some(sealed)).await;
}

/// At the site, or where a place under TLS says.
async fn three_kinds_report_at_once(site: &Site, sealed: Option<Place<'_>>) {
    const READINGS: u64 = 40;
    let cover = if sealed.is_some() { Cover::Tls } else { Cover::None };
    let place = sealed.unwrap_or_else(|| place(site.mqtt()));
    let mut running = Vec::new();
    for number in 0..boards() {
        let (application, feed, _) = KINDS[number % KINDS.len()];
        let device = format!("{application}-{number}");
        let board = Board::new(application, Place { id: ("lamia", &device), ..place }, feed);
        running.push((board.start(READINGS), board));
    }
    let logs: Vec<String> = running.into_iter().map(|(running, _board)| ends_well(running)).collect();
    let city = &site.city;
    for (number, log) in logs.iter().enumerate() {
        let (application, _, table) = KINDS[number % KINDS.len()];
        assert_ceilings(application, cover, log);
        let of_device = format!(
            "(SELECT device, 'sensor' AS domain, seq FROM {table} UNION ALL SELECT device, 'health', seq FROM device_health) \
             WHERE device = '{application}-{number}'"
        );
        city.until(&format!("SELECT count(*) FROM {of_device}"), READINGS).await;
        let once = format!(
            "SELECT domain, count(*), count(DISTINCT seq), min(seq), max(seq) FROM {of_device} GROUP BY domain"
        );
        assert_once(&city.sql(&once).await, READINGS);
    }
    let moved =
        "SELECT max(latitude) > min(latitude) AND min(speed_kmh) > 35 AND max(odometer_m) > 10 FROM fleet";
    assert_eq!(city.value(moved).await, true);
    assert_eq!(city.value("SELECT count(*) FROM parking WHERE occupied_spaces <> 0").await, 0);
}
