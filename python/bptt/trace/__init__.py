# SPDX-License-Identifier: MIT
"""What a backward pass shows of the gradient on its way through time."""
