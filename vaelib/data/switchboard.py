"""Switchboard: telephone dialogues as pairs of utterances (Zhao et al. 2017; Coupled-VAE, I.3)."""

import json
import re
from itertools import pairwise
from typing import Any

from vaelib.data.pairs import PairTexts
from vaelib.data.texts import decode_utf8
from vaelib.errors import VaelibError

MOST_WORDS = 200  # of an utterance; what follows is cut off (Coupled-VAE's released code)
WORD = re.compile(r"\w+|[^\w\s]+")


def tokenise(utterance: str) -> str:
    """Lower-case words and runs of punctuation, separated by blanks, at most 200 of them.

    >>> tokenise("Uh-huh, that's it...")
    "uh - huh , that ' s it ..."
    """
    return " ".join(WORD.findall(utterance.lower())[:MOST_WORDS])


def utterance_pairs(utterances: list[str], drop_last: bool = True) -> list[tuple[str, str]]:
    """Each utterance of a dialogue with the one before it, as (post, response).

    Args:
        utterances: Of one dialogue, in order, tokenised.
        drop_last: Leave out the pair whose response is the last utterance, as the released code
            does (T41).

    Returns:
        The pairs; those with an utterance without words are left out.
    """
    pairs = list(pairwise(utterances))
    return [pair for pair in (pairs[:-1] if drop_last else pairs) if all(pair)]


def read_dialogues(content: bytes, where: str, drop_last: bool = True) -> PairTexts:
    """Read one file of dialogues: a JSON object a line, with [speaker, text, ...] under `utts`.

    Args:
        content: The file.
        where: What to call it in messages.
        drop_last: As in `utterance_pairs`.

    Raises:
        VaelibError: Not UTF-8, a line that is no dialogue, or no pair in the whole file.
    """
    pairs: list[tuple[str, str]] = []
    for number, line in enumerate(decode_utf8(content, where).split("\n"), start=1):
        if line.strip():
            spoken = [tokenise(text) for text in _spoken(line, f"{where}, line {number}")]
            pairs += utterance_pairs(spoken, drop_last)
    if not pairs:
        raise VaelibError(f"{where} holds no pair of utterances; give the file of dialogues.")
    return PairTexts([post for post, _ in pairs], [response for _, response in pairs])


def _spoken(line: str, where: str) -> list[str]:
    """The utterances of a dialogue as written.

    Raises:
        VaelibError: The line is no dialogue.
    """
    try:
        dialogue: Any = json.loads(line)
        texts = [utterance[1] for utterance in dialogue["utts"]]
    except (ValueError, TypeError, KeyError, IndexError):
        texts = [None]
    if not all(isinstance(text, str) for text in texts):
        raise VaelibError(
            f"{where} is no dialogue; every line is a JSON object that lists [speaker, text, ...] "
            "under 'utts'."
        )
    return texts
