use super::*;

fn schema(fields: &str) -> String {
    format!(
        r#"{{"type":"record","name":"noise","namespace":"city.v1","fields":[
        {{"name":"time","type":{{"type":"long","logicalType":"timestamp-micros"}}}}{fields}]}}"#
    )
}

const LEVEL: &str = r#",{"name":"level_db","type":["null","double"],"default":null,"unit":"dB"}"#;
const PEAK: &str = r#",{"name":"peak_db","type":["null","double"],"default":null,"unit":"dB"}"#;

fn noise(fields: &str) -> Domains {
    let mut domains = Domains::default();
    domains.add(&schema(fields)).unwrap();
    domains
}

#[test]
fn every_builtin_field_has_a_doc_and_a_unit() {
    let domains = Domains::builtin();
    assert_eq!(domains.iter().count(), 5);
    for domain in domains.iter() {
        assert!(!domain.newest().doc.is_empty());
        for field in &domain.newest().fields {
            assert!(!field.doc.is_empty(), "{}.{}", domain.name(), field.name);
            assert!(!field.unit.is_empty() || field.kind == Kind::Text, "{}.{}", domain.name(), field.name);
        }
    }
}

#[test]
fn columns_begin_with_the_common_ones_and_end_with_the_date() {
    let domains = Domains::builtin();
    let names: Vec<_> =
        domains.get("parking").unwrap().columns().fields().iter().map(|field| field.name().clone()).collect();
    let wanted = "tenant device time received_at seq extra occupied_spaces total_spaces temperature_c date";
    assert_eq!(names.join(" "), wanted);
}

#[test]
fn added_field_is_a_new_version_and_the_old_one_stays_known() {
    let mut domains = noise(LEVEL);
    let old = domains.get("noise").unwrap().newest().fingerprint;
    let grown = domains.add(&schema(&format!("{LEVEL}{PEAK}"))).unwrap().expect("it has grown");
    assert_eq!((grown.versions().len(), grown.version(old)), (2, Some(0)));
    assert!(grown.columns().field_with_name("peak_db").is_ok());
    // The file of the older version, found again, changes nothing.
    assert!(domains.add(&schema(LEVEL)).unwrap().is_none());
    assert_eq!(domains.get("noise").unwrap().newest().fields.len(), 3);
}

#[test]
fn changed_type_unit_logical_type_or_dropped_field_is_refused_in_a_sentence() {
    let moment =
        r#",{"name":"at","type":["null",{"type":"long","logicalType":"timestamp-micros"}],"default":null}"#;
    for (was, is, says) in [
        (
            LEVEL,
            LEVEL.replace("double", "long"),
            "`level_db` was [null, double] in `dB` and would become [null, long]",
        ),
        (LEVEL, LEVEL.replace("dB", "Np"), "would become [null, double] in `Np`"),
        (LEVEL, String::new(), "`level_db` is missing"),
        (
            moment,
            moment.replace(r#"{"type":"long","logicalType":"timestamp-micros"}"#, "\"long\""),
            "`at` was",
        ),
        (LEVEL, format!("{LEVEL}{}", r#",{"name":"x","type":"double"}"#), "must be optional"),
    ] {
        let refused = noise(was).add(&schema(&is)).unwrap_err();
        assert!(refused.to_string().contains(says), "{refused}");
    }
}

#[test]
fn files_that_make_no_table_are_refused_in_a_sentence() {
    for (text, says) in [
        ("no json".to_owned(), "no JSON"),
        (schema(LEVEL).replace("noise", "Noise"), "becomes a table"),
        (schema(LEVEL).replace("noise", "sql"), "becomes a table"),
        (schema(LEVEL).replace("noise", "noise_latest"), "becomes a table"),
        (schema(LEVEL).replace("\"time\"", "\"when\""), "needs a field `time`"),
        (schema(r#",{"name":"tenant","type":"string"}"#), "column `tenant` already"),
        (schema(r#",{"name":"a","type":["null","double"]}"#), "\"default\": null"),
        (schema(r#",{"name":"a","type":["double","null"],"default":null}"#), "first"),
        (schema(r#",{"name":"a","type":"bytes"}"#), "must be boolean"),
        (schema(&format!("{LEVEL}{LEVEL}")), "twice"),
    ] {
        let refused = Domains::default().add(&text).unwrap_err();
        assert!(refused.to_string().contains(says), "{refused}");
    }
}
