//! Watermarks: the newest time accepted of each device, by which most readings are known to be new.

use std::collections::HashMap;

/// The newest time of each device, by domain, tenant and device.
#[derive(Debug, Default)]
pub struct Watermarks {
    domains: HashMap<String, HashMap<String, HashMap<String, i64>>>,
}

impl Watermarks {
    /// The newest time accepted; `None` where the device has never been accepted.
    pub fn of(&self, domain: &str, tenant: &str, device: &str) -> Option<i64> {
        self.domains.get(domain)?.get(tenant)?.get(device).copied()
    }

    /// Raises a device's watermark to a time; it never falls.
    pub fn raise(&mut self, domain: &str, tenant: &str, device: &str, time_us: i64) {
        // Looked up by reference first: a known device costs no allocation.
        if let Some(known) = self
            .domains
            .get_mut(domain)
            .and_then(|tenants| tenants.get_mut(tenant))
            .and_then(|devices| devices.get_mut(device))
        {
            *known = (*known).max(time_us);
            return;
        }
        let tenants = self.domains.entry(domain.to_owned()).or_default();
        let devices = tenants.entry(tenant.to_owned()).or_default();
        devices.insert(device.to_owned(), time_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watermark_rises_and_never_falls() {
        let mut watermarks = Watermarks::default();
        assert_eq!(watermarks.of("fleet", "lamia", "bus-1"), None);
        watermarks.raise("fleet", "lamia", "bus-1", 5);
        watermarks.raise("fleet", "lamia", "bus-1", 3);
        watermarks.raise("fleet", "lamia", "bus-2", 9);
        assert_eq!(watermarks.of("fleet", "lamia", "bus-1"), Some(5));
        assert_eq!(watermarks.of("parking", "lamia", "bus-1"), None);
    }
}
