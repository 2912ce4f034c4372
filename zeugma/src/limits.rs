//! How much devices may take: flags of `up` and `ingest`.

use zeugma_ingest::door::Limits;

/// What may be set; the reasons of the defaults stand at [`Limits`].
#[derive(Debug, Clone, clap::Args)]
pub struct LimitArgs {
    /// Connections in all; one more is refused
    #[arg(long, env = "ZEUGMA_MQTT_CONNECTIONS", value_name = "N", default_value_t = Limits::default().connections)]
    pub mqtt_connections: usize,
    /// Connections of one tenant; one more is refused
    #[arg(long, env = "ZEUGMA_TENANT_CONNECTIONS", value_name = "N", default_value_t = Limits::default().tenant_connections)]
    pub tenant_connections: usize,
    /// Bytes a second in all, as 128MiB; what is over waits; 0 is no limit
    #[arg(long, env = "ZEUGMA_MQTT_RATE", value_name = "BYTES", default_value = "128MiB", value_parser = bytes)]
    pub mqtt_rate: u64,
    /// Bytes a second of one tenant, as 32MiB; what is over waits; 0 is no limit
    #[arg(long, env = "ZEUGMA_TENANT_RATE", value_name = "BYTES", default_value = "32MiB", value_parser = bytes)]
    pub tenant_rate: u64,
}

impl Default for LimitArgs {
    fn default() -> LimitArgs {
        let Limits { connections, tenant_connections, rate_bytes, tenant_rate_bytes, .. } = Limits::default();
        LimitArgs {
            mqtt_connections: connections,
            tenant_connections,
            mqtt_rate: rate_bytes,
            tenant_rate: tenant_rate_bytes,
        }
    }
}

impl From<&LimitArgs> for Limits {
    fn from(args: &LimitArgs) -> Limits {
        Limits {
            connections: args.mqtt_connections,
            tenant_connections: args.tenant_connections,
            rate_bytes: args.mqtt_rate,
            tenant_rate_bytes: args.tenant_rate,
            ..Limits::default()
        }
    }
}

/// A number of bytes: `500`, `20kB`, `32MiB`.
fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit: u64 = match &text[digits.len()..] {
        "" | "B" => 1,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        other => return Err(format!("`{other}` is no unit: use B, kB, MB, GB, KiB, MiB or GiB")),
    };
    let number: u64 = digits.trim().parse().map_err(|_| "it begins with no whole number".to_owned())?;
    number.checked_mul(unit).ok_or_else(|| "it is too large".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        limits: LimitArgs,
    }

    #[test]
    fn flags_and_limits_have_the_same_defaults() {
        let parsed = Limits::from(&Line::parse_from(["zeugma"]).limits);
        assert_eq!(format!("{parsed:?}"), format!("{:?}", Limits::default()));
        assert_eq!(format!("{:?}", Limits::from(&LimitArgs::default())), format!("{:?}", Limits::default()));
    }

    #[test]
    fn bytes_have_units() {
        assert_eq!(["0", "20kB", "32MiB"].map(bytes), [Ok(0), Ok(20_000), Ok(32 << 20)]);
        for wrong in ["", "MiB", "3 parsecs", "1.5MB", "99999999999GiB", "-1"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
