//! The dashboard and the alarms name only what a running city shows, and every alarm says what to do.

use std::collections::BTreeSet;

use serde_json::Value;
use zeugma_tests::City;

const DASHBOARD: &str = include_str!("../../../docs/operate/dashboard.json");
const ALERTS: &str = include_str!("../../../docs/operate/alerts.yml");
const PAGE: &str = include_str!("../../../docs/operate/README.md");

/// Names of metrics in an expression, or any text.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| word.starts_with("zeugma_") || word.starts_with("process_"));
    ours.map(str::to_owned).collect()
}

/// Names of the samples that a city shows.
async fn exposed(city: &City) -> BTreeSet<String> {
    let (status, text) = city.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(text.ends_with("# EOF\n"), "it is written to its end");
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let names = samples.filter_map(|line| line.split(['{', ' ']).next()).map(str::to_owned);
    names.collect()
}

/// A city to which something has come.
async fn busy_city() -> City {
    let city = City::start().await;
    city.publish("city/v1/lamia/parking/p1", r#"{"time":"2026-01-01T00:00:00Z","occupied_spaces":12}"#).await;
    city.until("SELECT count(*) FROM parking", 1).await;
    city
}

/// All texts under these keys, anywhere.
fn texts<'a>(value: &'a Value, keys: &[&str], into: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::String(text) if keys.contains(&key.as_str()) => into.push(text),
                    _ => texts(value, keys, into),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| texts(value, keys, into)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dashboard_draws_only_what_is_shown_and_leaves_nothing_out() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let mut expressions = Vec::new();
    texts(&dashboard, &["expr", "definition"], &mut expressions);
    let drawn: BTreeSet<_> = expressions.iter().flat_map(|text| names(text)).collect();
    let exposed = exposed(&busy_city().await).await;
    assert_eq!(drawn.difference(&exposed).collect::<Vec<_>>(), Vec::<&String>::new());
    // A histogram is drawn by one of its parts.
    let family = |name: &String| {
        let part = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        part.unwrap_or(name).to_owned()
    };
    let drawn: BTreeSet<_> = drawn.iter().map(family).collect();
    let shown: BTreeSet<_> = exposed.iter().map(family).collect();
    assert_eq!(shown.difference(&drawn).collect::<Vec<_>>(), Vec::<&String>::new(), "nobody sees these");
    let mut sources = Vec::new();
    texts(&dashboard, &["uid"], &mut sources);
    assert!(
        sources.iter().all(|uid| ["${datasource}", "zeugma"].contains(uid)),
        "a source of somebody's own"
    );
}

/// One rule of the alert file.
#[derive(Debug, Default)]
struct Rule {
    fields: Vec<(String, String)>,
}

impl Rule {
    fn field(&self, name: &str) -> &str {
        let found = self.fields.iter().find(|(field, _)| field == name);
        found.unwrap_or_else(|| panic!("no `{name}` in {self:?}")).1.as_str()
    }
}

/// Reads the file as the part of YAML that it keeps to: two spaces a level, `key: value` on one line.
fn rules() -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    for line in ALERTS.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        let text = line.trim_start();
        let (spaces, starts) = (line.len() - text.len(), text.starts_with("- "));
        assert!(!line.contains('\t') && spaces % 2 == 0, "{line}");
        let (key, value) = text.trim_start_matches("- ").split_once(':').expect(line);
        let value = value.trim();
        match (spaces, starts, key) {
            (0, false, "groups") | (2, true, "name") | (4, false, "rules") => {}
            (6, true, "alert") => rules.push(Rule { fields: vec![("alert".into(), value.into())] }),
            (8, false, "expr" | "for" | "labels" | "annotations") | (10, false, _) => {
                let quoted = value.len() > 1 && value.starts_with('"') && value.ends_with('"');
                let plain =
                    !value.contains(": ") && !value.contains(" #") && !value.starts_with(['{', '[', '"']);
                assert!(quoted || plain, "it must be quoted: {line}");
                rules.last_mut().expect(line).fields.push((key.into(), value.into()));
            }
            _ => panic!("not where it belongs: {line}"),
        }
    }
    rules
}

#[tokio::test(flavor = "multi_thread")]
async fn alarms_watch_what_is_shown_and_say_what_to_do() {
    let (rules, exposed) = (rules(), exposed(&busy_city().await).await);
    assert!(rules.len() >= 10, "{} rules", rules.len());
    for rule in &rules {
        let name = rule.field("alert");
        let watched = names(rule.field("expr"));
        assert!(watched.is_subset(&exposed), "{name} watches {watched:?}");
        assert!(!watched.is_empty() || rule.field("expr").starts_with("up{"), "{name} watches nothing");
        assert!(["page", "ticket"].contains(&rule.field("severity")), "{name}");
        assert!(rule.field("for").ends_with('m'), "{name}");
        assert!(!rule.field("summary").is_empty() && !rule.field("description").is_empty(), "{name}");
        let expected = format!("docs/operate/README.md#{}", name.to_lowercase());
        assert_eq!(rule.field("runbook"), expected);
        assert!(
            PAGE.lines().any(|line| line == format!("### {name}")),
            "{name} is not on the operator's page"
        );
    }
    let sections = PAGE.lines().filter_map(|line| line.strip_prefix("### Zeugma")).count();
    assert_eq!(sections, rules.len(), "the page speaks of alarms that there are not");
}
