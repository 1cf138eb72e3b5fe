# SPDX-License-Identifier: Apache-2.0
"""What a sandbox may reach: the policy, the proxy that keeps it, and the namespaces that leave no way around it."""
