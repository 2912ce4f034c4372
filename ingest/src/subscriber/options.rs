//! What the client library is told: a session that the broker keeps, acknowledged by hand, with TLS if wished.

use std::{sync::Arc, time::Duration};

use rumqttc::{
    NetworkOptions, TlsConfiguration, Transport,
    tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::CryptoProvider},
    v5::{
        MqttOptions,
        mqttbytes::{
            QoS,
            v5::{Filter, RetainForwardRule},
        },
    },
};
use zeugma_schemas::topic::FILTER;

use super::{Config, Error};

/// Publishes that we ask the broker to send at most before the first of them is acknowledged: at 100,000 a
/// second what comes in a sixth of a second, and a sync takes milliseconds.
pub(super) const RECEIVE_MAXIMUM: u16 = 16 << 10;

/// Publishes that we bear, at 4 bytes each. When a session is taken up again mosquitto (2.0) sends all that it
/// has, whatever it was asked, and more than there are packet ids; whoever breaks off then gets it all again.
/// Half an hour of 10,000 a second is 18 million; this is 80 MB.
pub(super) const UNACKNOWLEDGED_MAX: usize = 20_000_000;

/// Acknowledgements that are handed to the library ahead of their time.
pub(super) const ACKS_AHEAD_MAX: usize = 1_000;

/// Requests that may wait for the library: those, one subscription and one farewell.
pub(super) const REQUESTS_MAX: usize = ACKS_AHEAD_MAX + 2;

/// The largest packet of the protocol, whose header is five bytes: whatever the broker lets through is taken,
/// since one packet refused would come again at every reconnect and hold up all behind it.
const PACKET_BYTES_MAX: u32 = 268_435_455 + 5;

/// How long a silent connection is believed to stand.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Seconds until a broker that cannot be reached is given up, for this attempt.
const CONNECT_S_MAX: u64 = 10;

/// A session that the broker keeps for ever.
const FOR_EVER: Option<u32> = Some(u32::MAX);

/// The options of every connection of this source.
pub(super) fn options(config: &Config, source: &str) -> Result<MqttOptions, Error> {
    let mut options = MqttOptions::new(format!("zeugma-{source}"), &config.host, config.port);
    options
        .set_clean_start(false)
        .set_session_expiry_interval(FOR_EVER)
        .set_receive_maximum(Some(RECEIVE_MAXIMUM))
        .set_max_packet_size(Some(PACKET_BYTES_MAX))
        .set_manual_acks(true)
        .set_keep_alive(KEEP_ALIVE)
        .set_connection_timeout(CONNECT_S_MAX);
    // Acknowledgements are tiny packets; without this the kernel holds them back until the broker answers.
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options.set_network_options(network);
    if let Some(username) = &config.username {
        options.set_credentials(username, config.password.as_deref().unwrap_or_default());
    }
    if config.tls {
        options.set_transport(Transport::tls_with_config(tls()?));
    }
    Ok(options)
}

/// Undoes what the library copied from a broker's answer: a shorter session there must not become our wish,
/// nor a keep-alive of zero, at which the library would ping without pause.
pub(super) fn restore(options: &mut MqttOptions) {
    options.set_session_expiry_interval(FOR_EVER).set_keep_alive(KEEP_ALIVE);
}

/// The one subscription. Retained messages come once, not again at every start.
pub(super) fn filter() -> Filter {
    let mut filter = Filter::new(FILTER, QoS::AtLeastOnce);
    filter.retain_forward_rule = RetainForwardRule::OnNewSubscribe;
    filter
}

/// TLS with the roots that the machine trusts. A root that cannot be read is passed over.
fn tls() -> Result<TlsConfiguration, Error> {
    let provider =
        CryptoProvider::get_default().ok_or_else(|| Error::Tls("no cryptography is installed".into()))?;
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let problem = found.errors.first().map(ToString::to_string).unwrap_or_default();
        return Err(Error::Tls(format!("this machine has no root certificates. {problem}")));
    }
    let config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Tls(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config.into())
}
