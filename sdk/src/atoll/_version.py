# SPDX-License-Identifier: Apache-2.0
"""The version of this distribution, in one place."""

__version__ = "0.1.0"
USER_AGENT = f"atoll-python/{__version__}".encode()
