//! How little of a file a question is about, by its filters: an hour of a day, one device.
//!
//! A tenant's rows of a date lie in the order of (device, time), so an hour of many devices is a few rows on each of
//! their pages, and a day of one device lies on one or two of them.

use datafusion::{
    logical_expr::{BinaryExpr, Expr, Operator, expr::InList},
    scalar::ScalarValue,
};
use zeugma_lake::snapshot::DataFile;
use zeugma_schemas::batch::DAY_US;

use crate::prune::times_us;

/// A window of time up to which rows are left out while they are decoded. Of a longer one so many of a page's rows are
/// wanted that to decode all and cut out is quicker.
const SHORT_US: i64 = DAY_US / 2;

/// Days of one device that a core reads about as quickly as several do: each of those opens the file for itself.
const DAYS_OF_A_DEVICE_MAX: i64 = 2;

/// What a question's filters leave of time and devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// The first and the last microsecond since 1970.
    times_us: (i64, i64),
    /// Whose rows of a date, or of several, lie in one place.
    pub is_of_one_tenant: bool,
    is_of_one_device: bool,
}

impl Reach {
    /// The reach of filters that all have to be true. What it does not understand restricts nothing.
    pub fn of<'a>(filters: impl IntoIterator<Item = &'a Expr>) -> Reach {
        let all = Reach { times_us: (i64::MIN, i64::MAX), is_of_one_tenant: false, is_of_one_device: false };
        filters.into_iter().fold(all, |reach, filter| reach.and(filter))
    }

    fn and(self, filter: &Expr) -> Reach {
        match comparison(filter) {
            Some(("time", op, ScalarValue::TimestampMicrosecond(Some(time_us), _))) => {
                self.and_time(op, *time_us)
            }
            Some(("tenant", Operator::Eq, _)) => Reach { is_of_one_tenant: true, ..self },
            Some(("device", Operator::Eq, _)) => Reach { is_of_one_device: true, ..self },
            _ if is_grant_of_one_tenant(filter) => Reach { is_of_one_tenant: true, ..self },
            _ => self,
        }
    }

    fn and_time(self, op: Operator, time_us: i64) -> Reach {
        let (first, last) = self.times_us;
        let times_us = match op {
            Operator::Eq => (first.max(time_us), last.min(time_us)),
            Operator::Gt => (first.max(time_us.saturating_add(1)), last),
            Operator::GtEq => (first.max(time_us), last),
            Operator::Lt => (first, last.min(time_us.saturating_sub(1))),
            Operator::LtEq => (first, last.min(time_us)),
            _ => (first, last),
        };
        Reach { times_us, ..self }
    }

    /// Whether the filters ask for a window of time that is so short that most rows of a page lie outside it.
    pub fn is_short(&self, files: &[&DataFile]) -> bool {
        self.times_us != (i64::MIN, i64::MAX) && self.length_us(files) <= SHORT_US
    }

    /// Whether it is about one device, for so few days of one file that one core reads them.
    pub fn is_for_one_core(&self, files: &[&DataFile]) -> bool {
        let is_short = || self.length_us(files) <= DAYS_OF_A_DEVICE_MAX * DAY_US;
        self.is_of_one_device && files.len() == 1 && is_short()
    }

    /// How long the window of time is in which these files have rows, as far as the log says when.
    fn length_us(&self, files: &[&DataFile]) -> i64 {
        let (first, last) = self.times_us;
        let oldest = files.iter().map(|file| times_us(file).0).min().unwrap_or(i64::MAX);
        let newest = files.iter().map(|file| times_us(file).1).max().unwrap_or(i64::MIN);
        last.min(newest).saturating_sub(first.max(oldest)).saturating_add(1)
    }
}

/// Whether a filter compares the time of a row with a constant: it can fail for no row.
pub fn is_of_time(filter: &Expr) -> bool {
    comparison(filter).is_some_and(|(column, ..)| column == "time")
}

/// `tenant IN (constant)`, as a grant is written.
fn is_grant_of_one_tenant(filter: &Expr) -> bool {
    let Expr::InList(InList { expr, list, negated: false }) = filter else { return false };
    list.len() == 1 && matches!(&**expr, Expr::Column(column) if column.name == "tenant")
}

/// `column < constant` and its kin; the engine has put the column to the left.
fn comparison(filter: &Expr) -> Option<(&str, Operator, &ScalarValue)> {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (&**left, &**right) {
            (Expr::Column(column), Expr::Literal(value, _)) => Some((&column.name, *op, value)),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::{col, lit};

    use super::*;

    const MIDNIGHT_US: i64 = 20_000 * DAY_US;
    const HOUR_US: i64 = DAY_US / 24;

    fn time(hour: i64) -> Expr {
        lit(ScalarValue::TimestampMicrosecond(Some(MIDNIGHT_US + hour * HOUR_US), Some("UTC".into())))
    }

    /// A file with rows from and to an hour; none where the log says nothing.
    fn file(hours: Option<(i64, i64)>) -> DataFile {
        DataFile {
            path: "fleet/a.parquet".into(),
            size: 1,
            dates: hours.map_or(i32::MIN..=i32::MAX, |(_, to)| 20_000..=20_000 + (to / 24) as i32),
            rows: None,
            tenants: None,
            devices: None,
            times_us: hours.map(|(from, to)| (MIDNIGHT_US + from * HOUR_US, MIDNIGHT_US + to * HOUR_US)),
        }
    }

    fn is_short(filters: &[Expr], files: &[&DataFile]) -> bool {
        Reach::of(filters).is_short(files)
    }

    #[test]
    fn window_is_as_long_as_files_have_rows_in_it() {
        let (week, morning, unknown) = (file(Some((0, 168))), file(Some((0, 9))), file(None));
        let hour = [col("time").gt_eq(time(10)), col("time").lt(time(11))];
        assert!(is_short(&hour, &[&week]));
        assert!(is_short(&hour, &[&unknown]));
        assert!(is_short(&[col("time").eq(time(10))], &[&week]));
        assert!(!is_short(&[col("time").gt_eq(time(0)), col("time").lt(time(24))], &[&week]));
        // Nothing is newer than the newest row.
        assert!(is_short(&[col("time").gt(time(167))], &[&week]));
        assert!(!is_short(&[col("time").gt(time(24))], &[&week]));
        assert!(!is_short(&[col("time").gt(time(167))], &[&week, &unknown]));
        assert!(is_short(&[col("time").lt(time(3))], &[&week]));
        // Files that are short themselves are read whole, as nobody asked for less.
        assert!(!is_short(&[col("device").eq(lit("bus-1"))], &[&morning]));
    }

    #[test]
    fn other_filters_restrict_nothing() {
        let all = Reach::of([]);
        assert_eq!(Reach::of(&[col("received_at").gt(time(1))]), all);
        assert_eq!(Reach::of(&[col("time").not_eq(time(1))]), all);
        assert_eq!(Reach::of(&[col("time").gt(time(1)).or(col("time").lt(time(0)))]), all);
        assert_eq!(Reach::of(&[col("time").gt(col("received_at"))]), all);
        assert_eq!(Reach::of(&[col("device").gt(lit("bus-1"))]), all);
        assert_eq!(Reach::of(&[col("tenant").not_eq(lit("lamia"))]), all);
        assert_eq!(Reach::of(&[col("tenant").in_list(vec![lit("lamia"), lit("volos")], false)]), all);
        assert_eq!(Reach::of(&[col("tenant").in_list(vec![lit("lamia")], true)]), all);
    }

    #[test]
    fn one_tenant_is_asked_for_or_granted() {
        assert!(Reach::of(&[col("tenant").eq(lit("lamia"))]).is_of_one_tenant);
        assert!(Reach::of(&[col("tenant").in_list(vec![lit("lamia")], false)]).is_of_one_tenant);
    }

    #[test]
    fn few_days_of_one_device_are_for_one_core() {
        let week = file(Some((0, 168)));
        let device = [col("device").eq(lit("bus-1"))];
        let day = [col("time").gt_eq(time(0)), col("time").lt(time(24))];
        let day_of_device = [&day[..], &device].concat();
        let is_for_one_core = |filters: &[Expr]| Reach::of(filters).is_for_one_core(&[&week]);
        assert!(is_for_one_core(&day_of_device));
        assert!(!is_for_one_core(&device));
        assert!(!is_for_one_core(&day));
        assert!(!Reach::of(&day_of_device).is_for_one_core(&[&week, &week]));
    }
}
