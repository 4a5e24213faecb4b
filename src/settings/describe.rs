//! Shows the settings as text, for the start-up log and for `leadhook check`.

use std::path::Path;

use super::{LogFormat, Rotating, Settings, TlsVersion, words::spoken_size};
use crate::duration::spoken;

impl Settings {
    /// Returns one line for each key, `section.key = value`, in the order of [`super::reference`]. Shows no
    /// credentials: URLs of the broker lack user information and query.
    pub fn describe(&self) -> Vec<String> {
        self.values().into_iter().map(|(key, value)| format!("{key} = {value}")).collect()
    }

    /// Returns the lines of [`Settings::describe`] that differ from the defaults, for the start-up log. Omits a URL
    /// that differs only in its credentials.
    pub fn changed(&self) -> Vec<String> {
        let defaults = super::defaults().map(|defaults| defaults.describe()).unwrap_or_default();
        self.describe().into_iter().filter(|line| !defaults.contains(line)).collect()
    }

    fn values(&self) -> Vec<(&'static str, String)> {
        let Settings {
            amqp,
            topology,
            store,
            delivery,
            delivery_log,
            secrets,
            egress,
            tls,
            backoff,
            shutdown,
            admin,
            console,
            log,
        } = self;
        vec![
            ("amqp.urls", listed(&amqp.urls.last())),
            ("amqp.urls_file", file(Some(&amqp.urls))),
            ("amqp.prefix", amqp.prefix.clone()),
            ("amqp.exchange", amqp.exchange.clone()),
            ("amqp.routing_keys", amqp.routing_keys.join(", ")),
            ("amqp.ca_file", or_none(amqp.ca_file.as_deref().map(shown))),
            ("amqp.client_certificate", or_none(amqp.client_certificate.as_deref().map(shown))),
            ("amqp.client_key", or_none(amqp.client_key.as_deref().map(shown))),
            ("amqp.management_url", or_none(amqp.management_url.as_ref().map(Rotating::to_string))),
            ("amqp.management_url_file", file(amqp.management_url.as_ref())),
            ("amqp.confirm_timeout", spoken(amqp.confirm_timeout)),
            ("amqp.heartbeat", spoken(amqp.heartbeat)),
            ("topology.declare", topology.declare.to_string()),
            ("store.path", shown(&store.path)),
            ("store.settle", spoken(store.settle)),
            ("delivery.concurrency", delivery.concurrency.to_string()),
            ("delivery.max_in_flight", delivery.max_in_flight.to_string()),
            ("delivery.maximum_age", spoken(delivery.maximum_age)),
            ("delivery.event_prefetch", delivery.event_prefetch.to_string()),
            ("delivery.direct", delivery.direct.to_string()),
            ("delivery.max_event_bytes", spoken_size(delivery.max_event_bytes as u64)),
            ("delivery_log.enabled", delivery_log.enabled.to_string()),
            ("delivery_log.maximum_age", spoken(delivery_log.maximum_age)),
            ("delivery_log.max_bytes", spoken_size(delivery_log.max_bytes)),
            ("secrets.environment_prefix", secrets.environment_prefix.clone()),
            ("secrets.directory", or_none(secrets.directory.as_deref().map(shown))),
            ("egress.allow", listed(&egress.allow)),
            ("egress.deny", listed(&egress.deny)),
            ("egress.plain_http", egress.plain_http.to_string()),
            ("egress.proxy", or_none(egress.proxy.as_ref().map(Rotating::to_string))),
            ("egress.proxy_file", file(egress.proxy.as_ref())),
            ("egress.proxy_resolves", egress.proxy_resolves.to_string()),
            ("egress.name_servers", listed(&egress.name_servers)),
            ("tls.ca_file", or_none(tls.ca_file.as_deref().map(shown))),
            ("tls.minimum_version", version_name(tls.minimum_version).to_owned()),
            ("backoff.initial", spoken(backoff.initial)),
            ("backoff.multiplier", backoff.multiplier.to_string()),
            ("backoff.maximum", spoken(backoff.maximum)),
            ("backoff.jitter", backoff.jitter.to_string()),
            ("backoff.retry_after_maximum", spoken(backoff.retry_after_maximum)),
            ("shutdown.grace", spoken(shutdown.grace)),
            ("admin.listen", admin.listen.to_string()),
            ("admin.failed_threshold", admin.failed_threshold.to_string()),
            ("admin.rejected_threshold", admin.rejected_threshold.to_string()),
            ("admin.unreadable_threshold", admin.unreadable_threshold.to_string()),
            ("console.listen", console.listen.to_string()),
            ("console.credentials", listed(&console.credentials.last())),
            ("console.credentials_file", file(Some(&console.credentials))),
            ("console.hosts", listed(&console.hosts)),
            ("console.discard_directory", or_none(console.discard_directory.as_deref().map(shown))),
            ("log.format", format_name(log.format).to_owned()),
            ("log.level", log.level.clone()),
        ]
    }
}

fn format_name(format: LogFormat) -> &'static str {
    match format {
        LogFormat::Auto => "auto",
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    }
}

fn version_name(version: TlsVersion) -> &'static str {
    match version {
        TlsVersion::V1_2 => "1.2",
        TlsVersion::V1_3 => "1.3",
    }
}

fn listed<T: ToString>(entries: &[T]) -> String {
    let entries: Vec<_> = entries.iter().map(T::to_string).collect();
    or_none((!entries.is_empty()).then(|| entries.join(", ")))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Shows the file from which a value comes.
fn file<T: PartialEq>(value: Option<&Rotating<T>>) -> String {
    or_none(value.and_then(Rotating::path).map(shown))
}

fn or_none(value: Option<String>) -> String {
    value.unwrap_or_else(|| "none".to_owned())
}
