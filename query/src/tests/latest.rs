//! The newest reading of each device, from lake and tail.

use arrow::array::AsArray;

use super::*;

/// Device, and minutes before now, of each newest reading.
async fn latest(query: &Query, grant: &Grant, condition: &str) -> String {
    let sql = format!(
        "SELECT tenant, device, occupied_spaces AS minutes FROM parking_latest {condition} ORDER BY tenant, device"
    );
    let table = text(query, grant, &sql).await;
    let rows = table.lines().skip(3).filter(|line| line.starts_with("| "));
    let cells = rows.map(|row| {
        row.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect::<Vec<_>>().join(" ")
    });
    cells.collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn newest_reading_is_found_in_lake_and_tail_and_follows_each_commit() {
    let city = City::new().await;
    let query = city.query();
    assert_eq!(latest(&query, &Grant::All, "").await, "");
    // Minutes count backwards from now.
    city.commit("parking", vec![parking("lamia", "p1", 50..90), parking("volos", "p1", 60..70)], 1).await;
    city.tail_holds(
        1,
        vec![(parking("lamia", "p1", 40..45), vec![2; 5]), (parking("lamia", "p2", 80..81), vec![3])],
    );
    assert_eq!(latest(&query, &Grant::All, "").await, "lamia p1 40, lamia p2 80, volos p1 60");
    // Committed, and a late one behind it.
    city.commit("parking", vec![parking("lamia", "p1", 40..45), parking("lamia", "p2", 80..81)], 3).await;
    city.tail_holds(
        3,
        vec![(parking("volos", "p1", 65..66), vec![4]), (parking("lamia", "p2", 10..11), vec![5])],
    );
    assert_eq!(latest(&query, &Grant::All, "").await, "lamia p1 40, lamia p2 10, volos p1 60");
    for (condition, wanted) in [
        ("WHERE tenant = 'lamia'", "lamia p1 40, lamia p2 10"),
        ("WHERE 'volos' = tenant", "volos p1 60"),
        ("WHERE tenant IN ('volos', 'nobody')", "volos p1 60"),
        ("WHERE tenant = 'lamia' AND tenant = 'volos'", ""),
        ("WHERE tenant = 'lamia' OR device = 'p1'", "lamia p1 40, lamia p2 10, volos p1 60"),
        ("WHERE tenant <> 'lamia'", "volos p1 60"),
        // A condition is about the newest reading; it does not choose which is the newest.
        ("WHERE occupied_spaces > 40", "volos p1 60"),
    ] {
        assert_eq!(latest(&query, &Grant::All, condition).await, wanted, "{condition}");
    }
    assert_eq!(latest(&query, &Grant::tenants(["volos"]), "").await, "volos p1 60");
    // Who asks the lake alone, or a version, sees no tail.
    for (rows, wanted) in [(Rows::Lake, 3), (Rows::Version(2), 2)] {
        let answer = query.ask(&Grant::All, rows, "SELECT * FROM parking_latest").await.unwrap();
        let found: usize = answer.collect().await.unwrap().iter().map(RecordBatch::num_rows).sum();
        assert_eq!(found, wanted, "{rows:?}");
    }
}

#[tokio::test]
async fn one_tenants_newest_readings_are_neither_filtered_nor_sorted_again() {
    let city = City::new().await;
    let query = city.query();
    let volos = ["p1", "p2", "p3"].map(|device| parking("volos", device, 60..70));
    city.commit("parking", [vec![parking("lamia", "p2", 50..90)], volos.to_vec()].concat(), 1).await;
    // In the middle of those that are committed.
    city.tail_holds(1, vec![(parking("volos", "p20", 5..6), vec![2])]);
    let lamia_and_volos = Grant::tenants(["lamia", "volos"]);
    for (grant, condition, order, wanted, is_as_it_lies) in [
        (&Grant::All, "WHERE tenant = 'volos'", "device", "p1 p2 p20 p3", true),
        (&Grant::tenants(["volos"]), "", "device", "p1 p2 p20 p3", true),
        (&lamia_and_volos, "WHERE tenant = 'volos'", "device", "p1 p2 p20 p3", true),
        (&lamia_and_volos, "", "tenant, device", "p2 p1 p2 p20 p3", true),
        (&Grant::All, "WHERE tenant = 'volos'", "device DESC", "p3 p20 p2 p1", false),
        (&Grant::All, "", "device", "p1 p2 p2 p20 p3", false),
        (&Grant::All, "WHERE tenant IN ('lamia', 'volos')", "device", "p1 p2 p2 p20 p3", false),
        (&Grant::All, "WHERE tenant = 'volos' AND device > 'p2'", "device", "p20 p3", false),
    ] {
        let sql = format!("SELECT device FROM parking_latest {condition} ORDER BY {order}");
        let batches = query.sql(grant, &sql).await.unwrap();
        let devices = batches.iter().flat_map(|batch| batch.column(0).as_string_view().iter().flatten());
        assert_eq!(devices.collect::<Vec<_>>().join(" "), wanted, "{sql}");
        let plan = text(&query, grant, &format!("EXPLAIN FORMAT INDENT {sql}")).await;
        assert_eq!(!plan.contains("SortExec") && !plan.contains("FilterExec"), is_as_it_lies, "{plan}");
    }
}
