//! Calls that must be refused before anything is sent, and the order of a paced replay.

use clap::Parser;
use tempfile::TempDir;

use super::*;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

/// A call with the given files and flags.
fn call(folder: &TempDir, files: &[(&str, &str)], flags: &[&str]) -> Args {
    let mut words = vec!["replay".to_owned()];
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a writable folder");
        words.push(path.display().to_string());
    }
    words.extend(["--tenant", "t", "--domain", "parking", "--time-column", "time"].map(str::to_owned));
    words.extend(flags.iter().map(ToString::to_string));
    Cli::try_parse_from(words).expect("flags that parse").args
}

fn scanned(args: &Args) -> anyhow::Result<(Plan, scan::Scan)> {
    let plan = Plan::new(args)?;
    let scan = scan::scan(&plan, &CancellationToken::new())?;
    Ok((plan, scan))
}

/// The sentence with which a call is refused as wrong use.
fn refusal(args: &Args) -> String {
    let Err(error) = scanned(args) else { panic!("the call was taken") };
    error.downcast::<Usage>().expect("wrong use and no other error").0
}

const BASE: [&str; 4] = ["--device-column", "device", "--map", "occupied_spaces=n"];

#[test]
fn names_that_collide_as_ids_are_refused_across_files() {
    let folder = TempDir::new().expect("a temporary folder");
    let files = [("a.csv", "device,time,n\nP+R 1,x,1\n"), ("b.csv", "device,time,n\nP R+1,x,1\n")];
    let fault = refusal(&call(&folder, &files, &BASE));
    assert!(fault.contains("'P+R 1'") && fault.contains("'P R+1'") && fault.contains("'P-R-1'"), "{fault}");
    let (_, scan) = scanned(&call(&folder, &files[..1], &BASE)).expect("one of them alone");
    assert_eq!(scan.topics["P+R 1"].as_ref(), "city/v1/t/parking/P-R-1");
}

#[test]
fn missing_column_is_refused_with_the_columns_there_are() {
    let folder = TempDir::new().expect("a temporary folder");
    let fault = refusal(&call(&folder, &[("a.csv", "device,time,m,o\n")], &BASE));
    assert!(fault.contains("'n'") && fault.contains("device, time, m, o"), "{fault}");
    let fault = refusal(&call(&folder, &[("a.ndjson", "{\"device\":\"d\",\"time\":\"x\"}\n")], &BASE));
    assert!(fault.contains("'n'") && fault.contains("device, time"), "{fault}");
}

#[test]
fn empty_file_and_header_alone_hold_no_rows() {
    let folder = TempDir::new().expect("a temporary folder");
    let files = [("a.csv", ""), ("b.csv", "device,time,n\n"), ("c.ndjson", "")];
    let (_, scan) = scanned(&call(&folder, &files, &BASE)).expect("nothing is wrong with them");
    assert_eq!((scan.rows, scan.topics.len()), (0, 0));
}

#[test]
fn row_without_device_is_refused_with_its_line() {
    let folder = TempDir::new().expect("a temporary folder");
    let fault = refusal(&call(&folder, &[("a.csv", "device,time,n\nd,x,1\n,x,1\n")], &BASE));
    assert!(fault.contains("a.csv, line 3"), "{fault}");
}

#[test]
fn contradicting_calls_are_refused() {
    let folder = TempDir::new().expect("a temporary folder");
    let files = [("a.csv", "device,time,n\n")];
    for (flags, word) in [
        (&["--text", "firmware"][..], "firmware"),
        (&["--map", "occupied_spaces=m"], "twice"),
        (&["--map", "time=n"], "--time-column"),
        (&["--time-format", "%Y"], "--time-zone"),
        (&["--time-zone", "Mars/Olympus"], "Mars/Olympus"),
        (&["--mqtt", "::1:1883"], "host:port"),
        (&["--mqtt", "host:port"], "host:port"),
    ] {
        let fault = refusal(&call(&folder, &files, &[&BASE, flags].concat()));
        assert!(fault.contains(word), "{fault}");
    }
}

#[test]
fn speed_is_max_or_a_number_of_times() {
    assert_eq!("max".parse(), Ok(Speed::Max));
    assert_eq!("60x".parse(), Ok(Speed::Times(60.0)));
    for bad in ["", "x", "60", "0x", "-1x", "infx", "nanx"] {
        assert!(bad.parse::<Speed>().is_err(), "{bad}");
    }
}

#[test]
fn paced_rows_go_by_time_and_those_of_a_device_in_file_order() {
    let folder = TempDir::new().expect("a temporary folder");
    let text = "device,time,n\n\
        a,2020-01-01T00:00:00Z,1\n\
        a,2020-01-01T00:02:00Z,2\n\
        a,2020-01-01T00:01:00Z,3\n\
        a,never,4\n\
        a,2020-01-01T00:04:00Z,5\n\
        b,1970-01-01T00:00:00Z,6\n\
        b,2020-01-01T00:01:00Z,7\n\
        b,2999-01-01T00:00:00Z,8\n\
        b,2020-01-01T00:03:00Z,9\n";
    let (plan, scan) = scanned(&call(&folder, &[("a.csv", text)], &BASE)).expect("a good file");
    let now_us = 1_700_000_000_000_000;
    let due = feed::order(&plan, &scan, now_us).expect("few rows");
    let numbers: Vec<(i64, char)> = due
        .iter()
        .map(|(due_us, message)| {
            let number = message.payload[message.payload.len() - 2] as char;
            ((due_us.saturating_sub(1_577_836_800_000_000)).max(0) / 60_000_000, number)
        })
        .collect();
    let expected = [(0, '6'), (0, '1'), (1, '7'), (1, '8'), (2, '2'), (2, '3'), (2, '4'), (3, '9'), (4, '5')];
    assert_eq!(numbers, expected);
}
