//! As much of HTTP/1.1 as the API needs.
//!
//! Duty: a request's head out of bytes, an answer's head into bytes, chunks of a stream. No input or output.
//! Not here: which paths there are (`routes`), waiting for bytes (`server`).
//! Invariant: a head has at most [`MAX_HEAD_BYTES`], a body at most [`MAX_BODY_BYTES`], and what is not understood
//! in full is refused: two readings of one request are how requests get smuggled.

use thiserror::Error;

use super::Reply;

/// Bytes of a request's first line and headers: what browsers and scrapers send is a quarter of it.
pub(crate) const MAX_HEAD_BYTES: usize = 8 << 10;
/// Headers of a request.
const MAX_HEADERS: usize = 32;
/// Bytes of a request's body: the longest command, with most of its characters written as escapes.
pub(crate) const MAX_BODY_BYTES: usize = 8 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Post,
    Other,
}

impl Method {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Other => "another method",
        }
    }
}

/// A request without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) method: Method,
    pub(crate) path: String,
    /// Without the question mark.
    pub(crate) query: String,
    pub(crate) body_bytes: usize,
    /// Another request may follow on this connection.
    pub(crate) keep: bool,
    /// Of `Authorization: Bearer`.
    pub(crate) token: Option<String>,
    /// What the connection is to become.
    pub(crate) upgrade: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum HttpFault {
    #[error("expected a request of HTTP/1.1")]
    NotHttp,
    #[error("expected a head of at most {MAX_HEAD_BYTES} bytes and {MAX_HEADERS} headers")]
    HeadTooLong,
    #[error("expected one Content-Length, and no Transfer-Encoding")]
    Length,
    #[error("expected a body of at most {MAX_BODY_BYTES} bytes")]
    BodyTooLong,
}

impl HttpFault {
    pub(crate) fn reply(self) -> Reply {
        let (status, error) = match self {
            HttpFault::NotHttp | HttpFault::Length => (400, "bad-request"),
            HttpFault::HeadTooLong => (431, "head-too-long"),
            HttpFault::BodyTooLong => (413, "body-too-long"),
        };
        Reply::refused(status, error, self.to_string())
    }
}

/// The head at the beginning of `bytes`, and how many bytes it has; `None` if more are needed.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, HttpFault> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD_BYTES => length,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD_BYTES => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(HttpFault::HeadTooLong),
        Err(_) => return Err(HttpFault::NotHttp),
    };
    let (path, query) = {
        let target = request.path.unwrap_or_default();
        target.split_once('?').unwrap_or((target, ""))
    };
    let head = Head {
        method: match request.method {
            Some("GET") => Method::Get,
            Some("POST") => Method::Post,
            _ => Method::Other,
        },
        path: path.to_owned(),
        query: query.to_owned(),
        body_bytes: body_bytes(request.headers)?,
        keep: request.version == Some(1) && !has_word(request.headers, "connection", "close"),
        token: values(request.headers, "authorization")
            .find_map(|value| value.strip_prefix("Bearer "))
            .map(|token| token.trim().to_owned()),
        upgrade: has_word(request.headers, "connection", "upgrade")
            .then(|| values(request.headers, "upgrade").next().map(str::to_owned))
            .flatten(),
    };
    Ok(Some((head, length)))
}

fn values<'h>(headers: &'h [httparse::Header<'h>], name: &'h str) -> impl Iterator<Item = &'h str> {
    let named = headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
    // One that is no text is as if it said nothing that we know.
    named.map(|header| std::str::from_utf8(header.value).unwrap_or("\u{fffd}"))
}

fn has_word(headers: &[httparse::Header<'_>], name: &str, word: &str) -> bool {
    values(headers, name).flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(word))
}

fn body_bytes(headers: &[httparse::Header<'_>]) -> Result<usize, HttpFault> {
    let mut lengths = values(headers, "content-length");
    let length = lengths.next();
    if lengths.next().is_some() || values(headers, "transfer-encoding").next().is_some() {
        return Err(HttpFault::Length);
    }
    let Some(digits) = length else { return Ok(0) };
    // `parse` alone would take a plus sign.
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(HttpFault::Length);
    }
    match digits.parse() {
        Ok(length) if length <= MAX_BODY_BYTES => Ok(length),
        _ => Err(HttpFault::BodyTooLong),
    }
}

/// An answer in whole.
pub(crate) fn whole(reply: &Reply, kind: &str, more: &str, keep: bool) -> Vec<u8> {
    let Reply { status, body } = reply;
    let connection = if keep { "keep-alive" } else { "close" };
    let mut bytes = format!(
        "HTTP/1.1 {status} {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: {connection}\r\n{more}\r\n",
        phrase(*status),
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// The head of a stream; [`chunk`]s follow.
pub(crate) fn stream_head(kind: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\nCache-Control: no-store\r\n\
         Connection: close\r\n\r\n"
    )
    .into_bytes()
}

/// From here on the connection is something else.
pub(crate) fn switching(protocol: &str) -> String {
    format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n")
}

/// A piece of a stream; an empty one ends it.
pub(crate) fn chunk(bytes: &[u8]) -> Vec<u8> {
    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
    chunk.extend_from_slice(bytes);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

const fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        426 => "Upgrade Required",
        431 => "Request Header Fields Too Large",
        _ => "Service Unavailable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAIN: &str = "GET /v1/status?x=1 HTTP/1.1\r\nHost: hearth\r\n\r\n";

    fn head(text: &str) -> Result<Head, HttpFault> {
        parse(text.as_bytes()).map(|parsed| parsed.unwrap().0)
    }

    #[test]
    fn a_head_is_taken_apart_and_what_follows_is_left() {
        let bytes = format!("{PLAIN}GET /next");
        let (head, length) = parse(bytes.as_bytes()).unwrap().unwrap();
        assert_eq!(
            (head.method, head.path.as_str(), head.query.as_str()),
            (Method::Get, "/v1/status", "x=1")
        );
        assert_eq!(length, PLAIN.len());
        assert!(head.keep);
        for end in 0..PLAIN.len() {
            assert_eq!(parse(&PLAIN.as_bytes()[..end]), Ok(None), "{end}");
        }
    }

    #[test]
    fn a_connection_is_kept_unless_its_maker_says_otherwise_or_is_old() {
        assert!(!head("GET / HTTP/1.1\r\nConnection: foo, Close\r\n\r\n").unwrap().keep);
        assert!(!head("GET / HTTP/1.0\r\n\r\n").unwrap().keep);
    }

    #[test]
    fn lengths_that_can_be_read_in_two_ways_are_refused() {
        let post = |headers: &str| head(&format!("POST / HTTP/1.1\r\n{headers}\r\n"));
        assert_eq!(post("Content-Length: 7\r\n").unwrap().body_bytes, 7);
        for headers in [
            "Content-Length: 7\r\nContent-Length: 7\r\n",
            "Content-Length: +7\r\n",
            "Content-Length: \r\n",
            "Content-Length: 7, 7\r\n",
            "Transfer-Encoding: chunked\r\n",
            "Content-Length: 7\r\nTransfer-Encoding: identity\r\n",
        ] {
            assert_eq!(post(headers), Err(HttpFault::Length), "{headers}");
        }
        assert_eq!(post("Content-Length: 8193\r\n"), Err(HttpFault::BodyTooLong));
        assert_eq!(post("Content-Length: 99999999999999999999999\r\n"), Err(HttpFault::BodyTooLong));
    }

    #[test]
    fn heads_are_bounded_in_bytes_and_headers() {
        let long = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(MAX_HEAD_BYTES));
        assert_eq!(parse(long.as_bytes()), Err(HttpFault::HeadTooLong));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(MAX_HEADERS + 1));
        assert_eq!(parse(many.as_bytes()), Err(HttpFault::HeadTooLong));
    }

    #[test]
    fn an_answer_has_its_length_and_a_chunk_its_own() {
        let reply = Reply { status: 404, body: b"{}".to_vec() };
        let text = String::from_utf8(whole(&reply, "application/json", "", true)).unwrap();
        assert_eq!(
            text,
            "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\
             Connection: keep-alive\r\n\r\n{}"
        );
        assert_eq!(chunk(b"0123456789abcdef"), b"10\r\n0123456789abcdef\r\n");
        assert_eq!(chunk(b""), b"0\r\n\r\n");
    }

    proptest! {
        #[test]
        fn no_bytes_are_a_panic_or_more_than_was_given(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(Some((_, length))) = parse(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }
    }
}
