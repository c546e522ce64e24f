//! Where the daemon's log lines go: standard error in the foreground, the
//! system's log in the background, a file if one is named; as text or as JSON.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Mutex;

use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::error::{Error, Result};
use crate::escape::escape;

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Text,
    /// An object per line: level, message and what is known besides; the time, too, where the log
    /// has none of its own.
    Json,
}

/// Warnings and errors, and where the metrics are.
const DEFAULT: &str = "warn,upg::mount::metrics=info";

/// Starts logging; `UPG_LOG` sets the level (error, warn, info, debug).
pub fn init(file: Option<&Path>, background: bool, format: Format) -> Result<()> {
    let filter = EnvFilter::try_from_env("UPG_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    let (writer, timed) = match file {
        Some(path) => {
            let file = File::options().create(true).append(true).open(path).map_err(|e| Error::io(path, e))?;
            (BoxMakeWriter::new(Mutex::new(file)), true)
        }
        None if background => (BoxMakeWriter::new(ToSystemLog), false),
        None => (BoxMakeWriter::new(io::stderr), true),
    };
    // A log that cannot be written is lost. To complain about it on standard error would be to
    // panic where that cannot be written either.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_target(false)
        .log_internal_errors(false)
        .with_writer(writer);
    match (format, timed) {
        (Format::Text, true) => builder.map_writer(Escaped).init(),
        (Format::Text, false) => builder.map_writer(Escaped).without_time().init(),
        (Format::Json, true) => builder.json().flatten_event(true).with_current_span(false).init(),
        (Format::Json, false) => builder.json().flatten_event(true).with_current_span(false).without_time().init(),
    }
    Ok(())
}

/// Writes lines of text with nothing in them that would drive a terminal, or would look like two lines:
/// messages name files. JSON has escapes of its own.
struct Escaped<W>(W);

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Escaped<M> {
    type Writer = Escaped<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Escaped(self.0.make_writer())
    }

    fn make_writer_for(&'a self, of: &Metadata<'_>) -> Self::Writer {
        Escaped(self.0.make_writer_for(of))
    }
}

impl<W: Write> Write for Escaped<W> {
    /// A line, as tracing-subscriber hands them over.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let (text, end) = text.strip_suffix('\n').map_or((&*text, ""), |text| (text, "\n"));
        self.0.write_all(format!("{}{end}", escape(text)).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Sends each line to the socket of syslog or journald, if there is one.
struct SystemLog {
    priority: u32,
}

/// Facility daemon, as RFC 5424 counts; with a severity it is a priority.
const DAEMON: u32 = 3 * 8;

impl SystemLog {
    fn of(level: Level) -> SystemLog {
        let severity = match level {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        SystemLog { priority: DAEMON + severity }
    }
}

/// Makes what sends a line of a level.
struct ToSystemLog;

impl MakeWriter<'_> for ToSystemLog {
    type Writer = SystemLog;

    fn make_writer(&self) -> SystemLog {
        SystemLog::of(Level::WARN)
    }

    fn make_writer_for(&self, of: &Metadata<'_>) -> SystemLog {
        SystemLog::of(*of.level())
    }
}

impl Write for SystemLog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let message = format!("<{}>upg-mount[{}]: {}", self.priority, std::process::id(), text.trim_end());
        if let Ok(socket) = UnixDatagram::unbound() {
            // A log that is away or full must not hold a reader up.
            let _ = socket.set_nonblocking(true);
            let _ = socket.send_to(message.as_bytes(), "/dev/log");
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_line() {
        let mut out = Vec::new();
        let line = "WARN a\nERROR b\r\u{1b}[2J\u{202e}c\n";
        assert_eq!(Escaped(&mut out).write(line.as_bytes()).expect("memory"), line.len());
        assert_eq!(String::from_utf8_lossy(&out), "WARN a\\nERROR b\\r\\u{1b}[2J\\u{202e}c\n");
    }
}
