//! Writes log lines to stderr: readable text on a terminal, else one JSON object per line. Stdout is for the answers of
//! commands.
//!
//! Some libraries would log secrets and lead data. lapin logs a returned message whole, body included, and HTTP
//! libraries log URLs and headers at their verbose levels. So libraries log warnings and errors only, and lapin logs
//! nothing. `allowed` silences them *behind* the filter that a user configures. In one filter, a directive such as
//! `lapin::channel=trace` would win over `lapin=off`, because it is more specific.
//!
//! A line does not name the module that wrote it. That key would be `target`, which is our word for a webhook's
//! destination. Readers disagree about an object that has a key twice, and Leadhook itself rejects such events.
//!
//! A panic is logged with its message only if that is a fixed text. A formatted message may hold lead data.

use std::io::IsTerminal;

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::filter_fn,
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::settings::{Log, LogFormat};

/// Starts logging to stderr for the whole process. Does nothing if logging has already started.
///
/// # Errors
/// If `log.level` is invalid. Loaded settings have already been checked for that.
pub fn init(log: &Log) -> Result<(), String> {
    let terminal = std::io::stderr().is_terminal();
    let json = match log.format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let _ = subscriber(filter(&log.level)?, json, terminal && !no_color(), std::io::stderr).try_init();
    Ok(())
}

/// Starts logging for commands that answer on stdout: warnings and errors only, as text on stderr.
pub fn init_for_commands() {
    let colours = std::io::stderr().is_terminal() && !no_color();
    if let Ok(warnings) = filter("warn") {
        let _ = subscriber(warnings, false, colours, std::io::stderr).try_init();
    }
}

/// Checks that `level` can be used as `log.level`.
///
/// # Errors
/// If it cannot be used. The message says what to write.
pub fn check_level(level: &str) -> Result<(), String> {
    filter(level).map(|_| ())
}

/// Returns whether a line may be logged, whatever the user's filter says.
fn allowed(metadata: &Metadata<'_>) -> bool {
    let library = metadata.target().split("::").next().unwrap_or_default();
    match library {
        "leadhook" => true,
        "lapin" | "amq_protocol" | "amq_protocol_tcp" => false,
        _ => *metadata.level() <= Level::WARN,
    }
}

/// Logs each later panic as one line: its place, and its message if that is a fixed text.
pub fn tell_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let what =
            panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("(not shown: it may hold lead data)");
        tracing::error!(place, what, "panic");
    }));
}

fn filter(level: &str) -> Result<EnvFilter, String> {
    let wrong = || {
        format!(
            "{level:?} is not a log level: write error, warn, info, debug, trace or off, \
             or filter directives such as info,leadhook::worker=debug"
        )
    };
    // `EnvFilter` reads a single word that is not a level as a module's name, and switches everything else off.
    let bare_words_are_levels = level.split(',').all(|directive| {
        directive.contains(['=', '[']) || directive.trim().parse::<tracing::level_filters::LevelFilter>().is_ok()
    });
    if level.trim().is_empty() || !bare_words_are_levels {
        return Err(wrong());
    }
    EnvFilter::try_new(level).map_err(|_| wrong())
}

fn subscriber<W>(filter: EnvFilter, json: bool, colours: bool, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines: Box<dyn Layer<_> + Send + Sync> = if json {
        let json = fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
        Box::new(json.with_target(false).with_writer(writer))
    } else {
        Box::new(fmt::layer().with_ansi(colours).with_target(false).with_writer(writer))
    };
    Registry::default().with(lines.with_filter(filter)).with(filter_fn(allowed))
}

/// Returns whether colours are unwanted, by the convention of no-color.org: `NO_COLOR` is set and not empty.
pub fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::{Arc, Mutex},
    };

    use super::{check_level, filter, subscriber};

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: &str, json: bool, colours: bool) -> String {
        let page = Page::default();
        let writer = page.clone();
        tracing::subscriber::with_default(
            subscriber(filter(level).unwrap(), json, colours, move || writer.clone()),
            || {
                tracing::info!(target: "leadhook::worker", target = "acme/ABC", job = 7, "delivered");
                tracing::debug!(target: "leadhook::worker", "considered");
                tracing::warn!(target: "lapin::returned_messages", "Server returned us a message: body-of-a-lead");
                tracing::error!(target: "lapin", "body-of-a-lead");
                tracing::debug!(target: "hyper_util::client", "header-of-a-target");
                tracing::trace!(target: "reqwest", "url-of-a-target");
                tracing::info!(target: "a_library_that_comes_later", "something-of-a-lead");
                tracing::warn!(target: "rustls::conn", "certificate");
            },
        );
        String::from_utf8(page.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn no_level_makes_libraries_write_lead_data() {
        for level in [
            "info",
            "trace",
            "lapin=trace,info",
            "lapin::returned_messages=warn",
            "trace,hyper_util=trace,reqwest=trace",
        ] {
            let page = logged(level, false, false);
            assert!(!page.contains("-of-a-"), "{level}: {page}");
        }
    }

    #[test]
    fn the_level_decides_what_else_is_written() {
        let info = logged("info", false, false);
        assert!(info.contains("delivered") && info.contains("certificate") && !info.contains("considered"), "{info}");
        assert!(logged("info,leadhook::worker=debug", false, false).contains("considered"));
        assert_eq!(logged("off", false, false), "");
    }

    #[test]
    fn lines_are_json_or_text_and_coloured_only_when_asked() {
        let page = logged("info", true, false);
        let line: serde_json::Value = serde_json::from_str(page.lines().next().unwrap()).unwrap();
        assert_eq!(line["message"], "delivered");
        assert_eq!(line["job"], 7);
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["target"], "acme/ABC");
        assert_eq!(page.lines().next().unwrap().matches("\"target\"").count(), 1, "the module is not a second target");
        assert!(!logged("info", false, false).contains('\u{1b}'));
        assert!(logged("info", false, true).contains('\u{1b}'));
    }

    #[test]
    fn a_wrong_level_is_told() {
        for level in ["", "loud", "info,loud", "leadhook=loud", "infos"] {
            let problem = check_level(level).unwrap_err();
            assert!(problem.contains("debug"), "{problem}");
        }
        for level in ["info", "WARN", "off", "warn,leadhook::worker=trace", "leadhook=debug"] {
            assert_eq!(check_level(level), Ok(()), "{level}");
        }
    }
}
