//! What cells, names and `--map` texts become.

use super::*;

fn field(text: &str) -> Field {
    text.parse().expect("well-formed")
}

fn reading(maps: &[&str], texts: &[&str], cells: &[Cell]) -> String {
    let fields: Vec<Field> = maps.iter().map(|text| field(text)).collect();
    let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
    let clock = Clock::new("rfc3339", None).expect("valid");
    let (json, _) = Mapping::new(clock, &fields, &texts).reading(&cells[0], &cells[1..]);
    String::from_utf8(json).expect("UTF-8")
}

fn raw_cell(text: &str) -> Cell {
    Cell::Raw(text.to_owned())
}

#[test]
fn map_is_field_column_and_perhaps_a_factor() {
    let whole = |name: &str, column: &str, factor| Field { name: name.into(), column: column.into(), factor };
    assert_eq!(field("speed_kmh=speed*3.6"), whole("speed_kmh", "speed", Some(3.6)));
    assert_eq!(field("a=b*c"), whole("a", "b*c", None));
    assert_eq!(field("a=b*c*-1e3"), whole("a", "b*c", Some(-1000.0)));
    assert_eq!(field("a=b=c"), whole("a", "b=c", None));
    for bad in ["", "a", "=b", "a=", "a=*2"] {
        assert!(Field::from_str(bad).is_err(), "{bad}");
    }
}

#[test]
fn bus_row_becomes_a_fleet_reading() {
    let cells = ["2016-11-24T00:00:51-06:00", "12.96416", "30.20585", "-97.774315"].map(raw_cell);
    assert_eq!(
        reading(&["speed_kmh=speed*3.6", "latitude=latitude", "longitude=longitude"], &[], &cells),
        r#"{"time":1479967251000000,"speed_kmh":46.670976,"latitude":30.20585,"longitude":-97.774315}"#
    );
}

#[test]
fn untyped_cell_is_a_number_a_boolean_or_the_text_it_is() {
    let time = raw_cell("2016-11-24T00:00:00Z\t");
    for (text, json) in [
        ("7", "7"),
        (" 7 ", "7"),
        ("-0.50", "-0.50"),
        ("1e3", "1e3"),
        ("true", "true"),
        ("007", "\"007\""),
        ("+1", "\"+1\""),
        (".5", "\".5\""),
        ("1.", "\"1.\""),
        ("inf", "\"inf\""),
        ("nan", "\"nan\""),
        ("NaN", "\"NaN\""),
        ("1e999", "\"1e999\""),
        ("n/a", "\"n/a\""),
        ("say \"x\"\\", "\"say \\\"x\\\"\\\\\""),
        ("True", "\"True\""),
        ("[1]", "\"[1]\""),
    ] {
        let got = reading(&["a=a"], &[], &[time.clone(), raw_cell(text)]);
        assert_eq!(got, format!("{{\"time\":1479945600000000,\"a\":{json}}}"), "{text}");
    }
}

#[test]
fn factor_is_one_multiplication_of_doubles() {
    let time = raw_cell("2016-11-24T00:00:00Z");
    for (text, map, json) in [
        ("113.9952", "a=a*3.6", "410.38272"),
        ("5", "a=a*2", "10"),
        ("0.1", "a=a*3", "0.30000000000000004"),
        ("1e308", "a=a*10", "\"1e308\""),
        ("x", "a=a*2", "\"x\""),
        ("1e-9", "a=a*0.1", "1.0000000000000002e-10"),
    ] {
        let got = reading(&[map], &[], &[time.clone(), raw_cell(text)]);
        assert_eq!(got, format!("{{\"time\":1479945600000000,\"a\":{json}}}"), "{text}");
    }
}

#[test]
fn typed_cells_keep_their_types_and_empty_ones_are_left_out() {
    let cells = [
        Cell::Instant(1),
        Cell::Text("12".into()),
        Cell::Number("12".into()),
        Cell::Empty,
        Cell::Boolean(true),
        Cell::Json("[1]".into()),
    ];
    let maps = ["a=a", "b=b", "c=c", "d=d", "e=e"];
    assert_eq!(reading(&maps, &[], &cells), r#"{"time":1,"a":"12","b":12,"d":true,"e":[1]}"#);
    assert_eq!(reading(&maps, &["b", "c"], &cells), r#"{"time":1,"a":"12","b":"12","d":true,"e":[1]}"#);
}

#[test]
fn time_that_cannot_be_read_goes_out_as_its_text() {
    assert_eq!(reading(&["a=a"], &[], &[raw_cell("soon"), raw_cell("1")]), r#"{"time":"soon","a":1}"#);
    assert_eq!(reading(&["a=a"], &[], &[Cell::Empty, raw_cell("1")]), r#"{"time":"","a":1}"#);
    assert_eq!(reading(&["a=a"], &[], &[Cell::Number("5".into()), raw_cell("1")]), r#"{"time":"5","a":1}"#);
}

#[test]
fn device_names_become_ids() {
    assert_eq!(device_id("Avon Street CP").as_deref(), Ok("Avon-Street-CP"));
    assert_eq!(device_id("Lansdown P+R").as_deref(), Ok("Lansdown-P-R"));
    assert_eq!(device_id("Bhf/Süd").as_deref(), Ok("Bhf-S-d"));
    assert!(device_id("").is_err());
    assert!(device_id(&"x".repeat(65)).is_err());
}
