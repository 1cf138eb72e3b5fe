# SPDX-License-Identifier: Apache-2.0
"""Previews: the way from a browser to a program that listens inside a sandbox. Knows nothing of the API's routes."""
