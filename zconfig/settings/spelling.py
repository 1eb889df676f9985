"""Which known word was meant by one that is not known."""

from __future__ import annotations

from collections.abc import Iterable

_LONG = 8


def nearest(text: str, words: Iterable[str]) -> str | None:
    """Return the word that a text is most likely a misspelling of, or `None`.

    Args:
        text: What was written.
        words: What may have been meant: a word that is one slip away, or two if it is long.

    Example:
        >>> nearest("pasword", ["uri", "token", "password"])
        'password'
        >>> nearest("cluster_name", ["db_name", "username"]) is None
        True
    """
    distances = ((_slips(text, word), word) for word in words if _may_be(text, word))
    best = min(distances, default=None)
    return best[1] if best and best[0] <= _tolerance(best[1]) else None


def _tolerance(word: str) -> int:
    return 2 if len(word) >= _LONG else 1


def _may_be(text: str, word: str) -> bool:
    """Tell most pairs apart without counting: a slip changes at most two of the letters used."""
    slips = _tolerance(word)
    return abs(len(text) - len(word)) <= slips and len(set(text) ^ set(word)) <= 2 * slips


def _slips(one: str, other: str) -> int:
    """Count letters too many, too few or wrong, and neighbours swapped, between two words.

    The optimal string alignment distance: a row for each letter of `one`.
    """
    before: list[int] = []
    last = list(range(len(other) + 1))
    for i, letter in enumerate(one):
        row = [i + 1]
        for j, wanted in enumerate(other):
            slips = min(last[j + 1] + 1, row[j] + 1, last[j] + (letter != wanted))
            if i and j and letter == other[j - 1] and one[i - 1] == wanted:
                slips = min(slips, before[j - 1] + 1)
            row.append(slips)
        before, last = last, row
    return last[-1]
