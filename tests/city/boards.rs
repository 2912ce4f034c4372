//! The real firmware on an emulated board: what it took arrives once, whatever happens to server, link and power.

use std::{net::SocketAddr, time::Duration};

use zeugma_tests::{
    City, Program, Wire,
    ask::Asker,
    board::{Board, Running, field, flash_bytes, image, position, telegram},
    peers, program,
};

use super::with_peers::ready;

const EVERY: Duration = Duration::from_millis(100);
const ID: (&str, &str) = ("lamia", "meter-1");

/// A minute is long for readings that are a tenth of a second apart.
const PATIENCE: Duration = Duration::from_secs(90);

fn meter(broker: SocketAddr) -> Board {
    Board::new("meter", ID, broker, EVERY, telegram)
}

/// It ends well, and what it says of its memory is within the ceilings.
fn ends_well(mut board: Running) {
    let status = board.end(PATIENCE);
    assert!(status.success(), "{status}: {}", board.log());
}

/// The number behind a text of a board's log.
fn number(log: &str, before: &str) -> u64 {
    let rest = &log[log.find(before).expect(before) + before.len()..];
    rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).expect("a number")
}

/// Statics and the most stack ever used are within the ceiling.
fn assert_ram(log: &str) {
    let (statics, stack) = (number(log, " ms: "), number(log, "statics, "));
    assert!(statics + stack <= 32 * 1024, "{statics} + {stack} bytes of RAM");
}

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
    let city = City::start().await;
    let board = meter(city.mqtt());
    let mut running = board.start(50);
    let status = tokio::task::block_in_place(|| running.end(PATIENCE));
    let log = running.log();
    assert!(status.success(), "{status}: {log}");
    assert_once(&city.sql(ONCE).await, 50);
    let wrong = "SELECT count(*) FROM energy WHERE voltage_l2_v <> 231.1 OR energy_export_wh <> 3000 \
                 OR energy_import_wh < 1200000 OR active_power_w <> 500 OR abs(EXTRACT(EPOCH FROM received_at - time)) > 5";
    assert_eq!(city.value(wrong).await, 0);
    let flash = flash_bytes(&image("meter"));
    println!("flash {flash} bytes; {}", log.trim());
    assert!(flash <= 110 * 1024, "{flash} bytes of flash");
    assert_ram(&log);
    assert!(number(&log, "first acknowledgement after ") <= 300, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn board_keeps_its_readings_while_ingest_is_killed_five_times() {
    tokio::task::block_in_place(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let (mqtt, http) = (program::free_port(), program::free_port());
        let (data, mqtt_text, http_text) =
            (folder.path().display().to_string(), mqtt.to_string(), http.to_string());
        let args = ["up", "--data", &data, "--mqtt", &mqtt_text, "--http", &http_text];
        let mut server = Program::start(&args, http);
        let board = meter(mqtt);
        let running = board.start(120);
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(1_500));
            server.kill();
            server = Program::start(&args, http);
        }
        ends_well(running);
        assert_once(&Asker::new(http).sql(ONCE).expect("an answer"), 120);
        drop(server);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn board_behind_mosquitto_lives_through_cut_and_frozen_links() {
    let broker = peers::Mosquitto::start();
    let city = City::with(|args| args.ingest.broker = Some(broker.url())).await;
    ready(&city).await;
    let wire = Wire::to(broker.addr()).await;
    let board = meter(wire.addr());
    let running = board.start(100);
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
    tokio::task::block_in_place(|| ends_well(running));
    city.until("SELECT (SELECT count(*) FROM energy) + (SELECT count(*) FROM device_health)", 100).await;
    assert_once(&city.sql(ONCE).await, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn readings_that_a_board_stored_offline_outlive_a_power_cut() {
    let mut city = City::start().await;
    let board = meter(city.mqtt());
    // The time once, then nobody answers.
    let running = board.start(u64::from(u32::MAX));
    city.until("SELECT count(*) > 0 FROM energy", true).await;
    city.stop().await;
    tokio::time::sleep(Duration::from_secs(21)).await;
    running.cut_power();
    city.restart().await;
    // The flash remembers where the broker was.
    board.provision(ID.0, ID.1, city.mqtt(), EVERY);
    let running = board.start(10);
    let log = tokio::task::block_in_place(|| {
        let mut running = running;
        let status = running.end(PATIENCE);
        assert!(status.success(), "{status}: {}", running.log());
        running.log()
    });
    let kept = log.split(", start 2, ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
    assert!(kept.is_some_and(|kept| kept >= 200), "{log}");
    let rows = city.sql(ONCE).await;
    let total = rows.iter().map(|row| row[1].as_u64().expect("a number")).sum();
    assert_once(&rows, total);
    assert!(total >= 210, "{rows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn board_with_damaged_settings_says_so_and_goes_on_by_the_last_good_ones() {
    let city = City::start().await;
    let board = meter(city.mqtt());
    board.provision("lamia", "meter-2", city.mqtt(), EVERY);
    let mut bytes = std::fs::read(board.flash()).expect("a flash");
    bytes[4096 + 30] ^= 0x10;
    std::fs::write(board.flash(), bytes).expect("a flash");
    let mut running = board.start(3);
    let status = tokio::task::block_in_place(|| running.end(PATIENCE));
    assert!(status.success(), "{status}: {}", running.log());
    assert!(
        running.log().contains("new settings are not used: the settings are damaged"),
        "{}",
        running.log()
    );
    assert_eq!(city.value("SELECT count(*) FROM energy WHERE device = 'meter-1'").await, 2);
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
    const READINGS: u64 = 40;
    let city = City::start().await;
    let mut running = Vec::new();
    for number in 0..boards() {
        let (application, feed, _) = KINDS[number % KINDS.len()];
        let device = format!("{application}-{number}");
        let board = Board::new(application, ("lamia", &device), city.mqtt(), EVERY, feed);
        running.push((board.start(READINGS), board));
    }
    let logs: Vec<String> = tokio::task::block_in_place(|| {
        let ends = running.into_iter().map(|(mut running, _board)| {
            let status = running.end(2 * PATIENCE);
            assert!(status.success(), "{status}: {}", running.log());
            running.log()
        });
        ends.collect()
    });
    for (number, log) in logs.iter().enumerate() {
        let (application, _, table) = KINDS[number % KINDS.len()];
        println!("{}", log.trim());
        assert_ram(log);
        let once = format!(
            "SELECT domain, count(*), count(DISTINCT seq), min(seq), max(seq) FROM \
             (SELECT device, 'sensor' AS domain, seq FROM {table} UNION ALL SELECT device, 'health', seq FROM device_health) \
             WHERE device = '{application}-{number}' GROUP BY domain"
        );
        assert_once(&city.sql(&once).await, READINGS);
    }
    let moved =
        "SELECT max(latitude) > min(latitude) AND min(speed_kmh) > 35 AND max(odometer_m) > 10 FROM fleet";
    assert_eq!(city.value(moved).await, true);
    assert_eq!(city.value("SELECT count(*) FROM parking WHERE occupied_spaces <> 0").await, 0);
}
