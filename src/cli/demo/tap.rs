//! Hears every packet that any role sends.

use std::{
    fmt::{Debug, Write},
    sync::mpsc::Sender,
    time::Instant,
};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Layer};

use super::story::{Happening, Packet};
use crate::telemetry::packets;

/// A `tracing` layer that turns the events of [`packets`] into [`Happening`]s.
pub(super) struct Tap(pub(super) Sender<Happening>);

impl<S: Subscriber> Layer<S> for Tap {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        if event.metadata().target() != packets::TARGET {
            return;
        }
        let mut packet = Packet::default();
        event.record(&mut packet);
        // Nobody listens any more: the demo is over.
        let _ = self.0.send(Happening::Packet(Instant::now(), packet));
    }
}

impl Visit for Packet {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = match field.name() {
            "role" => &mut self.role,
            "protocol" => &mut self.protocol,
            "source" => &mut self.source,
            "destination" => &mut self.destination,
            "fate" => &mut self.fate,
            "meaning" => &mut self.meaning,
            _ => return,
        };
        // Writing to a String never fails.
        let _ = write!(text, "{value:?}");
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "bytes" {
            self.bytes = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::telemetry::packets::Fate;

    #[test]
    fn a_packet_is_heard_with_all_its_fields_and_nothing_else_is() {
        let (sender, heard) = mpsc::channel();
        let subscriber = tracing_subscriber::registry().with(Tap(sender));
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!("not a packet");
            let (source, destination) = ("127.0.0.1:1", "127.0.0.1:2");
            packets::sent(
                "client",
                "DHCP",
                source.parse().expect("an address"),
                destination.parse().expect("an address"),
                300,
                Fate::Resent,
                format_args!("discover: \"hello\""),
            );
        });
        let Ok(Happening::Packet(_, packet)) = heard.recv() else {
            panic!("no packet");
        };
        assert_eq!(
            packet,
            Packet {
                role: "client".to_owned(),
                protocol: "DHCP".to_owned(),
                source: "127.0.0.1:1".to_owned(),
                destination: "127.0.0.1:2".to_owned(),
                bytes: 300,
                fate: "resent".to_owned(),
                meaning: "discover: \"hello\"".to_owned(),
            }
        );
        assert!(heard.recv().is_err(), "one packet only");
    }
}
