"""An embedding without a model: texts that share words are near each other."""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter

DIMENSION = 64
TEXTS = (
    "The token is read from a secret file.",
    "Milvus Lite runs inside the process.",
    "A server that is not up yet is waited for.",
)
QUESTION = "Which secret file holds the token?"
ANSWER = TEXTS[0]


def embed(text: str) -> list[float]:
    """Return a vector of length 1 of the words of a text, hashed into `DIMENSION` places."""
    words = re.findall(r"[a-z]+", text.lower())
    counts = Counter(zlib.crc32(word.encode()) % DIMENSION for word in words)
    length = math.sqrt(sum(count**2 for count in counts.values())) or 1.0
    return [counts[place] / length for place in range(DIMENSION)]
