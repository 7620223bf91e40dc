//! A connection's steps as JSON: lines of `--events FILE`, whose shapes are in `docs/events.md`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::event::transport::{Cause, Change, Event, Life, Limit, Rule, State, Step, Traced};

/// A step's own keys; `at` is when it happens.
pub(super) fn step_json(step: &Step, at: Instant) -> Value {
    let since = |then: Instant| at.saturating_duration_since(then).as_secs_f64();
    let mut line = match step {
        Step::Sent(sent) => json!({
            "number": sent.number,
            "bytes": sent.size,
            "ack_eliciting": sent.ack_eliciting,
            "data": sent.data,
            "again": sent.again,
            "probe": sent.probe,
        }),
        Step::Received { number, size } => json!({ "number": number, "bytes": size }),
        Step::Acknowledged {
            number,
            size,
            sent_at,
        } => json!({ "number": number, "bytes": size, "after": since(*sent_at) }),
        Step::Lost(lost) => extended(
            json!({
                "number": lost.number,
                "bytes": lost.size,
                "after": since(lost.sent_at),
                "congestion": lost.congestion,
            }),
            rule_json(lost.rule),
        ),
        Step::Spurious(spurious) => json!({
            "number": spurious.number,
            "after": since(spurious.sent_at),
            "late": seconds(spurious.late),
            "distance": spurious.distance,
            "whole_event": spurious.undoes,
        }),
        Step::Unsent {
            number,
            size,
            data,
            again,
        } => json!({ "number": number, "bytes": size, "data": data, "again": again }),
        Step::ProbeTimeout { count } => json!({ "count": count }),
        Step::State(state) => state_json(state),
        Step::Window(change) => change_json(change),
        Step::Mtu { before, after } => json!({ "before": before, "after": after }),
        Step::Address { from, to, new_path } => {
            json!({ "from": from, "to": to, "new_path": new_path })
        }
    };
    line["step"] = name(step).into();
    line
}

/// The keys of a connection's beginning, of its being connected and of its end.
pub(super) fn life_json(life: Life, of: &Traced) -> Value {
    let mut line = json!({ "step": life.name() });
    if life == Life::Opened {
        line["name"] = of.name.clone().into();
        line["remote"] = of.remote.to_string().into();
        line["congestion"] = of.congestion.into();
    }
    line
}

fn name(step: &Step) -> &'static str {
    match step {
        Step::Sent(_) => "sent",
        Step::Unsent { .. } => "unsent",
        Step::Received { .. } => "received",
        Step::Acknowledged { .. } => "acknowledged",
        Step::Lost(_) => "lost",
        Step::Spurious(_) => "spurious",
        Step::ProbeTimeout { .. } => "probe_timeout",
        Step::State(_) => "state",
        Step::Window(_) => "window",
        Step::Mtu { .. } => "mtu",
        Step::Address { .. } => "address",
    }
}

fn rule_json(rule: Rule) -> Value {
    match rule {
        Rule::PacketThreshold {
            threshold,
            largest_acked,
        } => json!({
            "rule": rule.name(),
            "threshold": threshold,
            "largest_acked": largest_acked,
        }),
        Rule::TimeThreshold {
            delay,
            largest_acked,
        } => json!({
            "rule": rule.name(),
            "delay": seconds(delay),
            "largest_acked": largest_acked,
        }),
    }
}

fn state_json(state: &State) -> Value {
    let mut spent = json!({});
    for limit in Limit::ALL {
        spent[limit.name()] = seconds(state.spent.by(limit)).into();
    }
    let is_measured = !state.latest_rtt.is_zero();
    let rtt = |time: Duration| is_measured.then(|| seconds(time));
    json!({
        "window": state.window,
        "ssthresh": state.ssthresh,
        "in_flight": state.in_flight,
        "in_flight_max": state.in_flight_max,
        "pacing_rate": state.pacing_rate,
        "rtt": rtt(state.latest_rtt),
        "rtt_longest": rtt(state.longest_rtt),
        "rtt_smoothed": rtt(state.smoothed_rtt),
        "rtt_min": rtt(state.min_rtt),
        "phase": state.phase,
        "limit": state.limit.name(),
        "spent": spent,
    })
}

fn change_json(change: &Change) -> Value {
    let line = json!({
        "before": change.before,
        "after": change.after,
        "ssthresh": change.ssthresh,
        "in_flight": change.in_flight,
        "phase": change.phase,
        "cause": change.cause.name(),
        "reaction": change.reaction.name(),
    });
    let more = match change.cause {
        Cause::Loss(event) | Cause::Persistent(event) => event_json(&event),
        Cause::Marked { largest, .. } => json!({ "number": largest }),
        Cause::Undone { number } => json!({ "number": number }),
        Cause::Acknowledged | Cause::Idle => json!({}),
    };
    extended(line, more)
}

fn event_json(event: &Event) -> Value {
    let line = json!({
        "number": event.largest,
        "packets": event.packets,
        "bytes": event.bytes,
        "until": event.until,
    });
    extended(line, rule_json(event.rule))
}

/// One object with the keys of both.
pub(super) fn extended(mut line: Value, more: Value) -> Value {
    if let (Some(line), Value::Object(more)) = (line.as_object_mut(), more) {
        line.extend(more);
    }
    line
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}
