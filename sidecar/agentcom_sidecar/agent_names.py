"""Names of agents: which are allowed, and ones to choose from."""

import random
import re
from collections.abc import Container

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
RESERVED = frozenset(
    {"admin", "agentcom", "all", "broadcast", "evict", "hub", "states", "system", "unknown", "whitelist"}
)
"""Words that mean something of their own to the hub, in a path or as a recipient."""

PREFIX = "gcu-"
SHIPS = (
    "appeal-to-reason",
    "arbitrary",
    "attitude-adjuster",
    "beats-working",
    "break-even",
    "caconym",
    "cantankerous",
    "cargo-cult",
    "clear-air-turbulence",
    "congenital-optimist",
    "different-tan",
    "dont-try-this-at-home",
    "empiricist",
    "ends-of-invention",
    "eschatologist",
    "ethics-gradient",
    "experiencing-a-significant-gravitas-shortfall",
    "falling-outside-the-normal-moral-constraints",
    "fate-amenable-to-change",
    "flexible-demeanour",
    "frank-exchange-of-views",
    "funny-it-worked-last-time",
    "grey-area",
    "gunboat-diplomat",
    "heavy-messing",
    "hidden-income",
    "honest-mistake",
    "irregular-apocalypse",
    "jaundiced-outlook",
    "just-read-the-instructions",
    "kakistocrat",
    "lightly-seared-on-the-reality-grill",
    "limiting-factor",
    "little-rascal",
    "me-im-counting",
    "mistake-not",
    "nervous-energy",
    "no-fixed-abode",
    "no-more-mr-nice-guy",
    "not-invented-here",
    "now-we-try-it-my-way",
    "of-course-i-still-love-you",
    "only-slightly-bent",
    "passing-by-and-thought-id-drop-in",
    "peace-makes-plenty",
    "poke-it-with-a-stick",
    "pressure-drop",
    "problem-child",
    "profit-margin",
    "prosthetic-conscience",
    "reasonable-excuse",
    "recent-convert",
    "revisionist",
    "screw-loose",
    "serious-callers-only",
    "size-isnt-everything",
    "sleeper-service",
    "so-much-for-subtlety",
    "sober-counsel",
    "steely-glint",
    "tactical-grace",
    "teething-problems",
    "trade-surplus",
    "unfortunate-conflict-of-evidence",
    "uninvited-guest",
    "use-psychology",
    "very-little-gravitas-indeed",
    "what-are-the-civilian-applications",
    "wisdom-like-silence",
    "yawning-angel",
    "you-call-this-clean",
    "youthful-indiscretion",
    "zealot",
    "zero-gravitas",
)


def name_problem(name: str) -> str | None:
    """What is wrong with a name, as the end of a sentence that begins with it; None if it may be used.

    The rule is narrower than the hub's: a name is also a folder, a process name and a part of branch names.
    """
    if name in RESERVED:
        return "is a reserved word"
    if not NAME.fullmatch(name):
        return "may only have lower-case letters, digits and hyphens, start with a letter or digit, and have 63 at most"
    return None


def draw_name(taken: Container[str]) -> str | None:
    """A ship's name that is not taken, chosen at random; None when all are."""
    free = [name for ship in SHIPS if (name := PREFIX + ship) not in taken]
    return random.choice(free) if free else None
