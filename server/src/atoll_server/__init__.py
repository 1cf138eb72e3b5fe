# SPDX-License-Identifier: Apache-2.0
"""The Atoll server: sandboxes on this host, over HTTP."""

__version__ = "0.1.0"
