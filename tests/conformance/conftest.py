# SPDX-License-Identifier: Apache-2.0
"""Every test here leaves the host as it found it."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def _clean_host(clean_host: None) -> None:
    """For all of them."""
