# SPDX-License-Identifier: Apache-2.0
"""What one sandbox's gate decides, remembers and forgets."""

from __future__ import annotations

from ipaddress import ip_address

import dns.message
import dns.rrset
import pytest

from atoll_server.clock import ManualClock
from atoll_server.network.addresses import Guard
from atoll_server.network.dns import Vetted
from atoll_server.network.gate import (
    FEW,
    KEPT_DENIALS,
    Direction,
    Gate,
    Limits,
    OpenFlow,
    Room,
    Surroundings,
)
from atoll_server.network.news import Passed
from atoll_server.network.policy import Flow, Reason, Verdict
from atoll_server.network.resolver import Resolver
from atoll_server.network.written import parse_policy

A, B = ip_address("93.184.216.34"), ip_address("93.184.216.35")
SPEC = {"allow": ["a.test", "ssh.test:22"]}


class Scripted(Resolver):
    """Answers from a table, and counts."""

    def __init__(self, **addresses: str) -> None:
        super().__init__(())
        self.addresses = {name.replace("_", "."): value for name, value in addresses.items()}
        self.asked: list[str] = []

    async def ask(self, query: dns.message.Message) -> dns.message.Message | None:
        name = query.question[0].name.to_text(omit_final_dot=True)
        self.asked.append(name)
        if name not in self.addresses:
            return None
        response = dns.message.make_response(query)
        owner = query.question[0].name
        response.answer.append(dns.rrset.from_text(owner, 60, "IN", "A", self.addresses[name]))
        return dns.message.from_wire(response.to_wire())


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def resolver() -> Scripted:
    return Scripted(a_test=str(A), ssh_test=str(A))


@pytest.fixture
def gate(clock: ManualClock, resolver: Scripted) -> Gate:
    limits = Limits(connections=2, queries_per_second=1, queries_burst=2, bytes_per_second=100)
    return Gate(parse_policy(SPEC), Surroundings(Guard(), resolver, clock, limits))


async def test_name_is_asked_for_once_while_its_address_is_pinned(
    gate: Gate, resolver: Scripted, clock: ManualClock
) -> None:
    for _ in range(3):
        _, verdict = await gate.judge_named(A, 443, "a.test")
        assert verdict.allowed
    assert resolver.asked == ["a.test"]

    clock.advance(3600)
    await gate.judge_named(A, 443, "a.test")
    assert resolver.asked == ["a.test", "a.test"]


async def test_unlisted_name_is_not_asked_for(gate: Gate, resolver: Scripted) -> None:
    _, verdict = await gate.judge_named(A, 443, "evil.test")

    assert verdict.reason is Reason.NOT_LISTED
    assert resolver.asked == []


async def test_name_that_has_moved_to_a_protected_address_opens_nothing(
    gate: Gate, resolver: Scripted
) -> None:
    resolver.addresses["a.test"] = "169.254.169.254"

    _, verdict = await gate.judge_named(ip_address("169.254.169.254"), 443, "a.test")

    assert verdict.reason is Reason.PROTECTED


async def test_silent_name_servers_open_nothing(gate: Gate, resolver: Scripted) -> None:
    resolver.addresses.clear()

    _, verdict = await gate.judge_named(A, 443, "a.test")

    assert verdict.reason is Reason.NAME_FOREIGN
    assert isinstance(await gate.resolve("a.test"), Verdict)


async def test_opaque_connection_goes_to_an_address_that_was_asked_for(gate: Gate) -> None:
    assert not gate.judge_opaque(A, 22)[1].allowed

    assert isinstance(await gate.resolve("ssh.test"), Vetted)

    assert gate.judge_opaque(A, 22)[1].allowed
    assert not gate.judge_opaque(B, 22)[1].allowed


async def test_opaque_connection_never_goes_to_a_port_of_the_web(gate: Gate) -> None:
    await gate.resolve("a.test")

    assert gate.judge_opaque(A, 443)[1].reason is Reason.NAME_MISSING


def test_protected_address_is_refused_before_anything_is_read(gate: Gate) -> None:
    verdict = gate.judge_at_once(ip_address("10.0.0.1"), 443)

    assert verdict is not None
    assert verdict.reason is Reason.PROTECTED


def test_connections_are_counted_while_they_last(gate: Gate) -> None:
    with gate.admit() as first, gate.admit() as second:
        with gate.admit() as third:
            assert (first, second, third) == (True, True, False)
        assert gate.statistics().open_connections == 2
    with gate.admit() as again:
        assert again
    assert gate.statistics().connections == 4


def test_sandboxes_share_the_room_of_the_proxy(clock: ManualClock, resolver: Scripted) -> None:
    around = Surroundings(Guard(), resolver, clock, room=Room(most=1))
    one, other = (Gate(parse_policy("allow"), around) for _ in range(2))

    with one.admit() as first, other.admit() as second:
        assert (first, second) == (True, False)
    with other.admit() as later:
        assert later


def test_update_cuts_what_is_no_longer_allowed(gate: Gate) -> None:
    with (
        gate.keep(Flow(A, 443, "a.test", belongs=True)) as named,
        gate.keep(Flow(A, 22, "ssh.test", belongs=True)) as other,
    ):
        gate.update(parse_policy({"allow": ["ssh.test:22"]}))

        assert (named.is_cut, other.is_cut) == (True, False)


def test_flow_that_was_cut_early_ends_what_it_opens_late() -> None:
    ended: list[str] = []
    flow = OpenFlow(Flow(A, 443), now=0)
    flow.on_cut(lambda: ended.append("inside"))

    flow.cut()
    flow.on_cut(lambda: ended.append("outside"))

    assert ended == ["inside", "outside"]


def test_idle_flow_is_cut_and_busy_one_is_not(gate: Gate, clock: ManualClock) -> None:
    with gate.keep(Flow(A, 443)) as idle, gate.keep(Flow(A, 443)) as busy:
        clock.advance(gate.limits.idle_seconds + 1)
        gate.count_bytes(busy, Direction.SENT, 1)

        gate.cut_idle()

        assert (idle.is_cut, busy.is_cut) == (True, False)


def test_too_many_bytes_have_to_wait(gate: Gate) -> None:
    with gate.keep(Flow(A, 443)) as flow:
        assert gate.count_bytes(flow, Direction.SENT, 10) == 0
        assert gate.count_bytes(flow, Direction.SENT, 50) == 0.5
        assert gate.count_bytes(flow, Direction.RECEIVED, 10) == 0
    assert (gate.statistics().bytes_sent, gate.statistics().bytes_received) == (60, 10)


def test_too_many_questions_are_refused_until_time_has_passed(
    gate: Gate, clock: ManualClock
) -> None:
    assert [gate.may_ask_nowait() for _ in range(3)] == [True, True, False]

    clock.advance(1)

    assert [gate.may_ask_nowait() for _ in range(2)] == [True, False]


def test_denials_are_counted_all_and_kept_the_last(gate: Gate) -> None:
    for number in range(KEPT_DENIALS + 5):
        gate.note_denial(f"{number}.test", 443, Verdict(False, Reason.NOT_LISTED, "no"))

    assert gate.statistics().denied == {"not_listed": KEPT_DENIALS + 5}
    assert gate.denials[0].destination == "5.test"


def test_last_quarter_of_the_room_is_for_those_who_have_few() -> None:
    room = Room(most=100, taken=75)

    assert room.has_place(FEW - 1)
    assert not room.has_place(FEW)
    assert not Room(most=100, taken=100).has_place(0)


async def test_connection_that_ends_is_told_with_its_bytes(gate: Gate) -> None:
    with gate.keep(Flow(A, 443, "a.test")) as flow:
        flow.is_connected = True
        gate.count_bytes(flow, Direction.SENT, 3)
        gate.count_bytes(flow, Direction.RECEIVED, 5)

    assert list(gate.news.take()) == [Passed("", "a.test", 443, 1, 3, 5)]


async def test_closed_gate_cuts_what_is_open_and_tells_it_once(gate: Gate) -> None:
    with gate.keep(Flow(A, 443, "a.test")) as flow:
        flow.is_connected = True
        gate.close()
        assert flow.is_cut

    assert list(gate.news.take()) == [Passed("", "a.test", 443, 1, 0, 0)]


async def test_connection_that_was_never_made_has_not_ended(gate: Gate) -> None:
    with gate.keep(Flow(A, 443, "a.test")):
        pass

    assert list(gate.news.take()) == []
