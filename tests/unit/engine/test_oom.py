# SPDX-License-Identifier: Apache-2.0
"""Who ran out of memory, and that a restart of the server does not forget it."""

from __future__ import annotations

import json

from atoll_server.engine.oom import VERDICTS_KEPT, OomKills


class Kernel:
    """Counts its kills."""

    def __init__(self, kills: int = 0) -> None:
        self.kills = kills

    def count(self) -> int:
        return self.kills


def restarted(kills: OomKills, kernel: Kernel) -> OomKills:
    """What a later life of the server knows, from the store."""
    known = OomKills(kernel.count)
    known.restore(json.loads(json.dumps(kills.facts())))
    return known


def test_each_kill_is_claimed_once_and_all_who_ask_hear_the_same() -> None:
    kernel = Kernel()
    kills = OomKills(kernel.count)
    kernel.kills = 1

    assert [kills.was_killed(number) for number in (7, 8, 7, 8)] == [True, False, True, False]


def test_kill_is_unexplained_until_somebody_claims_it() -> None:
    kills = OomKills(Kernel(1).count)
    before = kills.is_unexplained
    kills.was_killed(7)

    assert (before, kills.is_unexplained) == (True, False)


def test_kills_of_ours_count() -> None:
    kills = OomKills(Kernel().count)
    kills.note_own()

    assert (kills.was_killed(7), kills.was_killed(8)) == (True, False)


def test_verdict_survives_a_restart() -> None:
    kernel = Kernel(1)
    before = OomKills(kernel.count)
    before.was_killed(7)

    after = restarted(before, kernel)

    assert (after.was_killed(7), after.was_killed(8)) == (True, False)


def test_kill_that_nobody_had_asked_about_can_be_claimed_after_a_restart() -> None:
    kernel = Kernel()
    before = OomKills(kernel.count)
    before.note_own()

    after = restarted(before, kernel)
    kernel.kills += 1  # while the server was away

    assert [after.was_killed(number) for number in (7, 8, 9)] == [True, True, False]
    assert after.own == 1


def test_without_facts_what_was_ever_killed_is_nobodys() -> None:
    kernel = Kernel(3)
    kills = OomKills(kernel.count)
    kills.restore(None)

    assert not kills.was_killed(7)
    kernel.kills += 1
    assert kills.was_killed(8)


def test_store_is_told_of_what_it_should_keep_and_of_nothing_else() -> None:
    kernel, told = Kernel(), list[dict[str, object]]()
    kills = OomKills(kernel.count)
    kills.on_change = lambda: told.append(dict(kills.facts()))

    kills.was_killed(6)
    kernel.kills = 1
    kills.was_killed(7)
    kills.was_killed(7)
    kills.note_own()

    assert told == [
        {"own": 0, "claimed": 1, "killed": [7]},
        {"own": 1, "claimed": 1, "killed": [7]},
    ]


def test_only_so_many_verdicts_are_kept() -> None:
    kills = OomKills(Kernel(10 * VERDICTS_KEPT).count)
    for number in range(2 * VERDICTS_KEPT):
        kills.was_killed(number)

    assert kills.facts()["killed"] == [*range(VERDICTS_KEPT, 2 * VERDICTS_KEPT)]
