# SPDX-License-Identifier: Apache-2.0
"""How long addresses stay those of a name."""

from __future__ import annotations

from ipaddress import ip_address

from atoll_server.network.pins import MAX_SECONDS, MIN_SECONDS, Pins

A, B = ip_address("93.184.216.34"), ip_address("93.184.216.35")


def test_pin_holds_for_its_name_and_address_alone() -> None:
    pins = Pins()
    pins.pin("a.test", [A], seconds=300, now=0)

    assert pins.holds("a.test", A, now=299)
    assert not pins.holds("a.test", B, now=0)
    assert not pins.holds("b.test", A, now=0)


def test_pin_ends() -> None:
    pins = Pins()
    pins.pin("a.test", [A], seconds=300, now=0)

    assert not pins.holds("a.test", A, now=300)
    assert len(pins) == 0


def test_time_to_live_is_bounded_both_ways() -> None:
    pins = Pins()
    pins.pin("short.test", [A], seconds=0, now=0)
    pins.pin("long.test", [A], seconds=1e9, now=0)

    assert pins.names(A, now=MIN_SECONDS - 1) == ("long.test", "short.test")
    assert pins.names(A, now=MIN_SECONDS) == ("long.test",)
    assert pins.names(A, now=MAX_SECONDS) == ()


def test_shorter_answer_does_not_end_a_pin_earlier() -> None:
    pins = Pins()
    pins.pin("a.test", [A], seconds=300, now=0)
    pins.pin("a.test", [A], seconds=60, now=10)

    assert pins.holds("a.test", A, now=299)


def test_oldest_pins_go_where_there_are_too_many() -> None:
    pins = Pins(limit=2)
    for name in ("a.test", "b.test", "c.test"):
        pins.pin(name, [A], seconds=300, now=0)

    assert pins.names(A, now=1) == ("b.test", "c.test")
