//! What can go wrong with a request, and whether to try again.

use std::error::Error as _;
use std::io;

use object_store::Error as StoreError;

use crate::error::Error;

/// Why bytes did not come.
#[derive(Debug, Clone)]
pub enum Failure {
    /// It may be otherwise next time.
    Passing(String),
    /// Asking again would not help.
    Final(String),
    /// It lies there no more as it was when it was opened.
    Replaced,
    /// Nothing came in time.
    Late(String),
}

impl Failure {
    pub fn is_passing(&self) -> bool {
        matches!(self, Failure::Passing(_))
    }

    pub fn text(&self) -> &str {
        match self {
            Failure::Passing(text) | Failure::Final(text) | Failure::Late(text) => text,
            Failure::Replaced => "it was replaced since it was opened; open it again for what is there now",
        }
    }

    /// About the object of that name.
    pub fn into_error(self, name: &str) -> Error {
        match self {
            Failure::Late(text) => {
                Error::Io { file: name.to_owned(), cause: io::Error::new(io::ErrorKind::TimedOut, text) }
            }
            other => Error::Io { file: name.to_owned(), cause: io::Error::other(other.text().to_owned()) },
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        let text = text(&error);
        if text.contains(NO_RANGES) {
            return Failure::Final("the server does not answer requests for parts of a file".into());
        }
        match error {
            StoreError::Precondition { .. } => Failure::Replaced,
            StoreError::Generic { .. } if !is_refusal(&error) => Failure::Passing(text),
            StoreError::JoinError { .. } => Failure::Passing(text),
            _ => Failure::Final(text),
        }
    }
}

/// Whether the server said that the request is wrong, or belongs elsewhere (and not that it has too many).
fn is_refusal(error: &StoreError) -> bool {
    let whole = error.to_string();
    let status = status(&whole).and_then(|(status, _)| status.get(..3)?.parse().ok());
    whole.contains(NOWHERE) || (matches!(status, Some(300..=499)) && !matches!(status, Some(408 | 425 | 429)))
}

/// The status that a server answered with, number and name, and what the crate says behind it.
fn status(whole: &str) -> Option<(&str, &str)> {
    let (_, rest) = whole.split_once(STATUS)?;
    let (status, rest) = rest.split_once(':').unwrap_or((rest, ""));
    Some((status.trim(), rest))
}

/// What the crate says of a server that sends everything whatever it is asked for.
const NO_RANGES: &str = "non-partial response";

/// What it says of a redirection without a place, which S3 answers with in a wrong region.
const NOWHERE: &str = "redirect without LOCATION";
/// What the crate writes before a status.
const STATUS: &str = "status code: ";

/// An error in a line, without what might be secret: neither addresses, which may be signed, nor what
/// the server quotes of a request.
pub fn text(error: &StoreError) -> String {
    let whole = error.to_string();
    if let Some((status, rest)) = status(&whole) {
        let code = rest.split_once("<Code>").and_then(|(_, rest)| Some(rest.split_once("</Code>")?.0));
        let code = code.filter(|code| code.len() < 64 && code.bytes().all(|b| b.is_ascii_alphanumeric()));
        let code = code.map_or_else(String::new, |code| format!(" ({code})"));
        let help = match status.get(..3) {
            Some("401" | "403") => "; docs/objects.md says where credentials are looked for",
            _ => "",
        };
        return format!("the server said {status}{code}{help}");
    }
    if whole.contains(NOWHERE) {
        return "the server redirects without saying where: the bucket may be in another region (AWS_REGION)".into();
    }
    if whole.contains("returned error response") {
        return "the server answered with an error".into();
    }
    if let StoreError::Generic { source, .. } = error {
        // The innermost has no address in it.
        let mut cause: &(dyn std::error::Error + 'static) = &**source;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        return without_queries(&cause.to_string());
    }
    error.source().map_or_else(|| without_queries(&whole), |source| without_queries(&source.to_string()))
}

/// In what other libraries say, an address may stand whole.
fn without_queries(text: &str) -> String {
    let ends = |c: char| c.is_whitespace() || matches!(c, ')' | '"' | '\'' | '>');
    let mut out = String::new();
    for (i, part) in text.split('?').enumerate() {
        out.push_str(if i == 0 { part } else { part.find(ends).map_or("", |at| &part[at..]) });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> StoreError {
        StoreError::Generic { store: "S3", source: text.into() }
    }

    #[test]
    fn only_what_may_change_is_tried_again() {
        for (status, passing) in [("500 Internal Server Error", true), ("503 Slow Down", true), ("416 Range", false)] {
            let error = generic(&format!("Server returned non-2xx status code: {status}: <body>"));
            assert_eq!(Failure::from(error).is_passing(), passing, "{status}");
        }
        assert!(Failure::from(generic("connection reset")).is_passing());
        let too_many = generic("Server returned non-2xx status code: 429 Too Many Requests: ");
        assert!(Failure::from(too_many).is_passing());
        let moved = generic("Server returned non-2xx status code: 301 Moved Permanently: ");
        let elsewhere = generic("Received redirect without LOCATION, this normally indicates an incorrect region");
        for error in [moved, elsewhere] {
            assert!(matches!(Failure::from(error), Failure::Final(_)));
        }
    }

    #[test]
    fn what_the_server_quotes_is_not_repeated() {
        let body = "<Error><Code>SignatureDoesNotMatch</Code><AWSAccessKeyId>AKIA</AWSAccessKeyId></Error>";
        let shown = text(&generic(&format!("Server returned non-2xx status code: 403 Forbidden: {body}")));
        assert!(shown.starts_with("the server said 403 Forbidden (SignatureDoesNotMatch)"), "{shown}");
        assert!(!shown.contains("AKIA"));
        assert_eq!(without_queries("error (https://host/a?sig=1) and \"b?c\" d"), "error (https://host/a) and \"b\" d");
    }
}
