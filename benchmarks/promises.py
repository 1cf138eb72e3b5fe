# SPDX-License-Identifier: Apache-2.0
"""The promised numbers that benchmarks check; `SPECIFICATION.md` lists the same, and a test compares the two."""

from __future__ import annotations

from benchmarks.measure import Promise

EXEC_CONTAINER = Promise("exec-container", at_most=2.5)
EXEC_GVISOR = Promise("exec-gvisor", at_most=0.4)
CREATE_COLD = Promise("create-cold", at_most=3.0)
STREAM_STDOUT = Promise("stream-stdout", at_least=0.25)
FILE_UPLOAD = Promise("file-upload", at_least=0.25)
FILE_DOWNLOAD = Promise("file-download", at_least=0.25)
MEMORY_FLAT = Promise("memory-flat", at_most=1.0)
IDLE_CONTAINER = Promise("idle-container", at_most=1.0)
IDLE_GVISOR = Promise("idle-gvisor", at_most=1.0)

ALL = (
    EXEC_CONTAINER,
    EXEC_GVISOR,
    CREATE_COLD,
    STREAM_STDOUT,
    FILE_UPLOAD,
    FILE_DOWNLOAD,
    MEMORY_FLAT,
    IDLE_CONTAINER,
    IDLE_GVISOR,
)
