#!/usr/bin/env python3
"""A congestion controller for labnet: additive increase, multiplicative decrease.

    labnet compare --simulate --congestion new_reno,exec:conf/controllers/aimd.py

labnet starts this program and writes one line of JSON for each thing that happens to the connection: bytes
were acknowledged, packets were lost. The program answers each line with one line of its own: how many bytes
may be in flight from now on. docs/controllers.md has every event and every key.

Copy it and change it. What you print for yourself goes to standard error (see `note` at the end): standard
output belongs to the answers.
"""

import json
import sys


class Aimd:
    """One datagram more each round trip, half at a loss."""

    def __init__(self, hello):
        self.mtu = hello["mtu"]  # bytes of the largest datagram
        self.window = hello["initial_window"]  # bytes that may be in flight
        self.ssthresh = None  # unknown until the first loss
        self.recovery_started = None  # when the window was cut last, seconds

    def in_slow_start(self):
        return self.ssthresh is None

    def on_ack(self, ack):
        # A window that was not used up says nothing about the path: don't grow it.
        if ack["app_limited"]:
            return
        if self.in_slow_start():
            # Twice as much each round trip, to find out quickly what the path holds.
            self.window += ack["bytes"]
        else:
            # A window's worth of acknowledgements is a round trip: one datagram more.
            self.window += self.mtu * ack["bytes"] // self.window

    def on_congestion(self, loss):
        # One cut a round trip: what was sent before the last cut says nothing about the window after it.
        if self.recovery_started is None or loss["largest_sent_at"] > self.recovery_started:
            self.recovery_started = loss["now"]
            self.window = max(self.window // 2, 2 * self.mtu)
            self.ssthresh = self.window

    def on_mtu(self, mtu):
        # labnet has found that the path carries larger datagrams.
        self.mtu = mtu["mtu"]
        self.window = max(self.window, 2 * self.mtu)

    def answer(self):
        return {
            "window": self.window,
            "ssthresh": self.ssthresh,
            "slow_start": self.in_slow_start(),
            "phase": "slow_start" if self.in_slow_start() else "avoidance",
        }


def main():
    controller = None
    # One line an event, until labnet closes the input: then the connection is over.
    for line in sys.stdin:
        event = json.loads(line)
        kind = event["event"]
        if kind == "hello":
            controller = Aimd(event)
        elif kind == "ack":
            controller.on_ack(event)
        elif kind == "congestion":
            controller.on_congestion(event)
        elif kind == "mtu":
            controller.on_mtu(event)
        # Whatever else it is (`spurious`, `idle`): the window stays, and is the answer.

        # Without the flush the line waits in this process, and labnet waits for it.
        print(json.dumps(controller.answer()), flush=True)


def note(*words):
    """For you to see: labnet shows the last lines when something goes wrong."""
    print(*words, file=sys.stderr)


if __name__ == "__main__":
    main()
