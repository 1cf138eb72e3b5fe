# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from benchmarks.inside import parse_processor_seconds, parse_resident_mb

STAT = "1 (a (b) c) S 0 1 1 0 -1 4194560 113 0 1 0 250 17 9000 9000 20 0 4 0 1 1238265 279\n"


def test_processor_time_is_users_and_systems_without_the_childrens() -> None:
    assert parse_processor_seconds(STAT) == pytest.approx(2.67)


def test_resident_memory_is_in_mebibytes() -> None:
    status = "Name:\tagent\nVmHWM:\t    4096 kB\nVmRSS:\t    1536 kB\nThreads:\t4\n"

    assert parse_resident_mb(status) == pytest.approx(1.5)


def test_status_without_memory_is_an_error() -> None:
    with pytest.raises(ValueError, match="no VmRSS"):
        parse_resident_mb("Name:\tagent\n")
