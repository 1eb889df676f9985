"""The faces towards other libraries: each imports its library when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zconfig.interop import pymilvus as pymilvus
