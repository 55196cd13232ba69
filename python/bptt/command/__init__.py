# SPDX-License-Identifier: MIT
"""Commands that train and use models: ``bptt fit``, ``predict``, ``generate`` and ``convert``."""
