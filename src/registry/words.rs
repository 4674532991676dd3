//! What a server says when it refuses: bounded, escaped, and the part that
//! matters if it has the distribution spec's form.

use std::time::Duration;

use oci_distribution::errors::{OciEnvelope, OciErrorCode};
use reqwest::Response;

use crate::net::{IDLE, causes, escaped};

/// Most bytes of an error that are read.
const LIMIT: u64 = 64 << 10;
/// Most characters of it that are shown.
const SHOWN: usize = 300;

/// Longest time that a document may take: one that drips never ends otherwise.
const WHOLE: Duration = Duration::from_secs(300);

/// Reads a body up to a limit; `None` if it has more. Each piece must come
/// within [`IDLE`], all within [`WHOLE`].
pub(super) async fn limited(
    response: &mut Response,
    limit: u64,
) -> Result<Option<Vec<u8>>, String> {
    tokio::time::timeout(WHOLE, pieces(response, limit))
        .await
        .unwrap_or_else(|_| Err(format!("it was not whole after {} s", WHOLE.as_secs())))
}

async fn pieces(response: &mut Response, limit: u64) -> Result<Option<Vec<u8>>, String> {
    let mut bytes = Vec::new();
    loop {
        let piece = tokio::time::timeout(IDLE, response.chunk())
            .await
            .map_err(|_| format!("nothing came for {} s", IDLE.as_secs()))?
            .map_err(|error| causes(&error.without_url()))?;
        let Some(piece) = piece else { return Ok(Some(bytes)) };
        if bytes.len() as u64 + piece.len() as u64 > limit {
            return Ok(None);
        }
        bytes.extend_from_slice(&piece);
    }
}

/// An error's codes and text.
pub(super) struct Said {
    pub(super) codes: Vec<OciErrorCode>,
    pub(super) words: String,
}

/// What an error response says.
pub(super) async fn said(mut response: Response) -> Said {
    // An error within an error is not worth more than silence: the status is known.
    let bytes = limited(&mut response, LIMIT).await.ok().flatten().unwrap_or_default();
    parse(&bytes)
}

/// The words of an error response.
pub(super) async fn of(response: Response) -> String {
    said(response).await.words
}

fn parse(bytes: &[u8]) -> Said {
    if let Ok(envelope) = serde_json::from_slice::<OciEnvelope>(bytes)
        && !envelope.errors.is_empty()
    {
        let texts: Vec<String> = envelope.errors.iter().map(text_of).collect();
        let codes = envelope.errors.into_iter().map(|error| error.code).collect();
        return Said { codes, words: escaped(&texts.join("; "), SHOWN) };
    }
    // Token services and proxies have forms of their own.
    let text = match serde_json::from_slice::<serde_json::Value>(bytes) {
        Ok(value) => ["error_description", "details", "message", "error"]
            .iter()
            .find_map(|name| value.get(name)?.as_str().map(str::to_owned))
            .unwrap_or_else(|| value.to_string()),
        Err(_) => String::from_utf8_lossy(bytes).into_owned(),
    };
    // A page for browsers says nothing in a terminal.
    let text = if text.trim_start().starts_with('<') { String::new() } else { text };
    Said { codes: Vec::new(), words: escaped(&text, SHOWN) }
}

fn text_of(error: &oci_distribution::errors::OciError) -> String {
    if !error.message.is_empty() {
        return error.message.clone();
    }
    match (&error.code, error.detail.as_str()) {
        (_, Some(detail)) => detail.to_owned(),
        (OciErrorCode::Other(code), None) => code.clone(),
        (code, None) => format!("{code:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (body, words) in [
            (r#"{"errors":[{"code":"DENIED","message":"no \u001b[31m"}]}"#, "no \\u{1b}[31m"),
            (r#"{"errors":[{"code":"ODD_ONE"}]}"#, "ODD_ONE"),
            (r#"{"errors":[{"code":"UNAUTHORIZED","detail":"expired"}]}"#, "expired"),
            (r#"{"details":"incorrect username or password"}"#, "incorrect username or password"),
            ("plain", "plain"),
            ("<html><body>502</body></html>", ""),
            ("", ""),
        ] {
            assert_eq!(parse(body.as_bytes()).words, words, "{body}");
        }
        assert!(parse("x".repeat(5000).as_bytes()).words.chars().count() <= SHOWN + 1);
    }
}
