//! `leadhook verify`: checks the signature of a received webhook and says why it does not fit, for developers of
//! receivers.

use std::{
    io::Read,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::Serialize;

use super::{
    arguments::Output,
    output::{self, Exit, Refusal, after_help, human_duration},
};
use crate::{
    delivery::signature::{self, SigningSecret, VerifyError},
    duration::{self, spoken},
    os_error,
};

/// Largest body in bytes: the highest limit that can be configured for an event.
const LARGEST_BODY: u64 = 16 << 20;

/// Check the signature of a received webhook, and say why it does not fit
///
/// The body must be the bytes as they were received. A body that was parsed and written again has other bytes, and no
/// signature fits it.
#[derive(clap::Args)]
#[command(after_help = after_help(
    "export LEADHOOK_VERIFY_SECRETS=whsec_...\n\
     leadhook verify --id wh_31b12f9c --timestamp 1764164470 --signature 'v1,K5oZ...=' body.json",
    "the signature does not fit"
))]
pub struct Args {
    /// File with the bytes of the body, or - for standard input
    #[arg(value_name = "FILE", default_value = "-")]
    body: PathBuf,
    /// Value of the header webhook-id
    #[arg(long)]
    id: String,
    /// Value of the header webhook-timestamp
    #[arg(long, value_name = "SECONDS")]
    timestamp: String,
    /// Whole value of the header webhook-signature
    #[arg(long)]
    signature: String,
    /// Largest distance of webhook-timestamp from now; 0s checks the signature alone
    #[arg(long, default_value = "5m", value_parser = duration::parse, value_name = "DURATION")]
    tolerance: Duration,
    /// Signing secret (whsec_...) to verify with; repeat it for several, or separate them by commas
    #[arg(
        long = "secret",
        env = "LEADHOOK_VERIFY_SECRETS",
        hide_env_values = true,
        value_delimiter = ',',
        required = true,
        value_name = "SECRET"
    )]
    secrets: Vec<String>,
    #[command(flatten)]
    output: Output,
}

/// The result of a check.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Finding {
    verified: bool,
    /// The number of the secret that fits, from 1.
    secret: Option<usize>,
    /// Seconds from webhook-timestamp to now; negative if it is in the future.
    age_seconds: Option<i64>,
    /// The problem and its usual cause.
    problem: Option<String>,
    body_bytes: usize,
}

/// Reads the body and checks its signature.
///
/// # Errors
/// A secret or the body cannot be read. The error shows neither.
pub fn run(args: &Args) -> Result<Exit, Refusal> {
    let body = read(&args.body).map_err(|error| {
        let text = format!("cannot read the body: {}: {}", args.body.display(), os_error::words(&error));
        Refusal::usage(text, "name the file with the bytes of the body, or - for standard input")
    })?;
    let secrets = args
        .secrets
        .iter()
        .enumerate()
        .map(|(index, text)| SigningSecret::parse(text.trim()).map_err(|error| unusable_secret(index, &error)));
    let secrets: Vec<_> = secrets.collect::<Result<_, _>>()?;
    let finding = look(args, &secrets, &body, SystemTime::now());
    let told = if args.output.json { output::print_json(&finding) } else { output::print(finding.text()) };
    told.map_err(|error| Refusal::unwritable(&error))?;
    Ok(if finding.verified { Exit::Ok } else { Exit::Findings })
}

/// Creates the refusal of a signing secret. It names the secret by its number and never shows it.
pub(super) fn unusable_secret(index: usize, error: &impl std::fmt::Display) -> Refusal {
    let text = format!("cannot use --secret number {}: {error}", index + 1);
    Refusal::usage(text, "write whsec_ and the secret in base64, as the webhook store has it")
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    let source: Box<dyn Read> =
        if path.as_os_str() == "-" { Box::new(std::io::stdin()) } else { Box::new(std::fs::File::open(path)?) };
    source.take(LARGEST_BODY + 1).read_to_end(&mut body)?;
    if body.len() as u64 > LARGEST_BODY {
        return Err(std::io::Error::other("it is larger than 16 MiB"));
    }
    Ok(body)
}

fn look(args: &Args, secrets: &[SigningSecret], body: &[u8], now: SystemTime) -> Finding {
    let now_seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let age = args.timestamp.parse::<i64>().ok().and_then(|then| i64::try_from(now_seconds).ok()?.checked_sub(then));
    let tolerance = if args.tolerance.is_zero() { Duration::MAX } else { args.tolerance };
    let check = |secret: &SigningSecret, body: &[u8], signatures: &str, tolerance| {
        let secrets = std::slice::from_ref(secret);
        signature::verify(secrets, &args.id, &args.timestamp, signatures, body, now, tolerance)
    };
    let fitting = |body: &[u8], signatures: &str| {
        secrets.iter().position(|secret| check(secret, body, signatures, Duration::MAX).is_ok())
    };
    let secret = fitting(body, &args.signature);
    let problem = match secret {
        Some(index) => match check(&secrets[index], body, &args.signature, tolerance) {
            Ok(()) => None,
            Err(VerifyError::Stale) => Some(format!(
                "the signature fits, but webhook-timestamp is {} than {} allow: an old request was replayed, or a clock \
                 is wrong",
                if age.unwrap_or_default() < 0 { "further ahead of now" } else { "older" },
                spoken(tolerance),
            )),
            Err(error) => Some(error.to_string()),
        },
        None => Some(cause(args, body, &fitting)),
    };
    Finding {
        verified: problem.is_none(),
        secret: secret.map(|index| index + 1),
        age_seconds: age,
        problem,
        body_bytes: body.len(),
    }
}

/// Explains why no signature fits, as far as trying shows.
fn cause(args: &Args, body: &[u8], fitting: &dyn Fn(&[u8], &str) -> Option<usize>) -> String {
    if args.timestamp.parse::<u64>().is_err() {
        return "webhook-timestamp is not a whole number of seconds".to_owned();
    }
    let entries: Vec<&str> = args.signature.split(' ').filter(|entry| !entry.is_empty()).collect();
    if entries.iter().all(|entry| !entry.starts_with("v1,")) {
        return "webhook-signature has no signature of version v1: it must be `v1,` and base64, several separated by blanks"
            .to_owned();
    }
    if fitting(body, &entries.join(" ")).is_some() || fitting(body, args.signature.trim()).is_some() {
        return "the signature fits without the blanks around it: pass the header on unchanged".to_owned();
    }
    let trimmed = body.strip_suffix(b"\n").map(|body| body.strip_suffix(b"\r").unwrap_or(body));
    if trimmed.is_some_and(|body| fitting(body, &args.signature).is_some()) {
        return "the signature fits without the line break at the end of the body: an editor or a shell added it"
            .to_owned();
    }
    let again = serde_json::from_slice::<serde_json::Value>(body).ok();
    if again
        .and_then(|value| serde_json::to_vec(&value).ok())
        .is_some_and(|body| fitting(&body, &args.signature).is_some())
    {
        return "the signature fits the body without its blanks: it was parsed and written again, use the received bytes"
            .to_owned();
    }
    "no signature fits: another secret, another webhook-id or webhook-timestamp, or a body that was changed (parsed and \
     written again, for example)"
        .to_owned()
}

impl Finding {
    fn text(&self) -> String {
        let age = self.age_seconds.map(|seconds| {
            let span = human_duration(Duration::from_secs(seconds.unsigned_abs()));
            if seconds < 0 { format!(", {span} ahead of this clock") } else { format!(", {span} old") }
        });
        match (&self.problem, self.secret) {
            (None, Some(secret)) => {
                format!("the signature fits (secret {secret}, {} bytes{})", self.body_bytes, age.unwrap_or_default())
            }
            (problem, _) => format!("NOT VERIFIED: {}", problem.as_deref().unwrap_or("no signature fits")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::signature::USUAL_TOLERANCE;

    const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3";
    const OTHER: &str = "whsec_YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4";
    const BODY: &[u8] = br#"{"event":"lead.delivered","n":1}"#;
    const NOW: u64 = 1_764_164_470;

    fn secrets(texts: &[&str]) -> Vec<SigningSecret> {
        texts.iter().map(|text| SigningSecret::parse(text).unwrap()).collect()
    }

    fn signed(body: &[u8]) -> String {
        signature::sign(&secrets(&[SECRET]), "wh_1", NOW, body)
    }

    fn finding(signature: &str, timestamp: &str, body: &[u8], tolerance: Duration, with: &[&str]) -> Finding {
        let args = Args {
            body: "-".into(),
            id: "wh_1".into(),
            timestamp: timestamp.into(),
            signature: signature.into(),
            tolerance,
            secrets: Vec::new(),
            output: Output::default(),
        };
        look(&args, &secrets(with), body, SystemTime::UNIX_EPOCH + Duration::from_secs(NOW + 7))
    }

    fn problem(signature: &str, body: &[u8]) -> String {
        finding(signature, &NOW.to_string(), body, USUAL_TOLERANCE, &[SECRET]).problem.unwrap()
    }

    #[test]
    fn a_fitting_signature_is_verified_and_the_secret_named() {
        let found = finding(&signed(BODY), &NOW.to_string(), BODY, USUAL_TOLERANCE, &[OTHER, SECRET]);
        assert!(found.verified);
        assert_eq!((found.secret, found.age_seconds, found.body_bytes), (Some(2), Some(7), BODY.len()));
        assert_eq!(found.text(), "the signature fits (secret 2, 32 bytes, 7 s old)");
    }

    #[test]
    fn the_usual_causes_are_found_out() {
        assert!(problem(&signed(BODY), &[BODY, b"\n"].concat()).contains("line break"));
        let spaced = br#"{ "event": "lead.delivered", "n": 1 }"#;
        assert!(problem(&signed(BODY), spaced).contains("parsed and written again, use the received bytes"));
        assert!(problem("K5oZ", BODY).contains("no signature of version v1"));
        assert!(problem(&format!("v1a,xyz {}", signed(b"else")), BODY).starts_with("no signature fits"));
        let stale = finding(&signed(BODY), &NOW.to_string(), BODY, Duration::from_secs(5), &[SECRET]);
        assert!(!stale.verified && stale.problem.unwrap().contains("older than 5s allow"));
        assert!(finding(&signed(BODY), &NOW.to_string(), BODY, Duration::ZERO, &[SECRET]).verified);
        let wrong = finding(&signed(BODY), "soon", BODY, USUAL_TOLERANCE, &[SECRET]);
        assert!(wrong.problem.unwrap().contains("webhook-timestamp"));
    }
}
