//! What a tenant, a domain or a device may be called.

use crate::limits::{DOMAIN_LEN_MAX, ID_LEN_MAX};

/// Domain names that would collide with paths of the HTTP interface or with tables of the registry.
pub const RESERVED_DOMAINS: [&str; 12] = [
    "sql",
    "domains",
    "live",
    "me",
    "city",
    "devices",
    "sites",
    "tenants",
    "public",
    "attention",
    "dead_letters",
    "docs",
];

/// Whether `c` may stand in an id.
pub const fn is_id_char(c: u8) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-')
}

/// Whether `id` names a tenant, device or site: 1 to 64 characters of `a-z A-Z 0-9 . _ -`.
pub fn is_id(id: &str) -> bool {
    (1..=ID_LEN_MAX).contains(&id.len()) && id.bytes().all(is_id_char)
}

/// Whether `name` has the shape of a domain: `[a-z][a-z0-9_]{0,47}`.
///
/// A name of this shape may still be [reserved](is_reserved_domain).
pub fn is_domain_name(name: &str) -> bool {
    (1..=DOMAIN_LEN_MAX).contains(&name.len())
        && name.as_bytes()[0].is_ascii_lowercase()
        && name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_')
}

/// Whether no schema may take this name: `{domain}_latest` belongs to the domain, the others to the interface.
pub fn is_reserved_domain(name: &str) -> bool {
    name.ends_with("_latest") || RESERVED_DOMAINS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_hold_up_to_64_letters_digits_dots_underscores_and_dashes() {
        assert!(is_id("bus-2228"));
        assert!(is_id(&"x".repeat(64)));
        for bad in ["", "a/b", "a b", "ä", "a+b", "a#", &"x".repeat(65)] {
            assert!(!is_id(bad), "{bad}");
        }
    }

    #[test]
    fn domain_names_are_lower_case_and_start_with_a_letter() {
        assert!(is_domain_name("device_health"));
        for bad in ["", "Energy", "1st", "_x", "a-b", &"x".repeat(49)] {
            assert!(!is_domain_name(bad), "{bad}");
        }
        assert!(is_reserved_domain("fleet_latest"));
        assert!(is_reserved_domain("docs"));
        assert!(!is_reserved_domain("fleet"));
    }
}
