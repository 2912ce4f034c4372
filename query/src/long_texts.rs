//! Texts that are as long as a number says: `repeat(device, 1000000000)` is refused before it takes all memory.
//!
//! The engine (DataFusion 55) counts what an operator holds, and not what an expression makes. These are what a mistake
//! makes large; who joins large texts to larger ones on purpose is not kept from it.

use std::sync::Arc;

use arrow::{
    array::{AsArray, Int64Array},
    compute::kernels::length::length,
    datatypes::{DataType, FieldRef, Int32Type, Int64Type},
};
use datafusion::{
    common::{DataFusionError, Result},
    logical_expr::{
        ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
        Signature,
    },
};

/// The functions whose second argument says how often or how far.
pub const LONG_TEXTS: [&str; 3] = ["repeat", "lpad", "rpad"];

/// Functions that make lists in the same way, and that a question about readings can do without: the table function
/// `generate_series` makes rows.
pub const LONG_LISTS: [&str; 6] =
    ["range", "generate_series", "array_repeat", "list_repeat", "array_resize", "list_resize"];

/// Bytes of all texts of one batch.
const BYTES_MAX: i64 = 64 << 20;

/// A function, in front of the engine's.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct LongText {
    /// The engine's.
    pub engine: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for LongText {
    fn name(&self) -> &str {
        self.engine.name()
    }

    fn signature(&self) -> &Signature {
        self.engine.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.engine.return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.engine.return_field_from_args(args)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.engine.documentation()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let bytes = bytes(self.name() == "repeat", &args.args)?;
        if bytes > BYTES_MAX {
            return Err(DataFusionError::ResourcesExhausted(format!(
                "{} would make {bytes} bytes of {} rows, and may make {BYTES_MAX}",
                self.name(),
                args.number_rows
            )));
        }
        self.engine.invoke_with_args(args)
    }
}

/// How many bytes a batch of texts will take, each repeated so often or made so long.
fn bytes(is_repeated: bool, args: &[ColumnarValue]) -> Result<i64> {
    let args = ColumnarValue::values_to_arrays(args)?;
    let [texts, numbers, ..] = args.as_slice() else { return Ok(0) };
    let Some(numbers) = numbers.as_primitive_opt::<Int64Type>() else { return Ok(0) };
    let positive = |number: Option<i64>| number.unwrap_or_default().max(0);
    if !is_repeated {
        return Ok(numbers.iter().map(positive).fold(0, i64::saturating_add));
    }
    let lengths = length(texts)?;
    let lengths: Int64Array = match lengths.as_primitive_opt::<Int32Type>() {
        Some(lengths) => lengths.unary(i64::from),
        None => lengths.as_primitive::<Int64Type>().clone(),
    };
    let pairs = lengths.iter().zip(numbers);
    let texts = pairs.map(|(length, times)| positive(length).saturating_mul(positive(times)));
    Ok(texts.fold(0, i64::saturating_add))
}
