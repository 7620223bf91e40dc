//! Whose a file over HTTP was: by the sessions of RUDP that its host had meanwhile.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::role::api::{EndedSession, EndedTransfer, SessionEntry};

/// Gives each transfer the name of the one client that had a session from the same host while the transfer
/// lasted: open at `now`, or over.
pub(super) fn give(
    transfers: &mut [EndedTransfer],
    open: &[SessionEntry],
    over: &[EndedSession],
    now: SystemTime,
) {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = now.as_secs_f64();
    let open = open.iter().map(|session| {
        let age = session.statistics.get("connected_seconds");
        let age = age.and_then(serde_json::Value::as_f64).unwrap_or(0.0);
        (session.client.ip(), &session.name, now - age, now)
    });
    let over = over.iter().map(|session| {
        let began = session.ended_unix - session.connected_seconds;
        (
            session.client.ip(),
            &session.name,
            began,
            session.ended_unix,
        )
    });
    let sessions: Vec<_> = open
        .chain(over)
        .filter(|(_, name, ..)| !name.is_empty())
        .collect();
    for transfer in transfers {
        let (began, ended) = (
            transfer.ended_unix - transfer.connected_seconds,
            transfer.ended_unix,
        );
        let mut names: Vec<&String> = sessions
            .iter()
            .filter(|(host, _, from, until)| {
                *host == transfer.client.ip() && *from <= ended && began <= *until
            })
            .map(|(_, name, ..)| *name)
            .collect();
        names.sort();
        names.dedup();
        if let [name] = names[..] {
            transfer.name.clone_from(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, time::Duration};

    use super::*;

    fn transfer(host: u8, ended: f64, seconds: f64) -> EndedTransfer {
        EndedTransfer {
            kind: "http".to_owned(),
            client: SocketAddr::from(([127, 0, 0, host], 1000)),
            name: String::new(),
            file: "a.zip".to_owned(),
            how: "end".to_owned(),
            ended_unix: ended,
            connected_seconds: seconds,
            length_bytes: 1,
            bytes_sent: 1,
            congestion: "cubic".to_owned(),
            rtt_seconds: None,
            segments_sent: None,
            segments_retransmitted: None,
        }
    }

    fn session(host: u8, name: &str, began: f64, ended: f64) -> EndedSession {
        EndedSession {
            kind: "signals".to_owned(),
            client: SocketAddr::from(([127, 0, 0, host], 2000)),
            name: name.to_owned(),
            connection_id: None,
            how: "end".to_owned(),
            cause: None,
            ended_unix: ended,
            connected_seconds: ended - began,
            bytes_received: 0,
            bytes_sent: 0,
            lost: 0,
            sent_again: 0,
        }
    }

    #[test]
    fn a_transfer_has_the_one_name_that_its_host_had_meanwhile() {
        let over = [
            session(1, "Tal", 100.0, 110.0),
            session(1, "Tal", 105.0, 106.0),
            session(1, "Ada", 200.0, 210.0),
            session(2, "Eve", 100.0, 300.0),
            session(2, "", 100.0, 300.0),
            session(2, "Bob", 250.0, 260.0),
        ];
        let open = [SessionEntry {
            kind: "transport".to_owned(),
            client: SocketAddr::from(([127, 0, 0, 3], 3000)),
            name: "Zoe".to_owned(),
            connection_id: None,
            statistics: [("connected_seconds".to_owned(), 50.0.into())]
                .into_iter()
                .collect(),
        }];
        let mut transfers = [
            transfer(1, 107.0, 2.0),
            transfer(1, 150.0, 2.0),
            transfer(1, 205.0, 100.0),
            transfer(1, 205.0, 1.0),
            transfer(2, 120.0, 1.0),
            transfer(2, 255.0, 1.0),
            transfer(3, 960.0, 5.0),
            transfer(3, 940.0, 5.0),
        ];
        give(
            &mut transfers,
            &open,
            &over,
            UNIX_EPOCH + Duration::from_secs(1000),
        );
        let names = transfers.map(|transfer| transfer.name);
        assert_eq!(names, ["Tal", "", "", "Ada", "Eve", "", "Zoe", ""]);
    }
}
