//! The log of a container from its first byte to its last, over any number of connections.
//!
//! Each line is asked for with the time at which the node took it down. A connection that goes on where another broke asks for
//! what is newer than the whole second of the last line, and drops what was heard until that line is found again. (Where the clock
//! of the node is put back between two connections, lines may come twice, with the word that some may be missing.)

use super::{KubernetesError, is_transient};
use futures_util::AsyncReadExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, LogParams};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// What a log says.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of the program.
    Said(Vec<u8>),
    /// Lines may be lost: the node has thrown them away before they were read.
    Gap,
}

/// How long a connection may be silent before another one is made: one that broke without a word is not noticed otherwise.
const SILENCE: Duration = Duration::from_secs(60);
/// The same once the container has ended.
const SILENCE_AFTER_END: Duration = Duration::from_secs(5);
/// How long to wait before the next connection, at first and at most.
const WAIT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Hands over all of the log of `container` until it has ended (`ended` tells) and all was read, or the pod is gone.
///
/// # Errors
/// The cluster refuses to show it.
pub async fn follow(
    pods: Api<Pod>,
    pod: String,
    container: &'static str,
    mut ended: watch::Receiver<bool>,
    to: mpsc::Sender<Piece>,
) -> Result<(), KubernetesError> {
    let mut reader = Reader::default();
    let mut wait = WAIT.0;
    // Whether the last connection came to its own end.
    let mut complete = false;
    loop {
        let was_ended = *ended.borrow();
        let parameters = LogParams {
            container: Some(container.to_owned()),
            follow: true,
            timestamps: true,
            // Whole seconds are all that the API takes; rounded up it would miss lines.
            since_time: reader.heard.as_ref().and_then(|heard| Timestamp::from_second(heard.at.as_second()).ok()),
            ..LogParams::default()
        };
        let opened = tokio::time::timeout(super::ANSWER, pods.log_stream(&pod, &parameters)).await;
        match opened.unwrap_or_else(|_| Err(kube::Error::Service("no answer".into()))) {
            Ok(stream) => {
                reader.reconnected();
                let mut stream = std::pin::pin!(stream);
                let mut buffer = vec![0; 32 * 1024];
                complete = loop {
                    let silence = if *ended.borrow() { SILENCE_AFTER_END } else { SILENCE };
                    let read = tokio::select! {
                        read = tokio::time::timeout(silence, stream.read(&mut buffer)) => read,
                        // The shorter wait begins.
                        Ok(()) = ended.changed() => continue,
                    };
                    match read {
                        Ok(Ok(0)) => break true,
                        Ok(Ok(n)) => {
                            wait = WAIT.0;
                            for piece in reader.feed(&buffer[..n]) {
                                if to.send(piece).await.is_err() {
                                    return Ok(());
                                }
                            }
                        }
                        Ok(Err(_)) | Err(_) => break false,
                    }
                };
                // A connection that was made after the end and came to its own has shown all there is.
                if complete && was_ended {
                    return Ok(());
                }
            }
            Err(kube::Error::Api(status)) if status.is_not_found() => {
                if !complete {
                    // Nobody is left who does not know by now.
                    let _ = to.send(Piece::Gap).await;
                }
                return Ok(());
            }
            // The container is not there yet, which the pod tells.
            Err(kube::Error::Api(status)) if status.code == 400 && !was_ended => {}
            // The container is not there any more.
            Err(kube::Error::Api(status)) if status.code == 400 => return Ok(()),
            Err(error) if is_transient(&error) => {}
            Err(error) => return Err(KubernetesError::refused("show the log of a pod", error)),
        }
        // The last connection is not waited for.
        if *ended.borrow() && !was_ended {
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            Ok(()) = ended.changed() => {}
        }
        wait = (wait * 2).min(WAIT.1);
    }
}

/// The last line that was heard.
#[derive(Debug, Clone, Copy)]
struct Heard {
    at: Timestamp,
    /// Which one of those with this time, from 1.
    nth: u64,
    /// Bytes of it, with its end.
    bytes: u64,
    complete: bool,
}

/// Makes the program's bytes of lines with times.
#[derive(Debug, Default)]
struct Reader {
    heard: Option<Heard>,
    /// Lines with the time of `heard` that this connection has shown, while what was heard before is looked for.
    resuming: Option<u64>,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// Within the time at the beginning of a line.
    Time(Vec<u8>),
    /// In a line whose first bytes were heard before.
    Line { known: u64 },
    /// In a line that was heard before.
    Old,
    /// In what the node itself says, e.g. that it cannot find the log.
    Node,
}

impl Default for Place {
    fn default() -> Self {
        Self::Time(Vec::new())
    }
}

/// More bytes than a time has.
const NO_TIME: usize = 48;

impl Reader {
    fn reconnected(&mut self) {
        self.place = Place::default();
        self.resuming = self.heard.is_some().then_some(0);
    }

    fn feed(&mut self, mut bytes: &[u8]) -> Vec<Piece> {
        let mut pieces = Pieces::default();
        while !bytes.is_empty() {
            let end = bytes.iter().position(|byte| *byte == b'\n');
            match &mut self.place {
                Place::Time(gathered) => {
                    let space =
                        bytes.iter().position(|byte| *byte == b' ').filter(|at| end.is_none_or(|end| *at < end));
                    // Only what is a time ends at a space, at the end of a line, or when it is too long to be one.
                    let take = space.or(end).unwrap_or(bytes.len());
                    gathered.extend_from_slice(&bytes[..take]);
                    if space.is_none() && end.is_none() && gathered.len() < NO_TIME {
                        break;
                    }
                    bytes = &bytes[take..];
                    let gathered = std::mem::take(gathered);
                    let time = std::str::from_utf8(&gathered).ok().and_then(|text| text.parse().ok());
                    match time {
                        Some(at) => {
                            // The space after it.
                            bytes = bytes.get(usize::from(space.is_some())..).unwrap_or_default();
                            self.begin(at, &mut pieces);
                        }
                        None => {
                            pieces.said(&gathered);
                            self.place = Place::Node;
                        }
                    }
                }
                Place::Line { known } => {
                    let take = end.map_or(bytes.len(), |end| end + 1);
                    let skip = usize::try_from(*known).unwrap_or(usize::MAX).min(take);
                    *known -= skip as u64;
                    pieces.said(&bytes[skip..take]);
                    if let Some(heard) = &mut self.heard {
                        heard.bytes += (take - skip) as u64;
                        heard.complete = end.is_some();
                    }
                    bytes = &bytes[take..];
                    if end.is_some() {
                        self.place = Place::default();
                    }
                }
                Place::Old | Place::Node => {
                    let (line, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
                    if matches!(self.place, Place::Node) {
                        pieces.said(line);
                    }
                    bytes = rest;
                    if end.is_some() {
                        self.place = Place::default();
                    }
                }
            }
        }
        pieces.0
    }

    /// A line begins that was taken down then.
    fn begin(&mut self, at: Timestamp, pieces: &mut Pieces) {
        if let (Some(shown), Some(heard)) = (&mut self.resuming, self.heard) {
            if at == heard.at {
                *shown += 1;
            }
            if at < heard.at || (at == heard.at && *shown < heard.nth) {
                self.place = Place::Old;
                return;
            }
            self.resuming = None;
            if at == heard.at {
                self.place = if heard.complete { Place::Old } else { Place::Line { known: heard.bytes } };
                return;
            }
            if !heard.complete && heard.bytes > 0 {
                pieces.said(b"\n");
            }
            pieces.0.push(Piece::Gap);
        }
        let nth = self.heard.filter(|heard| heard.at == at).map_or(1, |heard| heard.nth + 1);
        self.heard = Some(Heard { at, nth, bytes: 0, complete: false });
        self.place = Place::Line { known: 0 };
    }
}

/// Pieces in their order; what is said in a row is one.
#[derive(Default)]
struct Pieces(Vec<Piece>);

impl Pieces {
    fn said(&mut self, bytes: &[u8]) {
        match self.0.last_mut() {
            _ if bytes.is_empty() => {}
            Some(Piece::Said(said)) => said.extend_from_slice(bytes),
            _ => self.0.push(Piece::Said(bytes.to_vec())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is made of connections, each of which shows some text; `|` cuts what one shows into what is read at once.
    fn check(connections: &[&str], wanted: &str) {
        let mut reader = Reader::default();
        let mut heard = String::new();
        for connection in connections {
            reader.reconnected();
            for bytes in connection.split('|') {
                for piece in reader.feed(bytes.as_bytes()) {
                    match piece {
                        Piece::Said(said) => heard.push_str(std::str::from_utf8(&said).unwrap()),
                        Piece::Gap => heard.push_str("<gap>"),
                    }
                }
            }
        }
        assert_eq!(heard, wanted, "{connections:?}");
    }

    #[test]
    fn lines_are_heard_once_over_any_number_of_connections() {
        let a = "2026-11-21T10:00:00.5Z";
        let b = "2026-11-21T10:00:00.500000001Z";
        let c = "2026-11-21T12:00:01+02:00";
        let all = format!("{a} one\n{b} two\n{b} two\n{c} three\n");
        let whole = "one\ntwo\ntwo\nthree\n";
        check(&[&all], whole);
        // Cut at every byte: as two reads of a connection, and as two connections.
        for at in 0..all.len() {
            check(&[&format!("{}|{}", &all[..at], &all[at..])], whole);
            check(&[&all[..at], &all], whole);
            check(&[&all[..at], &all[..at / 2], &all, &all], whole);
        }
    }

    #[test]
    fn what_is_lost_is_said() {
        check(&["2026-11-21T10:00:00Z one\n", "2026-11-21T10:00:02Z three\n"], "one\n<gap>three\n");
        check(&["2026-11-21T10:00:00Z on", "2026-11-21T10:00:02Z three\n"], "on\n<gap>three\n");
    }

    #[test]
    fn what_has_no_time_is_what_the_node_says() {
        check(
            &["unable to retrieve container logs\n2026-11-21T10:00:00Z one\n"],
            "unable to retrieve container logs\none\n",
        );
        check(&["nothing"], "");
        check(&[&"x".repeat(60)], &"x".repeat(60));
        check(&["2026-11-21T10:00:00Z \n2026-11-21T10:00:00Z  two \n"], "\n two \n");
    }
}
