//! Watermarks: the newest time accepted of each device, by which most readings are known to be new.

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
