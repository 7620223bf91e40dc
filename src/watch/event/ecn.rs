/// The marks of Explicit Congestion Notification (RFC 3168 section 5). A packet without one is
/// "not ECN-capable".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ecn {
    /// ECT(0): the transport understands marks.
    Ect0,
    /// ECT(1): the same; RFC 9331 gives it to low-latency traffic.
    Ect1,
    /// A router on the way is congested.
    Ce,
}
