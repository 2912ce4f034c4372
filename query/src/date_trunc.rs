//! `date_trunc` of moments in UTC: what the engine's own answers, without a look at the zone's rules for each row.
//!
//! The engine (DataFusion 55.2) computes days and hours by plain arithmetic only where a moment has no zone, and asks
//! a calendar otherwise: 215 ns a row instead of 3. All our moments are in UTC, where both are the same.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, make_array},
    datatypes::{DataType, Field},
};
use datafusion::{
    common::Result,
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF},
};

/// The function's name.
pub const DATE_TRUNC: &str = "date_trunc";

/// The function, given the engine's.
pub fn date_trunc(engine: &ScalarUDF, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
    let Some(ColumnarValue::Array(times)) = args.args.get(1) else {
        return engine.invoke_with_args(args);
    };
    let in_utc = times.data_type().clone();
    let DataType::Timestamp(unit, Some(zone)) = &in_utc else {
        return engine.invoke_with_args(args);
    };
    if !matches!(zone.as_ref(), "UTC" | "+00:00") {
        return engine.invoke_with_args(args);
    }
    let plain = DataType::Timestamp(*unit, None);
    args.args[1] = ColumnarValue::Array(relabelled(times, &plain)?);
    for field in args.arg_fields.get_mut(1).into_iter().chain([&mut args.return_field]) {
        *field = Arc::new(Field::new(field.name(), plain.clone(), field.is_nullable()));
    }
    match engine.invoke_with_args(args)? {
        ColumnarValue::Array(times) => Ok(ColumnarValue::Array(relabelled(&times, &in_utc)?)),
        scalar => scalar.cast_to(&in_utc, None),
    }
}

/// The same numbers as another type of the same width.
fn relabelled(times: &ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
    let data = times.to_data().into_builder().data_type(wanted.clone()).build()?;
    Ok(make_array(data))
}

#[cfg(test)]
mod tests {
    use arrow::array::TimestampMicrosecondArray;
    use datafusion::{execution::FunctionRegistry, prelude::SessionContext, scalar::ScalarValue};

    use super::*;
    use crate::in_front::InFront;

    fn truncated(function: &ScalarUDF, precision: &str, times: ArrayRef) -> ArrayRef {
        let field = |name: &str, data_type: &DataType| Arc::new(Field::new(name, data_type.clone(), true));
        let rows = times.len();
        let args = ScalarFunctionArgs {
            arg_fields: vec![field("precision", &DataType::Utf8), field("time", times.data_type())],
            return_field: field("date_trunc", times.data_type()),
            args: vec![
                ColumnarValue::Scalar(ScalarValue::Utf8(Some(precision.to_owned()))),
                ColumnarValue::Array(times),
            ],
            number_rows: rows,
            config_options: Arc::default(),
        };
        function.invoke_with_args(args).unwrap().into_array(rows).unwrap()
    }

    #[test]
    fn answers_what_the_engine_does_in_any_zone() {
        let engine = SessionContext::new().udf(DATE_TRUNC).unwrap();
        let ours = InFront::of(engine.clone(), date_trunc);
        // From 1936 to 2103, every 31 days and some.
        let times = (-400..1_600).map(|n| (n % 7 != 3).then_some(n * 2_717_171_717_171_i64));
        let times = TimestampMicrosecondArray::from_iter(times);
        for zone in [None, Some("UTC"), Some("+00:00"), Some("+02:00")] {
            let times: ArrayRef = Arc::new(times.clone().with_timezone_opt(zone));
            for precision in ["year", "quarter", "month", "week", "day", "hour", "minute", "second"] {
                let wanted = truncated(&engine, precision, times.clone());
                assert_eq!(&truncated(&ours, precision, times.clone()), &wanted, "{zone:?} {precision}");
            }
        }
    }
}
