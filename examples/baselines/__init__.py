# SPDX-License-Identifier: MIT
"""What the examples compare with: older methods, and the same networks in PyTorch."""
