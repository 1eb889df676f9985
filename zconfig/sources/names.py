"""Which names are zconfig's own, and how the name of a file becomes that of a variable."""

from __future__ import annotations

import re

from zconfig.origin import printable

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


# Letters of other alphabets that look like one of ASCII: Cyrillic, then Greek.
_LOOK_ALIKES = dict(
    zip(
        "\u0410\u0412\u0415\u0406\u0408\u041a\u041c\u041d\u041e\u0420\u0405\u0421\u0422\u0423\u0425"
        "\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7",
        "ABEIJKMHOPSCTYXABEZHIKMNOPTYX",
        strict=True,
    )
)
_INVISIBLE = frozenset({"Cf", "Zs", "Zl", "Zp"})  # categories: formats, such as U+200B, and spaces


def plain(name: str) -> str:
    """Return a name without invisible characters, and with ASCII for what looks like it.

    Example:
        >>> plain("ZILLIZ_\u200bURI"), plain("\uff35\uff32\uff29"), plain("T\u041eKEN")
        ('ZILLIZ_URI', 'URI', 'TOKEN')
    """
    # Not `name.isascii()`: a plugin may return a name that is no text.
    return name if str.isascii(name) else "".join(map(_plain, name))


def _plain(char: str) -> str:
    import unicodedata

    if char.isascii():
        return char
    if unicodedata.category(char) in _INVISIBLE:
        return ""
    same = unicodedata.normalize("NFKC", char)  # full-width forms, for example
    if len(same) == 1 and same.isascii():
        return same
    alike = _LOOK_ALIKES.get(char.upper(), char)
    return alike if char.isupper() else alike.lower()


def oddities(name: str) -> str:
    """Return the characters of a name that are no ASCII; empty if `plain` leaves any of them.

    Example:
        >>> oddities("ZILLIZ_\u200bURI"), oddities("ZILLIZ_URI")
        ('U+200B (ZERO WIDTH SPACE)', '')
    """
    if name.isascii() or not plain(name).isascii():
        return ""
    import unicodedata

    odd = (c for c in dict.fromkeys(name) if not c.isascii())
    return " and ".join(f"U+{ord(c):04X} ({unicodedata.name(c, 'no name')})" for c in odd)


def as_key(name: str) -> str:
    """Return a name as the key of an entry: printable, but for characters that are told of."""
    return name if oddities(name) else printable(name)


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
