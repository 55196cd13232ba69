# SPDX-License-Identifier: MIT
"""Files: opened, parsed, written whole; pictures."""
