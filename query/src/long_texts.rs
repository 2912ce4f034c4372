//! Texts that are as long as a number says: `repeat(device, 1000000000)` is refused before it takes all memory.
//!
//! The engine (DataFusion 55) counts what an operator holds, and not what an expression makes. These are what a mistake
//! makes large; who joins large texts to larger ones on purpose is not kept from it.

use arrow::{
    array::AsArray,
    compute::{cast, kernels::length::length},
    datatypes::{DataType, Int64Type},
};
use datafusion::{
    common::{DataFusionError, Result},
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF},
};

/// The functions whose second argument says how often or how far.
pub const LONG_TEXTS: [&str; 3] = ["repeat", "lpad", "rpad"];

/// Functions that make lists in the same way, and that a question about readings can do without: the table function
/// `generate_series` makes rows.
pub const LONG_LISTS: [&str; 6] =
    ["range", "generate_series", "array_repeat", "list_repeat", "array_resize", "list_resize"];

/// Bytes of a text, and of all of one batch. A text that is made once may be joined to each row.
const TEXT_BYTES_MAX: i64 = 16 << 10;
const BATCH_BYTES_MAX: i64 = 64 << 20;

/// Longer ones need not be told apart; the sum of a batch of them is a number still.
const LENGTH_MAX: i64 = 1 << 40;

/// One of these functions, given the engine's.
pub fn long_text(engine: &ScalarUDF, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
    let lengths = lengths(engine.name() == "repeat", &args.args)?;
    let (longest, all) = (lengths.iter().max().copied().unwrap_or(0), lengths.iter().sum::<i64>());
    if longest > TEXT_BYTES_MAX || all > BATCH_BYTES_MAX {
        return Err(DataFusionError::ResourcesExhausted(format!(
            "{} would make a text of {longest} bytes, and {all} bytes at once; they may be {TEXT_BYTES_MAX} and \
             {BATCH_BYTES_MAX}",
            engine.name()
        )));
    }
    engine.invoke_with_args(args)
}

/// How many bytes each text of a batch will take, repeated so often or made so long.
fn lengths(is_repeated: bool, args: &[ColumnarValue]) -> Result<Vec<i64>> {
    let args = ColumnarValue::values_to_arrays(args)?;
    let [texts, numbers, ..] = args.as_slice() else { return Ok(Vec::new()) };
    let Some(numbers) = numbers.as_primitive_opt::<Int64Type>() else { return Ok(Vec::new()) };
    let positive = |number: Option<i64>| number.unwrap_or_default().clamp(0, LENGTH_MAX);
    if !is_repeated {
        return Ok(numbers.iter().map(positive).collect());
    }
    let lengths = cast(&length(texts)?, &DataType::Int64)?;
    let pairs = lengths.as_primitive::<Int64Type>().iter().zip(numbers);
    Ok(pairs
        .map(|(length, times)| positive(length).saturating_mul(positive(times)).min(LENGTH_MAX))
        .collect())
}
