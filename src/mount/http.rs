//! As much of HTTP/1.1 as a monitor speaks: one request, one answer, and the connection ends.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// Bytes of a request, in which nothing but its first line is looked at.
const LONGEST_REQUEST: usize = 8 << 10;
/// How long a client may take for everything.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    Metrics,
    Health,
    /// The status line of the answer.
    Refused(&'static str),
}

/// One client, which nobody waits for.
pub struct Connection {
    stream: TcpStream,
    deadline: Instant,
    state: State,
}

enum State {
    /// What has come of the request.
    Reading(Vec<u8>),
    /// For whoever knows the answer.
    Waiting(Question),
    /// The answer, and how much of it was sent.
    Writing(Vec<u8>, usize),
    /// Until the client has closed, too: else what it sent and we did not read would have the
    /// kernel throw the answer away.
    Closing,
}

impl Connection {
    pub fn new(stream: TcpStream) -> io::Result<Connection> {
        stream.set_nonblocking(true)?;
        Ok(Connection { stream, deadline: Instant::now() + PATIENCE, state: State::Reading(Vec::new()) })
    }

    /// What to poll it for: whether to read, and whether to write.
    pub fn wants(&self) -> (BorrowedFd<'_>, bool, bool) {
        let writes = matches!(self.state, State::Writing(..));
        (self.stream.as_fd(), matches!(self.state, State::Reading(_) | State::Closing), writes)
    }

    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether nothing is owed to it: it has not asked yet, or has had its answer.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Reading(_) | State::Closing)
    }

    /// What is to be answered now.
    pub fn question(&self) -> Option<Question> {
        if let State::Waiting(question) = self.state { Some(question) } else { None }
    }

    pub fn answer(&mut self, status: &str, content_type: &str, body: &str) {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n");
        self.state = State::Writing(format!("{head}Connection: close\r\n\r\n{body}").into_bytes(), 0);
    }

    /// Reads and writes what can be without waiting; false once it is over.
    pub fn proceed(&mut self) -> bool {
        let going = match self.try_to_proceed() {
            Ok(going) => going,
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        };
        going && Instant::now() < self.deadline
    }

    fn try_to_proceed(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 1 << 10];
        loop {
            match &mut self.state {
                State::Reading(request) => match self.stream.read(&mut buffer)? {
                    0 => return Ok(false),
                    n => {
                        request.extend_from_slice(&buffer[..n]);
                        if let Some(question) = question(request) {
                            self.state = State::Waiting(question);
                        }
                    }
                },
                State::Waiting(_) => return Ok(true),
                State::Writing(answer, sent) if *sent == answer.len() => {
                    self.stream.shutdown(Shutdown::Write)?;
                    self.state = State::Closing;
                }
                State::Writing(answer, sent) => *sent += self.stream.write(&answer[*sent..])?,
                State::Closing => return Ok(self.stream.read(&mut buffer)? > 0),
            }
        }
    }
}

/// What a request asks for, once all of it has come or too much.
fn question(request: &[u8]) -> Option<Question> {
    if !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let too_long = request.len() > LONGEST_REQUEST;
        return too_long.then_some(Question::Refused("431 Request Header Fields Too Large"));
    }
    let line = request.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|&byte| byte == b' ');
    let (method, target, version, more) = (words.next(), words.next(), words.next(), words.next());
    let path = target.and_then(|target| target.split(|&byte| byte == b'?').next());
    Some(match (method, path) {
        _ if more.is_some() || !version.is_some_and(|version| version.starts_with(b"HTTP/1.")) => {
            Question::Refused("400 Bad Request")
        }
        (Some(b"GET"), Some(b"/metrics")) => Question::Metrics,
        (Some(b"GET"), Some(b"/healthz")) => Question::Health,
        (Some(b"GET"), _) => Question::Refused("404 Not Found"),
        _ => Question::Refused("405 Method Not Allowed"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str) -> Option<Question> {
        question(format!("{line}\r\nHost: localhost\r\n\r\n").as_bytes())
    }

    #[test]
    fn only_what_there_is_is_answered() {
        assert_eq!(asked("GET /metrics HTTP/1.1"), Some(Question::Metrics));
        assert_eq!(asked("GET /metrics?name[]=upg_cache_bytes HTTP/1.0"), Some(Question::Metrics));
        assert_eq!(asked("GET /healthz HTTP/1.1"), Some(Question::Health));
        for (line, status) in [
            ("GET / HTTP/1.1", "404"),
            ("GET /metrics/ HTTP/1.1", "404"),
            ("POST /metrics HTTP/1.1", "405"),
            ("GET /metrics", "400"),
            ("GET /metrics HTTP/2.0", "400"),
            ("GET /a b HTTP/1.1", "400"),
            ("", "400"),
        ] {
            let Some(Question::Refused(refused)) = asked(line) else { panic!("{line}") };
            assert!(refused.starts_with(status), "{line}: {refused}");
        }
    }

    #[test]
    fn a_request_may_come_in_parts_and_not_without_end() {
        assert_eq!(question(b"GET /metrics HTTP/1.1\r\nHost: a\r\n"), None);
        let endless = [b'a'; LONGEST_REQUEST + 1];
        assert!(matches!(question(&endless), Some(Question::Refused(status)) if status.starts_with("431")));
    }
}
