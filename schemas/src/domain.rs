//! A domain: every version of its schema, and the table they make together.
//!
//! Schemas only grow: a version may add optional fields; the name, type, logical type and unit of a
//! field never change, and no field goes. So the newest version reads what any earlier one wrote.

use std::{collections::BTreeMap, sync::Arc};

use arrow::datatypes::{DataType, Field as ArrowField, Schema as ArrowSchema, SchemaRef};

use crate::schema::{Error, Field, Kind, Schema};

/// The five domains that every city has from the first day.
pub const BUILTIN: [&str; 5] = [
    include_str!("../energy.avsc"),
    include_str!("../parking.avsc"),
    include_str!("../fleet.avsc"),
    include_str!("../connectivity.avsc"),
    include_str!("../device_health.avsc"),
];

/// Every version of one domain's schema, and the columns of its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    versions: Vec<Arc<Schema>>,
    columns: SchemaRef,
}

impl Domain {
    /// A domain of one version.
    pub fn new(schema: Schema) -> Domain {
        let columns = columns(&schema);
        Domain { versions: vec![Arc::new(schema)], columns }
    }

    /// The domain with one more version; `None` where this version is known already.
    ///
    /// # Errors
    /// [`Error::NotGrown`] where the version changes or drops what an earlier one declared.
    pub fn grow(&self, schema: Schema) -> Result<Option<Domain>, Error> {
        // A version that lies before the newest is held against its own kind first: the file on disk
        // may simply be older than the lake.
        if let Some(known) = self.versions.iter().find(|known| known.fingerprint == schema.fingerprint) {
            grows_from(known, &schema)?;
            return Ok(None);
        }
        grows_from(self.newest(), &schema)?;
        let columns = columns(&schema);
        let versions = self.versions.iter().cloned().chain([Arc::new(schema)]).collect();
        Ok(Some(Domain { versions, columns }))
    }

    /// The domain's name, which is its table's name too.
    pub fn name(&self) -> &str {
        &self.newest().name
    }

    /// The newest version.
    pub fn newest(&self) -> &Arc<Schema> {
        self.versions.last().expect("a domain has at least one version")
    }

    /// All versions, oldest first.
    pub fn versions(&self) -> &[Arc<Schema>] {
        &self.versions
    }

    /// The number of the version with this fingerprint.
    pub fn version(&self, fingerprint: u64) -> Option<usize> {
        self.versions.iter().position(|schema| schema.fingerprint == fingerprint)
    }

    /// The table's columns: the common ones, the newest version's own, `date` last.
    pub fn columns(&self) -> &SchemaRef {
        &self.columns
    }

    /// The newest version's fields without those that are common columns.
    pub fn own_fields(&self) -> impl Iterator<Item = &Field> {
        self.newest().fields.iter().filter(|field| field.name != "time" && field.name != "seq")
    }
}

/// The domains a program knows, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Domains(BTreeMap<String, Arc<Domain>>);

impl Domains {
    /// The five that every city has.
    pub fn builtin() -> Domains {
        let mut domains = Domains::default();
        for text in BUILTIN {
            domains.add(text).expect("a test reads the files in this folder");
        }
        domains
    }

    /// Adds a schema: a new domain, or a new version of a known one. Answers the domain if it changed.
    ///
    /// # Errors
    /// As [`Schema::parse`] and [`Domain::grow`].
    pub fn add(&mut self, text: &str) -> Result<Option<Arc<Domain>>, Error> {
        let schema = Schema::parse(text)?;
        let grown = match self.0.get(&schema.name) {
            None => Some(Domain::new(schema)),
            Some(domain) => domain.grow(schema)?,
        };
        Ok(grown.map(|domain| {
            let domain = Arc::new(domain);
            self.0.insert(domain.name().to_owned(), domain.clone());
            domain
        }))
    }

    /// The domain of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Domain>> {
        self.0.get(name)
    }

    /// All domains, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Domain>> {
        self.0.values()
    }
}

fn grows_from(old: &Schema, new: &Schema) -> Result<(), Error> {
    let fail = |problem: String| Err(Error::NotGrown { schema: new.name.clone(), problem });
    for was in &old.fields {
        let Some(is) = new.field(&was.name) else {
            return fail(format!("field `{}` is missing; fields are never dropped", was.name));
        };
        if (is.kind, is.required, &is.unit) != (was.kind, was.required, &was.unit) {
            let (was_text, is_text) = (was.describe(), is.describe());
            return fail(format!(
                "field `{}` was {was_text} and would become {is_text}; add a field of another name instead",
                was.name
            ));
        }
    }
    match new.fields.iter().find(|is| old.field(&is.name).is_none() && is.required) {
        Some(is) => {
            fail(format!("the new field `{}` must be optional: older devices do not send it", is.name))
        }
        None => Ok(()),
    }
}

/// A column of ours with its meaning and unit as metadata.
pub(crate) fn column(name: &str, data_type: DataType, nullable: bool, doc: &str, unit: &str) -> ArrowField {
    let metadata = [("doc", doc), ("unit", unit)].map(|(key, value)| (key.to_owned(), value.to_owned()));
    ArrowField::new(name, data_type, nullable).with_metadata(metadata.into())
}

fn columns(schema: &Schema) -> SchemaRef {
    let of = |name: &str| schema.field(name).map(|field| field.doc.as_str()).unwrap_or_default();
    let text = || DataType::Utf8View;
    let mut columns = vec![
        column("tenant", text(), false, "the municipality or other body whose device this is", ""),
        column("device", text(), false, "the device, by its id within the tenant", ""),
        column("time", Kind::Time.data_type(), false, of("time"), "us"),
        column("received_at", Kind::Time.data_type(), false, "when ingest took the reading", "us"),
        column("seq", DataType::Int64, true, of("seq"), "1"),
        column(
            "extra",
            text(),
            true,
            "fields of a JSON payload that the schema does not know, as JSON text",
            "",
        ),
    ];
    let own = schema.fields.iter().filter(|field| field.name != "time" && field.name != "seq");
    columns.extend(own.map(|field| {
        let mut column =
            column(&field.name, field.kind.data_type(), !field.required, &field.doc, &field.unit);
        if field.counter {
            column.metadata_mut().insert("counter".into(), "true".into());
        }
        column
    }));
    columns.push(column("date", DataType::Date32, false, "UTC date of `time`", "d"));
    Arc::new(ArrowSchema::new(columns))
}

#[cfg(test)]
mod tests;
