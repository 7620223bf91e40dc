use crate::{
    config,
    link::{Blackout, LinkOptions, SocketLink},
};

/// The options of one direction as the link takes them.
pub fn link_options(direction: &config::LinkDirection) -> LinkOptions {
    LinkOptions {
        loss: direction.loss,
        burst: direction.burst,
        delay: direction.delay,
        jitter: direction.jitter,
        rate: direction.rate,
        queue: direction.queue,
        reorder: direction.reorder,
        reorder_by: direction.reorder_by,
        duplicate: direction.duplicate,
        corrupt: direction.corrupt,
        blackout: direction
            .blackout
            .map(|(works, dark)| Blackout { works, dark }),
    }
}

/// Makes the link as bad as `[link]` says; without the table it does nothing.
pub(super) fn configure(link: &SocketLink, table: Option<&config::Link>) {
    let nothing = config::LinkDirection::default();
    let (up, down, seed) = table.map_or((&nothing, &nothing, 0), |table| {
        (&table.up, &table.down, table.seed)
    });
    link.configure(link_options(up), link_options(down), seed);
}
