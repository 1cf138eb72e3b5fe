# SPDX-License-Identifier: Apache-2.0
"""What a sandbox's DNS questions are answered with: pure functions over messages, no sockets.

Only addresses of permitted names come back, so that answers carry nothing else in, and questions nothing out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.CNAME
import dns.rdtypes.ANY.OPT
import dns.rdtypes.ANY.SOA
import dns.rdtypes.IN.A
import dns.rrset

from atoll_server.network.addresses import Address, Guard, parse_address
from atoll_server.network.names import InvalidName, parse_name
from atoll_server.network.policy import Policy, Reason, Verdict, may_resolve

MAX_QUERY = 512
MAX_ADDRESSES = 16
MAX_CHAIN = 8
MIN_TTL = 5
MAX_TTL = 300
UDP_ANSWER = 1232
"""What a datagram may hold, so that it is never cut on the way."""

# Records of the four types imported above are read; the library would load others when it meets them, which the proxy
# cannot, without a file system, and takes as bytes without a meaning.
_HEADER = 12
# Names that mean another machine near the resolver, never one on the internet.
_PRIVATE_ZONES = ("localhost", "local", "internal", "home.arpa", "lan", "in-addr.arpa", "ip6.arpa")
# What programs ask beside addresses, and go on without. There is no IPv6 inside.
_EMPTY = (dns.rdatatype.AAAA, dns.rdatatype.HTTPS, dns.rdatatype.SVCB)


@dataclass(frozen=True)
class Question:
    """A question worth asking upstream: the addresses of a permitted name."""

    query: dns.message.Message
    name: str


@dataclass(frozen=True)
class Answer:
    """What goes back as it is. `refusal` is why, where that is no."""

    wire: bytes
    name: str | None = None
    refusal: Verdict | None = None


@dataclass(frozen=True)
class Vetted:
    """Addresses of a name that a sandbox may be told, and for how many seconds they hold."""

    addresses: tuple[Address, ...]
    seconds: int


def read_query(wire: bytes, policy: Policy) -> Question | Answer | None:
    """What to do about a query: ask, answer at once, or with None nothing, as it is not even a query."""
    if len(wire) < _HEADER or wire[2] & 0x80:
        return None
    query = _parse(wire) if len(wire) <= MAX_QUERY else None
    if query is None:
        return Answer(wire[:2] + b"\x80\x01" + bytes(8))
    if query.opcode() != dns.opcode.QUERY or len(query.question) != 1:
        return _refuse(
            query, dns.rcode.NOTIMP, None, Reason.MALFORMED, "only one question is answered"
        )
    question = query.question[0]
    try:
        name = parse_name(question.name.to_text(omit_final_dot=True))
    except InvalidName as error:
        return _refuse(query, dns.rcode.NXDOMAIN, None, Reason.MALFORMED, str(error))
    return _judge_question(query, name, policy)


def render_addresses(question: Question, vetted: Vetted) -> bytes:
    """The answer with these addresses, under the name that was asked for."""
    response = _respond(question.query)
    if vetted.addresses:
        ttl = min(max(vetted.seconds, MIN_TTL), MAX_TTL)
        owner = question.query.question[0].name
        response.answer.append(
            dns.rrset.from_text_list(
                owner, ttl, "IN", "A", [str(address) for address in vetted.addresses]
            )
        )
    return response.to_wire(max_size=65_535)


def render_failure(question: Question, verdict: Verdict) -> Answer:
    """The answer where upstream gave none, or one that a sandbox must not have."""
    code = dns.rcode.SERVFAIL if verdict.reason is Reason.UNREACHABLE else dns.rcode.REFUSED
    return _refuse(question.query, code, question.name, verdict.reason, verdict.text)


def render_absent(question: Question) -> bytes:
    """The answer where upstream knows no such name."""
    response = _respond(question.query)
    response.set_rcode(dns.rcode.NXDOMAIN)
    return response.to_wire()


def render_upstream(name: str) -> dns.message.QueryMessage:
    """The query that is asked upstream: of ours, with an id by chance; of the sandbox's it has nothing but the name."""
    return dns.message.make_query(
        dns.name.from_text(name), dns.rdatatype.A, use_edns=0, payload=UDP_ANSWER
    )


def vet(
    asked: dns.message.Message, answered: dns.message.Message, policy: Policy, guard: Guard
) -> Vetted | Verdict | None:
    """What may be told of an upstream answer. None: there is no such name. A verdict: it must not be told."""
    if not asked.is_response(answered):
        return _unreachable("what came back is not the answer to the question")
    if answered.rcode() == dns.rcode.NXDOMAIN:
        return None
    if answered.rcode() != dns.rcode.NOERROR:
        return _unreachable(f"the name server says {dns.rcode.to_text(answered.rcode())}")
    return _follow(asked.question[0].name, answered, policy, guard)


def _judge_question(query: dns.message.Message, name: str, policy: Policy) -> Question | Answer:
    question = query.question[0]
    verdict = _judge_name(name, policy)
    if not verdict.allowed:
        return _refuse(query, dns.rcode.NXDOMAIN, name, verdict.reason, verdict.text)
    if question.rdclass != dns.rdataclass.IN:
        return _refuse(
            query, dns.rcode.REFUSED, name, Reason.MALFORMED, "only class IN is answered"
        )
    if question.rdtype in _EMPTY:
        return Answer(_respond(query).to_wire(), name)
    if question.rdtype != dns.rdatatype.A:
        kind = dns.rdatatype.to_text(question.rdtype)
        text = f"records of type {kind} are not answered here, only addresses"
        return _refuse(query, dns.rcode.REFUSED, name, Reason.DENIED, text)
    return Question(query, name)


def _follow(
    owner: dns.name.Name, answered: dns.message.Message, policy: Policy, guard: Guard
) -> Vetted | Verdict:
    """Go from the name along its aliases to its addresses. Each alias is judged: it must not be denied, or private."""
    seconds = MAX_TTL
    for _ in range(MAX_CHAIN):
        records = answered.get_rrset("ANSWER", owner, dns.rdataclass.IN, dns.rdatatype.A)
        if records is not None:
            addresses = tuple(parse_address(record.address) for record in records)
            return _vet_addresses(owner, addresses, min(seconds, records.ttl), guard)
        alias = answered.get_rrset("ANSWER", owner, dns.rdataclass.IN, dns.rdatatype.CNAME)
        if alias is None:
            return Vetted((), seconds)
        owner, seconds = alias[0].target, min(seconds, alias.ttl)
        refusal = _judge_alias(owner, policy)
        if refusal is not None:
            return refusal
    return _unreachable(f"the name leads through more than {MAX_CHAIN} aliases")


def _judge_alias(target: dns.name.Name, policy: Policy) -> Verdict | None:
    try:
        name = parse_name(target.to_text(omit_final_dot=True))
    except InvalidName as error:
        return Verdict(False, Reason.MALFORMED, f"the name leads to what is no name: {error}")
    verdict = _judge_name(name, policy)
    # A name need not be listed to be what a listed one stands for: most lead to some network's machine.
    if verdict.allowed or verdict.reason is Reason.NOT_LISTED:
        return None
    return replace(verdict, text=f"the name leads to {name}: {verdict.text}")


def _judge_name(name: str, policy: Policy) -> Verdict:
    verdict = may_resolve(policy, name)
    listed = any(rule.names(name) for rule in policy.allow)
    if _is_private(name) and not listed and verdict.reason in (Reason.ALLOWED, Reason.NOT_LISTED):
        return Verdict(False, Reason.PROTECTED, f"{name} is a name of a private network")
    return verdict


def _vet_addresses(
    owner: dns.name.Name, addresses: tuple[Address, ...], seconds: int, guard: Guard
) -> Vetted | Verdict:
    refusals = [guard.refusal(address) for address in addresses]
    kept = tuple(a for a, refusal in zip(addresses, refusals, strict=True) if refusal is None)
    if not kept and refusals:
        text = f"{owner.to_text(omit_final_dot=True)} leads to a protected address: {refusals[0]}"
        return Verdict(False, Reason.PROTECTED, text)
    return Vetted(kept[:MAX_ADDRESSES], seconds)


def _is_private(name: str) -> bool:
    return any(name == zone or name.endswith(f".{zone}") for zone in _PRIVATE_ZONES)


def _unreachable(text: str) -> Verdict:
    return Verdict(False, Reason.UNREACHABLE, text)


def _parse(wire: bytes) -> dns.message.Message | None:
    try:
        return dns.message.from_wire(wire)
    except (dns.exception.DNSException, ValueError, IndexError):
        return None


def _respond(query: dns.message.Message) -> dns.message.Message:
    response = dns.message.make_response(query, recursion_available=True)
    response.flags &= ~dns.flags.CD
    return response


def _refuse(
    query: dns.message.Message, code: dns.rcode.Rcode, name: str | None, reason: Reason, text: str
) -> Answer:
    response = _respond(query)
    response.set_rcode(code)
    kind = (
        dns.edns.EDECode.BLOCKED if code != dns.rcode.SERVFAIL else dns.edns.EDECode.NETWORK_ERROR
    )
    # Also to those who did not say that they understand it: a resolver skips what it does not know.
    response.use_edns(0, payload=UDP_ANSWER, options=[dns.edns.EDEOption(kind, text)])
    return Answer(response.to_wire(), name, Verdict(False, reason, text))
