# SPDX-License-Identifier: Apache-2.0
"""The promised numbers that benchmarks check; `SPECIFICATION.md` lists the same, and a test compares the two."""

from __future__ import annotations

from benchmarks.measure import Promise

EXEC_CONTAINER = Promise("exec-container", at_most=2.5)
EXEC_GVISOR = Promise("exec-gvisor", at_most=0.4)
CREATE_COLD = Promise("create-cold", at_most=3.0)
CREATE_100 = Promise("create-100", at_most=1.0)
CREATE_WARM = Promise("create-warm", at_most=15.0)
CREATE_WARM_P99 = Promise("create-warm-p99", at_most=3.0)
CREATE_100_WARM = Promise("create-100-warm", at_most=1.0)
FIRST_TRUE = Promise("first-true", at_most=1.0)
STREAM_STDOUT = Promise("stream-stdout", at_least=0.25)
FILE_UPLOAD = Promise("file-upload", at_least=0.25)
FILE_DOWNLOAD = Promise("file-download", at_least=0.25)
MEMORY_FLAT = Promise("memory-flat", at_most=1.0)
IDLE_CONTAINER = Promise("idle-container", at_most=1.0)
IDLE_GVISOR = Promise("idle-gvisor", at_most=1.0)
STREAM_FIRST_BYTE = Promise("stream-first-byte", at_most=3.0)
READERS_APART = Promise("readers-apart", at_least=0.8)
READERS_TEN = Promise("readers-ten", at_most=2.0)
PROCESSES_500 = Promise("processes-500", at_least=1.0)
PROCESSES_100X5 = Promise("processes-100x5", at_least=1.0)
QUIET = Promise("quiet", at_most=3.0)
PREVIEW_LATENCY = Promise("preview-latency", at_most=1.0)
PREVIEW_THROUGHPUT = Promise("preview-throughput", at_least=0.5)
EGRESS = Promise("egress", at_least=0.5)
EGRESS_200 = Promise("egress-200", at_least=0.9)
AGENT_IDLE = Promise("agent-idle", at_most=1.0)

ALL = (
    EXEC_CONTAINER,
    EXEC_GVISOR,
    CREATE_COLD,
    CREATE_100,
    CREATE_WARM,
    CREATE_WARM_P99,
    CREATE_100_WARM,
    FIRST_TRUE,
    STREAM_STDOUT,
    FILE_UPLOAD,
    FILE_DOWNLOAD,
    MEMORY_FLAT,
    IDLE_CONTAINER,
    IDLE_GVISOR,
    STREAM_FIRST_BYTE,
    READERS_APART,
    READERS_TEN,
    PROCESSES_500,
    PROCESSES_100X5,
    QUIET,
    PREVIEW_LATENCY,
    PREVIEW_THROUGHPUT,
    EGRESS,
    EGRESS_200,
    AGENT_IDLE,
)
