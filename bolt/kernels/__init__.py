"""The one list of kernel families."""

from __future__ import annotations

from bolt.kernels.family import Family

FAMILIES: tuple[Family, ...] = ()
"""Every family, in the order they are asked. `bolt.search` looks at all that support a spec."""
