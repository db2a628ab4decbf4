"""The embedded corpus `pairs`: a review from `grammar` as post, and somebody's response to it.

What is answered follows from what the post says (its sentiment, aspect, place and time, and the
very noun it is about); how it is answered does not: one of five acts in one of three tones, drawn
independently of the post, and ranked, Zipf-weighted choices of words. So there are many good
responses to a post, and a conditional model has something to be diverse about. Given the post, no
two derivations give the same response, and all conditional entropies are exact: H(response | post)
is the least NLL that any model can reach, and whoever knows act and tone knows `choice_entropy()`
nats of it.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np

from vaelib.data import grammar
from vaelib.data.grammar import SLOT, Rule
from vaelib.data.grammar_rules import FACTORS
from vaelib.data.pairs import PairTexts
from vaelib.data.texts import SPLITS
from vaelib.errors import check_name

SEED = 20_231

# What is free in a response, drawn independently of the post: value -> probability.
CHOICES: dict[str, dict[str, float]] = {
    "act": {"agree": 0.28, "ask": 0.24, "plan": 0.20, "doubt": 0.16, "reply": 0.12},
    "tone": {"plain": 0.5, "warm": 0.3, "dry": 0.2},
}

# Rule -> the factors of post and response that choose among its variants.
DEPENDS: dict[str, tuple[str, ...]] = {
    "response": ("act",),
    "open": ("tone",),
    "answer": ("act", "sentiment"),
    "other": ("aspect",),
    "soon": ("sentiment",),
    "contrary": ("sentiment",),
}

# Rule -> alternatives separated by "|", the most likely first; "-" is an empty one. A slot that has
# no rule here has one in `grammar`; `{topic}` is the noun of the post.
RULES: dict[str, str] = {
    "response": "{open} {answer} {end}",
    "response.ask": "{open} {answer} ?",
    "open.plain": "-",
    "open.warm": "oh , | wow , | ah , | dear me ,",
    "open.dry": "well , | hm , | okay , | right ,",
    "answer.agree": "i {judge} the {topic} too | my {folk} {say} the same | we {judge} it as well",
    "answer.ask": "how {be} the {other} | and the {other} | what about the {other} | "
    "when {be} that",
    "answer.plan": "i will {urge} {this} {soon} | we will {urge} it {soon} | see you there {soon}",
    "answer.plan.negative": "i will {urge} {this} {soon} | we will {urge} it {soon} | never again",
    "answer.doubt": "the {topic} {be} {contrary} for me | my {folk} {find} the {topic} {contrary}",
    "answer.reply.positive": "{thanks} for the {praise} | we are proud of the {topic}",
    "answer.reply.negative": "{sorry} about the {topic} | we are working on the {topic}",
    "folk": "friends | parents | neighbours | cousins | flatmates | children",
    "other.product": "service | price | wait | atmosphere",
    "other.staff": "quality | price | wait | atmosphere",
    "other.room": "service | price | quality | wait",
    "other.price": "quality | service | atmosphere | wait",
    "other.speed": "service | quality | price | atmosphere",
    "soon.positive": "soon | tomorrow | next week | this weekend | again",
    "soon.negative": "then | from now on | for a while | next time",
    "contrary.positive": "boring | overrated | forgettable | nothing special",
    "contrary.negative": "fine | decent | all right | not that bad",
    "thanks": "thank you | thanks | many thanks",
    "praise": "kind words | praise | lovely review | compliment",
    "sorry": "we are sorry | so sorry | our apologies | we feel bad",
}


@dataclass(frozen=True)
class Pair:
    """A post and its response, with how the response came about.

    Args:
        post: The review, from `grammar`, with its factors.
        words: The response.
        choices: Act and tone of the response.
        log_prob: Log-probability of the response given the post, in nats.
    """

    post: grammar.Derivation
    words: tuple[str, ...]
    choices: dict[str, str]
    log_prob: float


@cache
def rules() -> dict[str, Rule]:
    """The rules of responses by full name; the alternative of rank r has weight r ** -ZIPF."""
    table = {}
    for name, text in RULES.items():
        alternatives = tuple(tuple(w for w in a.split() if w != "-") for a in text.split("|"))
        weights = [rank**-grammar.ZIPF for rank in range(1, len(alternatives) + 1)]
        table[name] = Rule(alternatives, tuple(w / sum(weights) for w in weights))
    return table


def _rule(slot: str, known: Mapping[str, str]) -> Rule:
    """What a slot expands to, given the factors of the post, its topic, and the choices."""
    if slot == "topic":
        return Rule(((known["topic"],),), (1.0,))
    parts = [slot, *(known[factor] for factor in DEPENDS.get(slot, ()))]
    while parts:
        if (name := ".".join(parts)) in rules():
            return rules()[name]
        parts.pop()
    return grammar.rules()[grammar.find_rule(slot, known)]


def topic(post: grammar.Derivation) -> str:
    """The noun that a post is about."""
    nouns = _rule("noun", post.factors).alternatives
    (found,) = {word for word in post.words if (word,) in nouns}
    return found


def respond(post: grammar.Derivation, uniform: Callable[[], float]) -> Pair:
    """Draw a response to a post with uniform numbers in [0, 1)."""
    choices, log_prob = {}, 0.0
    for name, values in CHOICES.items():
        choice = Rule(tuple((v,) for v in values), tuple(values.values()))
        picked = choice.draw(uniform())
        choices[name] = choice.alternatives[picked][0]
        log_prob += math.log(choice.probabilities[picked])
    known = post.factors | choices | {"topic": topic(post)}
    words, pending = [], ["{response}"]
    while pending:
        symbol = pending.pop()
        if not symbol.startswith(SLOT):
            words.append(symbol)
            continue
        rule = _rule(symbol[1:-1], known)
        picked = rule.draw(uniform())
        log_prob += math.log(rule.probabilities[picked])
        pending.extend(reversed(rule.alternatives[picked]))
    return Pair(post, tuple(words), choices, log_prob)


@cache
def derivations(split: str) -> tuple[Pair, ...]:
    """All pairs of a split, from a fixed seed: every post of `grammar`, with one response.

    Args:
        split: "train" (10,000 pairs), "valid" or "test" (1,000 each).

    Raises:
        VaelibError: There is no such split.
    """
    bits = np.random.PCG64([SEED, SPLITS.index(check_name(split, SPLITS, "split"))])

    def uniform() -> float:
        return (bits.random_raw() >> 11) * 2.0**-53

    return tuple(respond(post, uniform) for post in grammar.derivations(split))


def texts() -> dict[str, PairTexts]:
    """The corpus as text."""
    return {
        split: PairTexts(
            [" ".join(pair.post.words) for pair in derivations(split)],
            [" ".join(pair.words) for pair in derivations(split)],
        )
        for split in SPLITS
    }


def choice_entropy() -> float:
    """Exact entropy in nats of act and tone, which the post says nothing about."""
    return sum(grammar.entropy(tuple(values.values())) for values in CHOICES.values())


@cache
def response_entropy() -> float:
    """Exact H(response | post) in nats: no model has a lower NLL on average."""
    total = choice_entropy()
    tables = FACTORS | CHOICES
    names = ("sentiment", "place", "aspect", "time", *CHOICES)  # all that rules of responses read
    for combination in product(*(tables[name].items() for name in names)):
        known = dict(zip(names, (value for value, _ in combination), strict=True))
        weight = math.prod(p for _, p in combination)
        total += weight * _rule_entropy("response", known | {"topic": "it"})
    return total


def _rule_entropy(slot: str, known: Mapping[str, str]) -> float:
    """Entropy in nats of what a slot expands to."""
    rule = _rule(slot, known)
    below = (
        sum(_rule_entropy(s[1:-1], known) for s in alternative if s.startswith(SLOT))
        for alternative in rule.alternatives
    )
    expected = sum(p * h for p, h in zip(rule.probabilities, below, strict=True))
    return grammar.entropy(rule.probabilities) + expected
