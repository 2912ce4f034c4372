//! Where the broker is, who we are there, and for which tenants it is trusted.

use std::fmt;

use url::Url;
use zeugma_schemas::{id::is_id, topic::PREFIX};

/// A broker, as its URL says: `mqtt://[user:password@]host[:1883]/?tenants=a,b`, or `mqtts://…` with TLS.
#[derive(Clone, PartialEq, Eq)]
pub struct Config {
    /// Name or address of the broker.
    pub host: String,
    /// Port, 1883 or with TLS 8883 where the URL names none.
    pub port: u16,
    /// Whether the connection is encrypted and the broker's certificate checked.
    pub tls: bool,
    /// Who we are at the broker.
    pub username: Option<String>,
    /// How we prove it.
    pub password: Option<String>,
    /// The tenants for which the broker may speak; none means all.
    pub tenants: Option<Vec<String>>,
}

impl fmt::Debug for Config {
    /// All but the password, as this may end in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("address", &self.address())
            .field("tls", &self.tls)
            .field("username", &self.username)
            .field("tenants", &self.tenants)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// Reads a broker's URL.
    ///
    /// # Errors
    /// One sentence for whoever wrote the URL; it never repeats the password.
    pub fn parse(url: &str) -> Result<Config, String> {
        let url = Url::parse(url).map_err(|error| format!("{EXPECTED}, and this is no URL: {error}"))?;
        let tls = match url.scheme() {
            "mqtt" => false,
            "mqtts" => true,
            other => return Err(format!("{EXPECTED}, not {other}://")),
        };
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or("the broker's URL names no host")?;
        if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
            return Err(
                "the broker's URL has no path and no `#`; in a password, write `/` as %2F and `#` as %23"
                    .into(),
            );
        }
        let (username, password) = credentials(&url)?;
        let tenants = tenants(&url)?;
        let port = url.port().unwrap_or(if tls { 8883 } else { 1883 });
        Ok(Config { host: host.to_owned(), port, tls, username, password, tenants })
    }

    /// Host and port, as they are shown to people.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Whether what is published to a topic is kept. A topic that names no tenant is, so that it can become
    /// a dead letter.
    pub(super) fn trusts(&self, topic: &str) -> bool {
        let Some(tenants) = &self.tenants else { return true };
        let tenant = topic.strip_prefix(PREFIX).and_then(|rest| rest.split('/').next());
        tenant.is_none_or(|tenant| !is_id(tenant) || tenants.iter().any(|trusted| trusted == tenant))
    }
}

const EXPECTED: &str = "a broker is written as mqtt://host:1883 or mqtts://host:8883";

fn credentials(url: &Url) -> Result<(Option<String>, Option<String>), String> {
    let decode = |text: &str| percent_decode(text).ok_or("the broker's user or password has a bad % escape");
    let username = Some(url.username()).filter(|name| !name.is_empty()).map(decode).transpose()?;
    let password = url.password().map(decode).transpose()?;
    if password.is_some() && username.is_none() {
        return Err("the broker's URL has a password without a user".into());
    }
    Ok((username, password))
}

fn tenants(url: &Url) -> Result<Option<Vec<String>>, String> {
    let mut tenants = None;
    for (key, value) in url.query_pairs() {
        if key != "tenants" || tenants.is_some() {
            return Err(format!("the broker's URL takes one `tenants=a,b` behind `?`, not `{key}`"));
        }
        if let Some(bad) = value.split(',').find(|tenant| !is_id(tenant)) {
            return Err(format!("`{bad}` in the broker's `tenants=` is no tenant's id"));
        }
        tenants = Some(value.split(',').map(str::to_owned).collect());
    }
    Ok(tenants)
}

/// `%40` and the like as what they stand for.
fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first == b'%' {
            let ([high, low], after) = rest.split_first_chunk()?;
            let digit = |c: u8| char::from(c).to_digit(16);
            bytes.push((digit(*high)? * 16 + digit(*low)?) as u8);
            rest = after;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_says_all_there_is_to_say() {
        let config =
            Config::parse("mqtts://city%40x:p%2Fw%2b@broker.example/?tenants=lamia,volos").expect("good");
        assert_eq!((config.host.as_str(), config.port, config.tls), ("broker.example", 8883, true));
        assert_eq!(config.username.as_deref(), Some("city@x"));
        assert_eq!(config.password.as_deref(), Some("p/w+"));
        assert_eq!(config.tenants, Some(vec!["lamia".to_owned(), "volos".to_owned()]));
        assert!(!format!("{config:?}").contains("p/w"), "the password is not shown");
    }

    #[test]
    fn url_without_options_means_every_tenant_on_port_1883() {
        let config = Config::parse("mqtt://localhost").expect("good");
        assert_eq!((config.port, config.tls, config.tenants.is_none()), (1883, false, true));
        assert_eq!(Config::parse("mqtt://[::1]:1/").expect("good").address(), "[::1]:1");
    }

    #[test]
    fn bad_urls_are_explained() {
        for (url, word) in [
            ("localhost:1883", "mqtt://host"),
            ("http://x", "not http://"),
            ("mqtt://", "no host"),
            ("mqtt://x/city", "no path"),
            ("mqtt://x/#y", "no path"),
            ("mqtt://:p@x", "without a user"),
            ("mqtt://u%zz@x", "bad % escape"),
            ("mqtt://x/?tenant=a", "not `tenant`"),
            ("mqtt://x/?tenants=", "no tenant's id"),
            ("mqtt://x/?tenants=a,b%20c", "no tenant's id"),
            ("mqtt://x/?tenants=a&tenants=b", "one `tenants=a,b`"),
        ] {
            let error = Config::parse(url).expect_err(url);
            assert!(error.contains(word), "{url}: {error}");
        }
    }

    #[test]
    fn broker_is_trusted_for_the_tenants_listed() {
        let config = Config::parse("mqtt://x/?tenants=lamia").expect("good");
        for kept in
            ["city/v1/lamia/fleet/bus-1", "city/v1/lamia/no/such/shape", "city/v1", "city/v1/ /fleet/x"]
        {
            assert!(config.trusts(kept), "{kept}");
        }
        for refused in ["city/v1/volos/fleet/bus-1", "city/v1/volos", "city/v1/Lamia/fleet/bus-1"] {
            assert!(!config.trusts(refused), "{refused}");
        }
        assert!(Config::parse("mqtt://x").expect("good").trusts("city/v1/volos/fleet/bus-1"));
    }
}
