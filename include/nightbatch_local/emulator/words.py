"""Make readable words and sentences, partly drawn from the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

_COMMON = """
balance clarity detail evidence focus quality rhythm signal story structure tone value audience context contrast
customer delivery design effort feature growth impact market message opening pattern price product question reason
result service shape source summary trend version window
"""
VOCABULARY = tuple(_COMMON.split())

_SENTENCES = (
    "The {0} is clear, and the {1} supports the {2} well.",
    "A stronger {0} would give the {1} more weight.",
    "Compared with similar work, the {0} stands out for its {1} and {2}.",
    "The {0} could say more about the {1}.",
    "Overall the {0} holds together, with a consistent {1} from {2} to {3}.",
    "Readers will notice the {0} first, then the {1}.",
    "There is room to tighten the {0} without losing the {1}.",
    "The {0} answers the main {1} and leaves little doubt about the {2}.",
)


def some_words(random: Random, prompt_words: Sequence[str], count: int) -> list[str]:
    """Return `count` words, about half of them from the prompt."""
    # one float a word: `random.choice` costs three times as much, and this runs a million times a night
    draw = random.random
    own, common = prompt_words or VOCABULARY, VOCABULARY
    pools = [own if index % 2 == 0 else common for index in range(count)]
    return [pool[int(draw() * len(pool))] for pool in pools]


def sentences(random: Random, prompt_words: Sequence[str], count: int) -> str:
    """Return `count` sentences in a row."""
    chosen = [_SENTENCES[int(random.random() * len(_SENTENCES))] for _ in range(count)]
    return " ".join(pattern.format(*some_words(random, prompt_words, 4)) for pattern in chosen)


def phrase(random: Random, prompt_words: Sequence[str], count: int) -> str:
    """Return a few words that begin with a capital letter."""
    return " ".join(some_words(random, prompt_words, count)).capitalize()


def names(text: str) -> frozenset[str]:
    """Return the names that stand in a text, with space between them."""
    return frozenset(text.split())
