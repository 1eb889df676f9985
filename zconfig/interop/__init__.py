"""Integrations with other libraries; each module imports its library on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zconfig.interop import pymilvus as pymilvus
