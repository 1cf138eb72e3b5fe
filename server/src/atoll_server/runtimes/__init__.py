# SPDX-License-Identifier: Apache-2.0
"""The programs that isolate, and the parts of Linux that sandboxes are made of."""
