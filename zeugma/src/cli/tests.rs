use super::*;

fn parse_text(line: &str) -> Result<Command, Ended> {
    parse(line.split_whitespace().map(OsString::from)).map(|cli| cli.command)
}

#[test]
fn flags_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn wrong_use_is_one_line_that_says_what_to_do() {
    for line in [
        "zeugma",
        "zeugma fly",
        "zeugma up --flux 9",
        "zeugma replay x.csv",
        "zeugma up --commit-interval soon",
    ] {
        let Err(Ended::Wrong(usage)) = parse_text(line) else { panic!("{line}") };
        assert!(!usage.0.contains('\n') && usage.0.contains("--help"), "{line}: {usage}");
    }
}

#[test]
fn configuration_file_gives_defaults_that_flags_override() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("zeugma.toml");
    std::fs::write(&file, "http = \"127.0.0.1:9\"\ncommit-interval = \"5s\"\ndevices = 7\n").unwrap();
    let line = format!("zeugma --config {} up --http 127.0.0.1:10", file.display());
    let Ok(Command::Up(args)) = parse_text(&line) else { panic!() };
    assert_eq!(args.http.port(), 10);
    assert_eq!(args.ingest.commit_interval.as_secs(), 5);
    std::fs::write(&file, "log-format = \"json\"\n").unwrap();
    let args = || line.split_whitespace().map(OsString::from);
    assert_eq!(parse(args()).map(|cli| cli.log_format).ok(), Some(LogFormat::Json));
    let over = args().chain(["--log-format".into(), "text".into()]);
    assert_eq!(parse(over).map(|cli| cli.log_format).ok(), Some(LogFormat::Text));
    std::fs::write(&file, "htttp = \"127.0.0.1:9\"\n").unwrap();
    let Err(Ended::Wrong(usage)) = parse_text(&line) else { panic!() };
    assert!(usage.0.contains("htttp"), "{usage}");
}

#[test]
fn versions_cannot_be_kept_longer_than_the_log_remembers_what_was_replaced() {
    for (keep, is_right) in [("1h", true), ("6d", true), ("6d 1s", false), ("30d", false), ("soon", false)] {
        let args = ["zeugma", "up", "--keep-versions", keep].map(OsString::from);
        match parse(args) {
            Ok(_) => assert!(is_right, "{keep}"),
            Err(Ended::Wrong(usage)) => assert!(!is_right && usage.0.contains("keep-versions"), "{usage}"),
            Err(Ended::Help(_)) => panic!("{keep}"),
        }
    }
    let Err(Ended::Wrong(usage)) = parse_text("zeugma up --keep-versions 30d") else { panic!() };
    assert!(usage.0.contains("6d at most"), "{usage}");
}
