# SPDX-License-Identifier: Apache-2.0
"""The engine: sandboxes, and what one does in them. Knows no URL and no runtime's flags."""
