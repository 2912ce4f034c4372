//! Watermarks: the newest time accepted of each device, by which most readings are known to be new.

use arrow::{
    array::{AsArray, PrimitiveArray, RecordBatch},
    datatypes::TimestampMicrosecondType,
};
use hashbrown::HashMap;

/// Before any time that a reading may have: that of a device of which none was accepted yet.
pub const NEVER_US: i64 = i64::MIN;

/// The newest time of each device, by domain, tenant and device.
#[derive(Debug, Default)]
pub struct Watermarks {
    domains: HashMap<String, HashMap<String, HashMap<String, i64>>>,
}

impl Watermarks {
    /// The newest time accepted, which the caller may raise; [`NEVER_US`] of a device that is new. A known
    /// device costs no allocation.
    pub fn of(&mut self, domain: &str, tenant: &str, device: &str) -> &mut i64 {
        let tenants = self.domains.entry_ref(domain).or_default();
        tenants.entry_ref(tenant).or_default().entry_ref(device).or_insert(NEVER_US)
    }

    /// Raises those of a domain to the times of these readings.
    pub fn raise(&mut self, domain: &str, rows: &RecordBatch) {
        let text = |name: &str| rows.column_by_name(name).and_then(|column| column.as_string_view_opt());
        let times = rows.column_by_name("time").and_then(|column| column.as_primitive_opt());
        let Some(((tenants, devices), times)) = text("tenant").zip(text("device")).zip(times) else { return };
        let times: &PrimitiveArray<TimestampMicrosecondType> = times;
        for row in 0..rows.num_rows() {
            let known = self.of(domain, tenants.value(row), devices.value(row));
            *known = times.value(row).max(*known);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_device_of_each_domain_has_a_watermark_of_its_own() {
        let mut watermarks = Watermarks::default();
        assert_eq!(*watermarks.of("fleet", "lamia", "bus-1"), NEVER_US);
        *watermarks.of("fleet", "lamia", "bus-1") = 5;
        *watermarks.of("fleet", "lamia", "bus-2") = 9;
        assert_eq!(*watermarks.of("fleet", "lamia", "bus-1"), 5);
        assert_eq!(*watermarks.of("parking", "lamia", "bus-1"), NEVER_US);
        assert_eq!(*watermarks.of("fleet", "ostrava", "bus-1"), NEVER_US);
    }
}
