//! Where the daemon's log lines go: standard error in the foreground, the
//! system's log in the background, a file if one is named; as text or as JSON.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::error::{Error, Result};

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
        None if background => (BoxMakeWriter::new(|| SystemLog), false),
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
        (Format::Text, true) => builder.init(),
        (Format::Text, false) => builder.without_time().init(),
        (Format::Json, true) => builder.json().flatten_event(true).with_current_span(false).init(),
        (Format::Json, false) => builder.json().flatten_event(true).with_current_span(false).without_time().init(),
    }
    Ok(())
}

/// Sends each line to the socket of syslog or journald, if there is one.
struct SystemLog;

/// Facility daemon (3), severity warning (4), as RFC 5424 counts.
const PRIORITY: u32 = 3 * 8 + 4;

impl Write for SystemLog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let message = format!("<{PRIORITY}>upg-mount[{}]: {}", std::process::id(), text.trim_end());
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
