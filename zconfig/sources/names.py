"""Which names are zconfig's own, and how the name of a file becomes that of a variable."""

from __future__ import annotations

import re

PREFIX = "ZILLIZ_"

MILVUS = {
    "MILVUS_URI": "ZILLIZ_URI",
    "MILVUS_TOKEN": "ZILLIZ_TOKEN",
    "MILVUS_USER": "ZILLIZ_USER",
    "MILVUS_PASSWORD": "ZILLIZ_PASSWORD",
    "MILVUS_DB_NAME": "ZILLIZ_DB_NAME",
    "MILVUS_DB": "ZILLIZ_DB_NAME",
    "MILVUS_DATABASE": "ZILLIZ_DB_NAME",
}
"""The variables of applications on pymilvus, and those that they are for the alias `default`.

pymilvus itself reads `MILVUS_URI` alone (`pymilvus/settings.py`).
"""

_VARIABLE = re.compile(r"(?:zilliz|zconfig)_", re.IGNORECASE | re.ASCII)
_SETTING = re.compile(
    r"(?:zilliz|zconfig|milvus)_|service_binding_root\Z", re.IGNORECASE | re.ASCII
)
_KEY = re.compile(r"(?:zilliz|zconfig)[-._]", re.IGNORECASE | re.ASCII)
_SEPARATORS = str.maketrans("-.", "__")


def is_variable(name: str) -> bool:
    """Return whether an environment variable is zconfig's own.

    Example:
        >>> is_variable("zilliz_uri"), is_variable("ZILLIZ"), is_variable("PATH")
        (True, False, False)
    """
    return _VARIABLE.match(name) is not None


def is_setting(name: str) -> bool:
    """Return whether an environment variable may say something of a connection.

    Example:
        >>> is_setting("MILVUS_URI"), is_setting("SERVICE_BINDING_ROOT"), is_setting("PATH")
        (True, True, False)
    """
    return _SETTING.match(name) is not None


def is_key(name: str) -> bool:
    """Return whether a key in a dotenv file is zconfig's own; `-` and `.` separate as well.

    Example:
        >>> is_key("zilliz-prod.token"), is_key("DATABASE_URL")
        (True, False)
    """
    return _KEY.match(name) is not None


def is_read(name: str) -> bool:
    """Return whether a key in a dotenv file is read: zconfig's own, or one of `MILVUS`.

    Example:
        >>> is_read("zilliz-uri"), is_read("MILVUS_USER"), is_read("MILVUS_HOST")
        (True, True, False)
    """
    return is_key(name) or name in MILVUS


def fold(name: str) -> str:
    """Return the name of a file or directory in the form of a variable.

    Example:
        >>> fold("eu-prod.token")
        'EU_PROD_TOKEN'
    """
    return name.translate(_SEPARATORS).upper()


def spellings(name: str) -> tuple[str, ...]:
    """Return the names that a file may have in place of one in lower case.

    Example:
        >>> spellings("zilliz_token")
        ('zilliz_token', 'ZILLIZ_TOKEN', 'zilliz-token')
    """
    return tuple(dict.fromkeys((name, name.upper(), name.replace("_", "-"))))
