# SPDX-License-Identifier: Apache-2.0
"""HTTP: the native API, and later the dialects."""
