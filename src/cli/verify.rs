//! `leadhook verify`: checks a webhook that somebody has received, and says what is wrong with it. For the developers of receivers.

use std::{
    io::Read,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::Serialize;

use super::output::{self, Exit, Refusal, human_duration};
use crate::{
    delivery::signature::{self, SigningSecret, VerifyError},
    duration::{self, spoken},
};

/// Most bytes of a body: the largest event that can be configured.
const LARGEST_BODY: u64 = 16 << 20;

/// Check the signature of a webhook that was received, and say what is wrong with it
///
/// The body must be the bytes as they came: parsed and written again, they are others, and no signature fits.
#[derive(clap::Args)]
#[command(after_help = "\
Exit codes: 0 the signature fits, 1 it does not, 2 a secret, a header or the body cannot be used.

Example, with the headers of a request and its body in a file:
  export LEADHOOK_VERIFY_SECRETS=whsec_...
  leadhook verify --id wh_31b12f9c --timestamp 1764164470 --signature 'v1,K5oZ...=' body.json")]
pub struct Args {
    /// The bytes of the body: a file, or - for standard input
    #[arg(value_name = "FILE", default_value = "-")]
    body: PathBuf,
    /// The header webhook-id
    #[arg(long)]
    id: String,
    /// The header webhook-timestamp
    #[arg(long)]
    timestamp: String,
    /// The header webhook-signature, whole
    #[arg(long)]
    signature: String,
    /// How far webhook-timestamp may be from now, such as 5m; 0s looks at the signature alone
    #[arg(long, default_value = "5m", value_parser = duration::parse, value_name = "DURATION")]
    tolerance: Duration,
    /// Signing secret (whsec_...) to verify with; give it again for several, or separate them by commas
    #[arg(
        long = "secret",
        env = "LEADHOOK_VERIFY_SECRETS",
        hide_env_values = true,
        value_delimiter = ',',
        required = true,
        value_name = "SECRET"
    )]
    secrets: Vec<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What was found.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Finding {
    verified: bool,
    /// Which of the secrets fits, from 1.
    secret: Option<usize>,
    /// Seconds from webhook-timestamp to now; negative if it lies ahead.
    age_seconds: Option<i64>,
    /// What is wrong, and what usually is the cause.
    problem: Option<String>,
    body_bytes: usize,
}

/// Reads the body and checks it.
///
/// # Errors
/// When a secret or the body cannot be read. Neither is ever shown.
pub fn run(args: &Args) -> Result<Exit, Refusal> {
    let body = read(&args.body).map_err(|error| Refusal::usage(format!("{}: {error}", args.body.display())))?;
    let secrets = args.secrets.iter().enumerate().map(|(index, text)| {
        SigningSecret::parse(text.trim()).map_err(|error| Refusal::usage(format!("secret {}: {error}", index + 1)))
    });
    let secrets: Vec<_> = secrets.collect::<Result<_, _>>()?;
    let finding = look(args, &secrets, &body, SystemTime::now());
    let text = if args.json { serde_json::to_string_pretty(&finding).unwrap_or_default() } else { finding.text() };
    output::print(&text).map_err(|error| Refusal::cannot_start(format!("cannot write the answer: {error}")))?;
    Ok(if finding.verified { Exit::Ok } else { Exit::Findings })
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    let source: Box<dyn Read> =
        if path.as_os_str() == "-" { Box::new(std::io::stdin()) } else { Box::new(std::fs::File::open(path)?) };
    source.take(LARGEST_BODY + 1).read_to_end(&mut body)?;
    if body.len() as u64 > LARGEST_BODY {
        return Err(std::io::Error::other("is larger than 16 MiB"));
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
                "the signature fits, but webhook-timestamp is {} than {} allow: a replay of an old request, or a clock \
                 that is wrong",
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

/// Why no signature fits, as far as it can be found out by trying.
fn cause(args: &Args, body: &[u8], fitting: &dyn Fn(&[u8], &str) -> Option<usize>) -> String {
    if args.timestamp.parse::<u64>().is_err() {
        return "webhook-timestamp is no whole number of seconds".to_owned();
    }
    let entries: Vec<&str> = args.signature.split(' ').filter(|entry| !entry.is_empty()).collect();
    if entries.iter().all(|entry| !entry.starts_with("v1,")) {
        return "webhook-signature holds no signature of version v1: it must be `v1,` and base64, several separated by blanks"
            .to_owned();
    }
    if fitting(body, &entries.join(" ")).is_some() || fitting(body, args.signature.trim()).is_some() {
        return "the signature fits once blanks around it are taken away: hand the header on as it came".to_owned();
    }
    let trimmed = body.strip_suffix(b"\n").map(|body| body.strip_suffix(b"\r").unwrap_or(body));
    if trimmed.is_some_and(|body| fitting(body, &args.signature).is_some()) {
        return "the signature fits without the line break at the end of the body: an editor or a shell has added it"
            .to_owned();
    }
    let again = serde_json::from_slice::<serde_json::Value>(body).ok();
    if again
        .and_then(|value| serde_json::to_vec(&value).ok())
        .is_some_and(|body| fitting(&body, &args.signature).is_some())
    {
        return "the signature fits the body without its blanks: it was parsed and written again, use the bytes as they came"
            .to_owned();
    }
    "no signature fits: another secret, another webhook-id or webhook-timestamp, or a body that was changed on its way (parsed \
     and written again, for example)"
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
            json: false,
        };
        look(&args, &secrets(with), body, SystemTime::UNIX_EPOCH + Duration::from_secs(NOW + 7))
    }

    fn problem(signature: &str, body: &[u8]) -> String {
        finding(signature, &NOW.to_string(), body, USUAL_TOLERANCE, &[SECRET]).problem.unwrap()
    }

    #[test]
    fn what_fits_is_verified_and_the_secret_named() {
        let found = finding(&signed(BODY), &NOW.to_string(), BODY, USUAL_TOLERANCE, &[OTHER, SECRET]);
        assert!(found.verified);
        assert_eq!((found.secret, found.age_seconds, found.body_bytes), (Some(2), Some(7), BODY.len()));
        assert_eq!(found.text(), "the signature fits (secret 2, 32 bytes, 7 s old)");
    }

    #[test]
    fn the_usual_causes_are_found_out() {
        assert!(problem(&signed(BODY), &[BODY, b"\n"].concat()).contains("line break"));
        let spaced = br#"{ "event": "lead.delivered", "n": 1 }"#;
        assert!(problem(&signed(BODY), spaced).contains("parsed and written again, use the bytes"));
        assert!(problem("K5oZ", BODY).contains("no signature of version v1"));
        assert!(problem(&format!("v1a,xyz {}", signed(b"else")), BODY).starts_with("no signature fits"));
        let stale = finding(&signed(BODY), &NOW.to_string(), BODY, Duration::from_secs(5), &[SECRET]);
        assert!(!stale.verified && stale.problem.unwrap().contains("older than 5s allow"));
        assert!(finding(&signed(BODY), &NOW.to_string(), BODY, Duration::ZERO, &[SECRET]).verified);
        let wrong = finding(&signed(BODY), "soon", BODY, USUAL_TOLERANCE, &[SECRET]);
        assert!(wrong.problem.unwrap().contains("webhook-timestamp"));
    }
}
