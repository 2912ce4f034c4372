//! The MQTT address of a device's readings: `city/v1/{tenant}/{domain}/{device}`.

use core::fmt;

use crate::id::{is_domain_name, is_id};

/// What every topic of ours begins with.
pub const PREFIX: &str = "city/v1/";

/// The filter that covers every topic of ours.
pub const FILTER: &str = "city/v1/#";

/// A topic taken apart; its parts have the shape of ids, nothing more is known of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topic<'a> {
    /// Whose device it is.
    pub tenant: &'a str,
    /// Which table the readings belong to.
    pub domain: &'a str,
    /// Which device took them.
    pub device: &'a str,
}

impl<'a> Topic<'a> {
    /// Takes a topic apart; `None` where it has another shape.
    pub fn parse(topic: &'a str) -> Option<Topic<'a>> {
        let mut parts = topic.strip_prefix(PREFIX)?.split('/');
        let topic = Topic { tenant: parts.next()?, domain: parts.next()?, device: parts.next()? };
        let whole = parts.next().is_none()
            && is_id(topic.tenant)
            && is_domain_name(topic.domain)
            && is_id(topic.device);
        whole.then_some(topic)
    }
}

impl fmt::Display for Topic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}/{}/{}", self.tenant, self.domain, self.device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_comes_apart_and_together_again() {
        let text = "city/v1/lamia/fleet/bus-1";
        let topic = Topic::parse(text).expect("well-formed");
        assert_eq!((topic.tenant, topic.domain, topic.device), ("lamia", "fleet", "bus-1"));
        assert_eq!(std::format!("{topic}"), text);
    }

    #[test]
    fn topic_of_another_shape_is_none() {
        let long = std::format!("city/v1/lamia/fleet/{}", "x".repeat(65));
        for bad in [
            "",
            "city/v1",
            "city/v1/a/b",
            "city/v1/a/b/c/d",
            "city/v2/a/b/c",
            "/city/v1/a/b/c",
            "city/v1//fleet/x",
            "city/v1/a/Fleet/x",
            "city/v1/a/fleet/x y",
            "city/v1/a/fleet/",
            &long,
        ] {
            assert_eq!(Topic::parse(bad), None, "{bad}");
        }
    }
}
