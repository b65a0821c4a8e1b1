"""Make unit vectors from the words of a text: texts that share words lie near each other."""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

_PLACES_PER_WORD = 8
_WORD = re.compile(r"\w+")


def embed(text: str, dimensions: int) -> NDArray[np.float32]:
    """Return a float32 unit vector. Every word adds to eight places that follow from its hash."""
    words = _WORD.findall(text.lower()) or [text]
    hashed = np.concatenate([_hashes(word) for word in words])
    signs = np.where(hashed & np.uint64(1), 1.0, -1.0)
    places = ((hashed >> np.uint64(1)) % np.uint64(dimensions)).astype(np.int64)
    vector = np.bincount(places, weights=signs, minlength=dimensions)
    length = float(np.sqrt(vector @ vector))
    if length == 0.0:  # all words cancel out, or the text is empty
        vector[0] = length = 1.0
    return (vector / length).astype(np.float32)


@lru_cache(maxsize=50_000)
def _hashes(word: str) -> NDArray[np.uint64]:
    return np.frombuffer(blake2b(word.encode(errors="surrogatepass")).digest(), dtype=np.uint64, count=_PLACES_PER_WORD)
