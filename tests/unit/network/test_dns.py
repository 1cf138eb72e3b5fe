# SPDX-License-Identifier: Apache-2.0
"""What DNS questions are answered with, and what upstream answers may say."""

from __future__ import annotations

from ipaddress import ip_address

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_server.network.addresses import Guard, parse_opening
from atoll_server.network.dns import (
    MAX_ADDRESSES,
    MAX_CHAIN,
    MAX_TTL,
    MIN_TTL,
    Answer,
    Question,
    Vetted,
    read_query,
    render_absent,
    render_addresses,
    render_failure,
    render_upstream,
    vet,
)
from atoll_server.network.policy import Reason, Verdict
from atoll_server.network.written import parse_policy

POLICY = parse_policy({"allow": ["a.test", "*.w.test"], "deny": ["evil.test", "x.w.test"]})
PUBLIC = "93.184.216.34"
GUARD = Guard()


def ask(name: str, kind: str = "A") -> Question | Answer | None:
    return read_query(dns.message.make_query(name, kind).to_wire(), POLICY)


def question_for(name: str) -> Question:
    question = ask(name)
    assert isinstance(question, Question)
    return question


def answer_to(name: str, kind: str = "A") -> dns.message.Message:
    answer = ask(name, kind)
    assert isinstance(answer, Answer)
    return dns.message.from_wire(answer.wire)


def told_errors(message: dns.message.Message) -> list[str]:
    """Texts of the extended errors."""
    return [
        option.text or "" for option in message.options if isinstance(option, dns.edns.EDEOption)
    ]


def vet_text(
    *records: str, asked: str = "a.test.", guard: Guard = GUARD
) -> Vetted | Verdict | None:
    """What becomes of an upstream answer with these records."""
    query = render_upstream(asked)
    text = f"id {query.id}\nopcode QUERY\nrcode NOERROR\nflags QR RD RA\n;QUESTION\n{asked} IN A\n"
    answered = dns.message.from_text(text + ";ANSWER\n" + "\n".join(records))
    return vet(query, answered, POLICY, guard)


def test_permitted_name_is_asked_upstream() -> None:
    assert question_for("A.TEST.").name == "a.test"


@pytest.mark.parametrize("kind", ["A", "AAAA", "TXT", "NULL", "ANY", "HTTPS", "MX", "PTR"])
def test_unlisted_name_does_not_exist_and_the_answer_says_why(kind: str) -> None:
    message = answer_to("secret-in-a-label.other.test", kind)

    assert message.rcode() == dns.rcode.NXDOMAIN
    assert not message.answer
    assert "not allowed by the sandbox's network policy" in told_errors(message)[0]


def test_denied_name_does_not_exist_though_a_wildcard_covers_it() -> None:
    assert answer_to("x.w.test").rcode() == dns.rcode.NXDOMAIN


@pytest.mark.parametrize("kind", ["AAAA", "HTTPS", "SVCB"])
def test_what_programs_go_on_without_is_empty(kind: str) -> None:
    message = answer_to("a.test", kind)

    assert (message.rcode(), message.answer) == (dns.rcode.NOERROR, [])


@pytest.mark.parametrize("kind", ["TXT", "NULL", "ANY", "MX", "CNAME", "NS", "SRV"])
def test_other_records_of_a_permitted_name_are_refused(kind: str) -> None:
    message = answer_to("a.test", kind)

    assert message.rcode() == dns.rcode.REFUSED
    assert told_errors(message)


def test_other_class_is_refused() -> None:
    query = dns.message.make_query("a.test", "A", "CH")
    answer = read_query(query.to_wire(), POLICY)
    assert isinstance(answer, Answer)
    assert dns.message.from_wire(answer.wire).rcode() == dns.rcode.REFUSED


def test_private_name_is_no_name_even_where_everything_is_allowed() -> None:
    query = dns.message.make_query("printer.local", "A").to_wire()

    answer = read_query(query, parse_policy("allow"))

    assert isinstance(answer, Answer)
    assert dns.message.from_wire(answer.wire).rcode() == dns.rcode.NXDOMAIN


def test_private_name_that_is_listed_is_asked() -> None:
    query = dns.message.make_query("db.internal", "A").to_wire()

    assert isinstance(read_query(query, parse_policy({"allow": ["db.internal:5432"]})), Question)


@given(st.binary(max_size=600))
def test_any_bytes_are_answered_without_an_exception(wire: bytes) -> None:
    outcome = read_query(wire, POLICY)
    if isinstance(outcome, Answer):
        dns.message.from_wire(outcome.wire, ignore_trailing=True)


@given(st.binary(max_size=6), st.integers(0, 40))
def test_any_change_of_a_query_is_answered_without_an_exception(inserted: bytes, at: int) -> None:
    wire = dns.message.make_query("a.test", "A", use_edns=0).to_wire()

    read_query(wire[:at] + inserted + wire[at:], POLICY)


def test_answer_is_not_answered() -> None:
    wire = bytearray(dns.message.make_query("a.test", "A").to_wire())
    wire[2] |= 0x80

    assert read_query(bytes(wire), POLICY) is None


@pytest.mark.parametrize("wire", [b"", b"\0" * 11])
def test_what_has_no_header_is_not_answered(wire: bytes) -> None:
    assert read_query(wire, POLICY) is None


def test_what_cannot_be_read_is_a_format_error() -> None:
    answer = read_query(b"\x12\x34" + b"\x01\x00\x00\x01" + bytes(6) + b"\xff", POLICY)

    assert isinstance(answer, Answer)
    assert dns.message.from_wire(answer.wire).rcode() == dns.rcode.FORMERR


def test_two_questions_are_not_answered() -> None:
    wire = bytearray(dns.message.make_query("a.test", "A").to_wire())
    wire[5] = 2
    answer = read_query(bytes(wire + wire[12:]), POLICY)

    assert isinstance(answer, Answer)
    assert dns.message.from_wire(answer.wire).rcode() == dns.rcode.NOTIMP


def test_upstream_question_has_an_id_of_its_own_and_no_more_than_the_name() -> None:
    ids = {render_upstream("a.test").id for _ in range(50)}

    assert len(ids) > 40
    assert render_upstream("a.test").options == ()


def test_public_addresses_are_told_under_the_name_that_was_asked() -> None:
    question = question_for("a.test")

    wire = render_addresses(question, Vetted((ip_address(PUBLIC),), 60))

    message = dns.message.from_wire(wire)
    assert [str(rrset) for rrset in message.answer] == [f"a.test. 60 IN A {PUBLIC}"]
    assert question.query.is_response(message)


@pytest.mark.parametrize(("seconds", "ttl"), [(0, MIN_TTL), (10**9, MAX_TTL)])
def test_time_to_live_is_bounded(seconds: int, ttl: int) -> None:
    wire = render_addresses(question_for("a.test"), Vetted((ip_address(PUBLIC),), seconds))

    assert dns.message.from_wire(wire).answer[0].ttl == ttl


def test_addresses_along_aliases_are_vetted() -> None:
    vetted = vet_text("a.test. 30 IN CNAME cdn.example.", f"cdn.example. 60 IN A {PUBLIC}")

    assert vetted == Vetted((ip_address(PUBLIC),), 30)


def test_records_that_do_not_belong_to_the_name_are_left_out() -> None:
    assert vet_text("other.test. 60 IN A 93.184.216.99") == Vetted((), MAX_TTL)


@pytest.mark.parametrize("address", ["169.254.169.254", "127.0.0.1", "10.0.0.1", "0.0.0.0"])
def test_name_that_leads_to_a_protected_address_is_refused(address: str) -> None:
    verdict = vet_text(f"a.test. 0 IN A {address}")

    assert isinstance(verdict, Verdict)
    assert verdict.reason is Reason.PROTECTED


def test_protected_addresses_among_others_are_left_out() -> None:
    vetted = vet_text("a.test. 60 IN A 10.0.0.1", f"a.test. 60 IN A {PUBLIC}")

    assert vetted == Vetted((ip_address(PUBLIC),), 60)


def test_protected_address_that_the_operator_opens_is_told() -> None:
    guard = Guard(opened=(parse_opening("10.0.0.1:5432"),))

    assert vet_text("a.test. 60 IN A 10.0.0.1", guard=guard) == Vetted(
        (ip_address("10.0.0.1"),), 60
    )


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("evil.test.", Reason.DENIED),
        ("x.w.test.", Reason.DENIED),
        ("db.internal.", Reason.PROTECTED),
        ("localhost.", Reason.PROTECTED),
        ("\\000.test.", Reason.MALFORMED),
    ],
)
def test_alias_to_a_denied_or_private_name_is_refused(target: str, reason: Reason) -> None:
    verdict = vet_text(f"a.test. 60 IN CNAME {target}", f"{target} 60 IN A {PUBLIC}")

    assert isinstance(verdict, Verdict)
    assert (verdict.allowed, verdict.reason) == (False, reason)


def test_circle_of_aliases_is_refused() -> None:
    verdict = vet_text("a.test. 60 IN CNAME b.example.", "b.example. 60 IN CNAME a.test.")

    assert isinstance(verdict, Verdict)
    assert str(MAX_CHAIN) in verdict.text


def test_no_more_addresses_are_told_than_the_limit() -> None:
    vetted = vet_text(*(f"a.test. 60 IN A 93.184.216.{n}" for n in range(1, 60)))

    assert isinstance(vetted, Vetted)
    assert len(vetted.addresses) == MAX_ADDRESSES


def test_answer_to_another_question_is_not_believed() -> None:
    query, other = render_upstream("a.test"), render_upstream("b.test")
    answered = dns.message.make_response(other)
    answered.id = query.id

    verdict = vet(query, answered, POLICY, GUARD)

    assert isinstance(verdict, Verdict)
    assert verdict.reason is Reason.UNREACHABLE


def test_absent_name_upstream_is_absent_here() -> None:
    query = render_upstream("a.test")
    answered = dns.message.make_response(query)
    answered.set_rcode(dns.rcode.NXDOMAIN)

    assert vet(query, answered, POLICY, GUARD) is None
    absent = dns.message.from_wire(render_absent(question_for("a.test")))
    assert absent.rcode() == dns.rcode.NXDOMAIN


def test_failure_upstream_is_told_as_one() -> None:
    answer = render_failure(
        question_for("a.test"), Verdict(False, Reason.UNREACHABLE, "no name server answered")
    )

    message = dns.message.from_wire(answer.wire)
    assert message.rcode() == dns.rcode.SERVFAIL
    assert told_errors(message) == ["no name server answered"]
