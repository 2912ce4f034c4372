//! Functions of ours in front of the engine's: the same to whoever plans, and something else first when they are called.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use arrow::datatypes::{DataType, FieldRef};
use datafusion::{
    common::{Result, config::ConfigOptions},
    logical_expr::{
        ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
        Signature,
        sort_properties::{ExprProperties, SortProperties},
    },
};

/// What a function does with its arguments, given the engine's.
pub type Call = fn(&ScalarUDF, ScalarFunctionArgs) -> Result<ColumnarValue>;

/// A function in front of the engine's.
#[derive(Debug)]
pub struct InFront {
    engine: Arc<ScalarUDF>,
    call: Call,
}

impl InFront {
    /// The function that does this in front of the engine's.
    pub fn of(engine: Arc<ScalarUDF>, call: Call) -> ScalarUDF {
        ScalarUDF::from(InFront { engine, call })
    }
}

// Of each of the engine's functions there is one in front.
impl PartialEq for InFront {
    fn eq(&self, other: &InFront) -> bool {
        self.engine == other.engine
    }
}

impl Eq for InFront {}

impl Hash for InFront {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.engine.hash(state);
    }
}

impl ScalarUDFImpl for InFront {
    fn name(&self) -> &str {
        self.engine.name()
    }

    fn aliases(&self) -> &[String] {
        self.engine.aliases()
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

    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        self.engine.inner().with_updated_config(config)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.engine.output_ordering(inputs)
    }

    fn preserves_lex_ordering(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.engine.preserves_lex_ordering(inputs)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.engine.documentation()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        (self.call)(&self.engine, args)
    }
}
