//! One version of a domain's schema: an `.avsc` file and the fields it declares.
//!
//! The files are Avro records (Apache Avro 1.12 specification) of primitive fields, each plain or
//! `["null", T]`, with two attributes of ours: `unit` (a UCUM code, empty for text) and `counter`.

use arrow::datatypes::{DataType, TimeUnit};
use arrow_avro::schema::{AvroSchema, Fingerprint, FingerprintAlgorithm};
use serde_json::{Value, json};

use crate::id::{is_domain_name, is_reserved_domain};

/// Names that every table has by itself.
const OWN_COLUMNS: [&str; 5] = ["tenant", "device", "received_at", "extra", "date"];

/// An `.avsc` file that cannot be used, or that does not grow out of the versions before it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The text is no JSON or no Avro record of the shape that tables can hold.
    #[error("schema `{schema}` cannot be used: {problem}")]
    Unusable {
        /// The schema's name, or the file's where it has none.
        schema: String,
        /// What is wrong and what to write instead.
        problem: String,
    },
    /// Schemas only grow; this one changes or drops what an earlier version declared.
    #[error("schema `{schema}` does not grow out of its earlier version: {problem}")]
    NotGrown {
        /// The schema's name.
        schema: String,
        /// Which field, what it was, what it would become.
        problem: String,
    },
}

/// One version of a domain's schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    /// The domain.
    pub name: String,
    /// What a reading of it is about.
    pub doc: String,
    /// All fields in the file's order, `time` among them.
    pub fields: Vec<Field>,
    /// CRC-64-AVRO of the canonical form; it covers names and types, not units and logical types.
    pub fingerprint: u64,
    /// The file as it was given.
    pub text: String,
}

/// One field of a reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The column.
    pub name: String,
    /// What it means.
    pub doc: String,
    /// UCUM code of its unit; empty for text.
    pub unit: String,
    /// What it holds.
    pub kind: Kind,
    /// Whether each reading must have it.
    pub required: bool,
    /// Whether it only rises, but for resets.
    pub counter: bool,
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// True or false.
    Boolean,
    /// 32-bit integer.
    Int,
    /// 64-bit integer.
    Long,
    /// 32-bit float.
    Float,
    /// 64-bit float.
    Double,
    /// UTF-8 text.
    Text,
    /// Microseconds since 1970, UTC.
    Time,
}

impl Kind {
    /// The Arrow type of the column.
    pub fn data_type(self) -> DataType {
        match self {
            Kind::Boolean => DataType::Boolean,
            Kind::Int => DataType::Int32,
            Kind::Long => DataType::Int64,
            Kind::Float => DataType::Float32,
            Kind::Double => DataType::Float64,
            Kind::Text => DataType::Utf8View,
            Kind::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }

    /// The type's name in Avro, for messages.
    pub fn avro_name(self) -> &'static str {
        match self {
            Kind::Boolean => "boolean",
            Kind::Int => "int",
            Kind::Long => "long",
            Kind::Float => "float",
            Kind::Double => "double",
            Kind::Text => "string",
            Kind::Time => "timestamp-micros",
        }
    }
}

impl Schema {
    /// Reads an `.avsc` file.
    ///
    /// # Errors
    /// [`Error::Unusable`] with what to write instead.
    pub fn parse(text: &str) -> Result<Schema, Error> {
        let json: Value = serde_json::from_str(text)
            .map_err(|error| unusable("(unnamed)", format!("it is no JSON: {error}")))?;
        let name = json["name"].as_str().unwrap_or_default().to_owned();
        let fail = |problem: String| unusable(&name, problem);
        if json["type"] != "record" {
            return Err(fail("its `type` must be `record`".into()));
        }
        if !is_domain_name(&name) || is_reserved_domain(&name) {
            return Err(fail(
                "its `name` becomes a table: write `[a-z][a-z0-9_]{0,47}`, not ending in `_latest`, and none of the \
                 reserved names"
                    .into(),
            ));
        }
        let fields = json["fields"].as_array().ok_or_else(|| fail("it has no `fields`".into()))?;
        let fields =
            fields.iter().map(|field| Field::parse(field).map_err(&fail)).collect::<Result<Vec<_>, _>>()?;
        check_fields(&fields).map_err(&fail)?;
        let fingerprint = fingerprint(text).map_err(fail)?;
        let doc = json["doc"].as_str().unwrap_or_default().to_owned();
        Ok(Schema { name, doc, fields, fingerprint, text: text.to_owned() })
    }

    /// The same schema for a decoder: what is understood here and nothing else.
    ///
    /// A file may hold attributes of other programs, or the same key twice, which a decoder need not bear.
    pub(crate) fn avro(&self) -> AvroSchema {
        let fields: Vec<Value> = self.fields.iter().map(Field::avro).collect();
        AvroSchema::new(json!({"type": "record", "name": self.name, "fields": fields}).to_string())
    }

    /// The field of this name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

impl Field {
    fn parse(json: &Value) -> Result<Field, String> {
        let name = json["name"].as_str().unwrap_or_default().to_owned();
        if !is_domain_name(&name) {
            return Err(format!("field name `{name}` must be `[a-z][a-z0-9_]{{0,47}}`"));
        }
        let of_field = |problem: &str| format!("field `{name}` {problem}");
        let (kind, required) = parse_type(&json["type"]).map_err(|problem| of_field(&problem))?;
        if !required && json.get("default") != Some(&Value::Null) {
            return Err(of_field("is optional: give it `\"default\": null`"));
        }
        let unit = match json.get("unit") {
            None => String::new(),
            Some(Value::String(unit)) => unit.clone(),
            Some(_) => return Err(of_field("has a `unit` that is no text")),
        };
        let doc = json["doc"].as_str().unwrap_or_default().to_owned();
        let counter = json["counter"].as_bool().unwrap_or(false);
        Ok(Field { name, doc, unit, kind, required, counter })
    }

    fn avro(&self) -> Value {
        let kind = match self.kind {
            Kind::Time => json!({"type": "long", "logicalType": "timestamp-micros"}),
            plain => json!(plain.avro_name()),
        };
        if self.required {
            json!({"name": self.name, "type": kind})
        } else {
            json!({"name": self.name, "type": ["null", kind], "default": null})
        }
    }

    /// The type as its users see it, for messages: `["null", "double"] in W`.
    pub fn describe(&self) -> String {
        let kind = self.kind.avro_name();
        let kind = if self.required { kind.to_owned() } else { format!("[null, {kind}]") };
        if self.unit.is_empty() { kind } else { format!("{kind} in `{}`", self.unit) }
    }
}

/// What a type holds and whether it is required.
fn parse_type(json: &Value) -> Result<(Kind, bool), String> {
    let Value::Array(branches) = json else {
        return Ok((parse_kind(json)?, true));
    };
    match branches.as_slice() {
        // Null first, as the default must be of the first branch.
        [null, kind] if null == "null" => Ok((parse_kind(kind)?, false)),
        _ => Err("may only be a union of `null`, first, and one other type".into()),
    }
}

fn parse_kind(json: &Value) -> Result<Kind, String> {
    let (name, logical) = match json {
        Value::Object(object) => (
            object.get("type").and_then(Value::as_str).unwrap_or_default(),
            object.get("logicalType").and_then(Value::as_str),
        ),
        other => (other.as_str().unwrap_or_default(), None),
    };
    match (name, logical) {
        ("boolean", None) => Ok(Kind::Boolean),
        ("int", None) => Ok(Kind::Int),
        ("long", None) => Ok(Kind::Long),
        ("long", Some("timestamp-micros")) => Ok(Kind::Time),
        ("float", None) => Ok(Kind::Float),
        ("double", None) => Ok(Kind::Double),
        ("string", None) => Ok(Kind::Text),
        (name, Some(logical)) => Err(format!(
            "has the logical type `{logical}` on `{name}`; only timestamp-micros on long is known"
        )),
        _ => Err("must be boolean, int, long, float, double, string or a timestamp-micros".into()),
    }
}

fn check_fields(fields: &[Field]) -> Result<(), String> {
    match fields.iter().find(|field| field.name == "time") {
        Some(time) if time.kind == Kind::Time && time.required => {}
        _ => {
            return Err(
                "it needs a field `time` of type long with logicalType timestamp-micros, required".into()
            );
        }
    }
    if fields.iter().any(|field| field.name == "seq" && (field.kind != Kind::Long || field.required)) {
        return Err("its field `seq` must be `[\"null\", \"long\"]`".into());
    }
    for (index, field) in fields.iter().enumerate() {
        if OWN_COLUMNS.contains(&field.name.as_str()) {
            return Err(format!("every table has the column `{}` already", field.name));
        }
        if fields[..index].iter().any(|other| other.name == field.name) {
            return Err(format!("it declares `{}` twice", field.name));
        }
    }
    Ok(())
}

fn fingerprint(text: &str) -> Result<u64, String> {
    match AvroSchema::new(text.to_owned()).fingerprint(FingerprintAlgorithm::Rabin) {
        Ok(Fingerprint::Rabin(fingerprint)) => Ok(fingerprint),
        Ok(_) => Err("it has no CRC-64-AVRO fingerprint".into()),
        Err(error) => Err(error.to_string()),
    }
}

fn unusable(schema: &str, problem: String) -> Error {
    Error::Unusable { schema: schema.to_owned(), problem }
}
