//! `zeugma journal inspect`: beside a running program, on a torn end, and on a damaged folder.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use zeugma_journal::{Batch, Journal, Payload, Record};
use zeugma_tests::{City, program};

const BUS: &str = "city/v1/lamia/fleet/bus-1";
const GOOD: &str = r#"{"time":"2026-01-01T00:00:00Z","latitude":1,"longitude":2}"#;

/// Exit code, standard output, and the last line of standard error.
fn inspect(data: &Path, flags: &[&str]) -> (Option<i32>, String, String) {
    let data = data.display().to_string();
    let output = program::run(&[&["journal", "inspect", "--data", &data], flags].concat());
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = stderr.lines().last().unwrap_or_default().to_owned();
    (output.status.code(), String::from_utf8(output.stdout).unwrap(), line)
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A data folder with three blocks of one record in its journal; answers the one segment's file.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let data = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(&data.path().join("journal")).unwrap();
    let cut = Payload::Cut { kept: b"\xc3\x01", bytes: 300_000, sha256: [7; 32] };
    let payloads = [Payload::Whole(GOOD.as_bytes()), Payload::Whole(b"\x1b[31m"), cut];
    for (index, payload) in payloads.into_iter().enumerate() {
        let topic = if index == 1 { "else\x07where" } else { BUS };
        let tenant = (index == 0).then_some("lamia");
        let mut batch = Batch::default();
        batch.push(&Record { tenant, topic, received_at_us: index as i64 * 1_000_000, payload });
        journal.append(&batch).unwrap();
    }
    let file = data.path().join("journal/00000000000000000001.journal");
    (data, file)
}

#[tokio::test(flavor = "multi_thread")]
async fn journal_of_a_running_city_is_shown_and_left_alone() {
    let city = City::start().await;
    city.publish(BUS, GOOD).await;
    city.publish("city/v1/volos/tides/t-1", "whatever").await;
    let data = city.folder().join("data");
    let (code, text, problem) = inspect(&data, &[]);
    assert_eq!(code, Some(0), "{problem}");
    assert!(text.contains("positions  1 to 2, the next is 3") && text.contains("tides"), "{text}");
    let (_, text, _) = inspect(&data, &["--json", "--records"]);
    let found = lines(&text);
    assert_eq!((&found[0]["topic"], &found[0]["payload"]), (&json!(BUS), &json!(GOOD)));
    assert_eq!(found[1]["payload_hex"], json!("7768617465766572"));
    let source = fs::read_to_string(data.join("source")).unwrap();
    assert_eq!((&found[2]["source"], &found[2]["records"]), (&json!(source), &json!(2)));
    let counts = json!([
        { "tenant": "lamia", "domain": "fleet", "records": 1 },
        { "tenant": "volos", "domain": "tides", "records": 1 },
    ]);
    assert_eq!(found[2]["counts"], counts);
    assert_eq!((&found[2]["torn"], &found[2]["damages"]), (&Value::Null, &json!([])));
    city.publish(BUS, GOOD).await;
}

#[test]
fn records_are_lines_without_anything_that_speaks_to_the_terminal() {
    let (data, _) = folder();
    let (code, text, _) = inspect(data.path(), &["--records"]);
    let wanted = [
        &format!("1 1970-01-01T00:00:00Z lamia {BUS} {} {GOOD}", GOOD.len()),
        "2 1970-01-01T00:00:01Z - else\u{fffd}where 5 1b5b33316d",
        &format!("3 1970-01-01T00:00:02Z - {BUS} 300000 c301"),
    ];
    assert_eq!((code, text.lines().take(3).collect::<Vec<_>>()), (Some(0), wanted.to_vec()));
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text}");
}

#[test]
fn torn_end_is_told_and_is_no_failure() {
    let (data, file) = folder();
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 3]).unwrap();
    let (code, text, _) = inspect(data.path(), &["--json"]);
    let found = &lines(&text)[0];
    assert_eq!((code, &found["records"], &found["next"]), (Some(0), &json!(2), &json!(3)));
    assert_eq!(found["torn"]["problem"], json!("a block is cut off"));
    assert_eq!(fs::read(&file).unwrap().len(), bytes.len() - 3, "nothing is cut by looking");
    assert!(inspect(data.path(), &[]).1.contains("torn end"));
}

#[test]
fn damage_is_told_with_file_and_byte_and_ends_with_1() {
    let (data, file) = folder();
    let mut bytes = fs::read(&file).unwrap();
    bytes[40 + 40] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let (code, text, problem) = inspect(data.path(), &[]);
    assert_eq!(code, Some(1));
    assert!(
        text.contains(&format!("{} at byte 40: a block's checksum does not fit", file.display())),
        "{text}"
    );
    assert!(problem.starts_with("zeugma: the journal is damaged in 1 place"), "{problem}");
    let (_, text, _) = inspect(data.path(), &["--json", "--records"]);
    let found = lines(&text);
    let positions: Vec<_> = found.iter().map(|line| &line["position"]).collect();
    assert_eq!(positions, [&json!(2), &json!(3), &Value::Null], "what stands behind the damage is shown");
    assert_eq!(found[2]["damages"][0]["records_lost"], json!(1));
    let up = [
        "up",
        "--data",
        &data.path().display().to_string(),
        "--mqtt",
        "127.0.0.1:0",
        "--http",
        "127.0.0.1:0",
    ];
    let refused = program::run(&up);
    assert_eq!(refused.status.code(), Some(1), "a start is refused too");
    assert_eq!(fs::read(&file).unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn mended_journal_starts_and_what_could_be_read_is_found() {
    let (data, file) = folder();
    let mut bytes = fs::read(&file).unwrap();
    // The second of three: bytes that no device could have meant.
    let at = bytes.windows(5).position(|found| found == b"\x1b[31m").unwrap();
    bytes[at] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let mend = ["journal", "mend", "--data", &data.path().display().to_string()];
    let output = program::run(&mend);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && said.contains("given up: positions 2 to 2\n"), "{said}");
    assert_eq!(fs::read(file.with_extension("journal.damaged-1")).unwrap(), bytes);
    assert_eq!(String::from_utf8(program::run(&mend).stdout).unwrap(), "nothing is damaged\n");
    let city = City::with(|args| args.place.data = data.path().to_owned()).await;
    // In 1970, when they came, the one was of the future; the other was cut.
    city.until("SELECT count(*) FROM dead_letters WHERE position IN (1, 3)", 2).await;
    city.publish(BUS, GOOD).await;
    city.publish("city/v1/volos/tides/t-1", "whatever").await;
    city.until("SELECT count(*) FROM fleet", 1).await;
    city.until("SELECT max(position) FROM dead_letters", 5).await;
}

#[test]
fn folder_without_a_journal_is_named() {
    let data = tempfile::tempdir().unwrap();
    let (code, _, problem) = inspect(data.path(), &[]);
    assert_eq!(code, Some(1));
    assert!(problem.contains(&data.path().display().to_string()) && problem.contains("--data"), "{problem}");
}

#[test]
fn configuration_file_names_the_folder_for_inspect_too() {
    let (data, _) = folder();
    let file = data.path().join("zeugma.toml");
    fs::write(&file, format!("data = {:?}\njson = true\n", data.path().display().to_string())).unwrap();
    let output = program::run(&["--config", &file.display().to_string(), "journal", "inspect"]);
    assert_eq!(lines(&String::from_utf8(output.stdout).unwrap())[0]["records"], json!(3));
}
