# SPDX-License-Identifier: Apache-2.0
"""Atoll's own API, v1: `protocol/http/README.md`."""

from atoll_server.api.native import (
    events,
    execute,
    file_batches,
    files,
    health,
    images,
    keys,
    metrics,
    pool,
    ports,
    processes,
    sandboxes,
    watches,
)

# What is asked for most comes first: paths are tried in this order.
OPERATIONS = (
    *execute.OPERATIONS,
    *processes.OPERATIONS,
    *files.OPERATIONS,
    *file_batches.OPERATIONS,
    *watches.OPERATIONS,
    *ports.OPERATIONS,
    *sandboxes.OPERATIONS,
    *events.OPERATIONS,
    *health.OPERATIONS,
    *images.OPERATIONS,
    *keys.OPERATIONS,
    *pool.OPERATIONS,
    *metrics.OPERATIONS,
)

__all__ = ["OPERATIONS"]
