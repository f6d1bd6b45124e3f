"""Mistakes on the command line: other words, letters, grammar and flags."""

from __future__ import annotations

from functools import cache
from random import Random

from shipped import Case, dotted, places, shipped_commands, shipped_files
from surprises import (
    DEEP,
    FLAGS,
    GRAMMAR,
    INTERPOLATIONS,
    NESTED,
    NUMBERS,
    OVERRIDES_ONLY,
    TEXTS,
    WORDS,
)


def _override_value(random: Random) -> tuple[str, str]:
    """A value as an override writes it, and its name."""
    kind = random.randrange(8)
    if kind == 0:
        name, text = random.choice([item for item in TEXTS.items() if "\0" not in item[1]])
        quote = random.choice(("", "'", '"'))
        return name, f"{quote}{text}{quote}"
    if kind == 1:
        depth, text = random.choice(list(DEEP.items()))
        return f"{depth} deep", text
    text = random.choice(
        (NUMBERS, NUMBERS, WORDS, INTERPOLATIONS, NESTED, OVERRIDES_ONLY)[kind - 2]
    )
    return text, text


@cache
def _keys() -> tuple[str, ...]:
    """Every dotted key that a shipped YAML writes, by the group it is in."""
    found: dict[str, None] = {}
    for shipped in shipped_files():
        config = shipped.config() or {}
        whole = not shipped.group or shipped.text.startswith("# @package _global_")
        if shipped.group.startswith("hydra"):
            continue
        for place in places(config):
            if "defaults" not in place:
                found[dotted(place if whole else (shipped.group, *place))] = None
    return tuple(found)


def override(random: Random) -> Case:
    """Words are added to a command that ships."""
    words = list(random.choice(shipped_commands()))
    names = []
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        given = [word.partition("=")[0] for word in words if "=" in word]
        groups = ("task", "stack", "data", "ops", "experiment", "hydra/launcher", "hydra/sweeper")
        near = [key for key in _keys() if key.startswith(("task.", "data.", "stack.", "expect"))]
        pools = [given or ["seed"], list(_keys()), near, list(groups)]
        key = random.choice(random.choice(pools)).lstrip("+~")
        name, value = _override_value(random)
        prefix = random.choice(("", "", "", "", "+", "++", "~"))
        word = f"{prefix}{key}={value}"
        if prefix == "~" and random.random() < 0.5:
            word = f"~{key}"
        if not prefix and random.random() < 0.5:
            words = [w for w in words if not w.startswith(f"{key}=")]
        words.append(word)
        names.append(f"{prefix}{key} is {name[:60]!r}")
    if random.random() < 0.1 and "-m" not in words:
        words.insert(0, "-m")
    return Case("; ".join(names), tuple(words))


def letters(random: Random) -> Case:
    """A letter of a word is wrong."""
    words = list(random.choice(shipped_commands()))
    at = random.choice([i for i, word in enumerate(words) if not word.startswith("--")] or [0])
    word = words[at]
    place = random.randrange(len(word))
    sign = random.choice("=+~@.,[]{}()'\"\\ :/$#%&*?!-_0aZ\u00e9\u202e\n\t")
    words[at] = random.choice(
        (
            word[:place] + word[place + 1 :],
            word[:place] + sign + word[place:],
            word[:place] + sign + word[place + 1 :],
            word[:place],
            word[place:],
            word + word,
            word.upper(),
        )
    )
    return Case(f"{word!r} is {words[at][:60]!r}", tuple(words))


def grammar(random: Random) -> Case:
    """A word that no command ships is added."""
    words = list(random.choice(shipped_commands()))
    key = random.choice(_keys())
    odd = [random.choice(GRAMMAR) for _ in range(random.choice((1, 1, 2)))]
    chosen = [word.replace("KEY", key) for word in odd]
    for word in chosen:
        words.insert(random.randint(0, len(words)), word)
    return Case(", ".join(repr(word[:60]) for word in chosen), tuple(words))


def flags(random: Random) -> Case:
    """Flags that aren't there, stand twice, or lack what they need."""
    words = list(random.choice(shipped_commands()))
    chosen = random.choice(FLAGS)
    at = random.choice((0, len(words)))
    words = [*words[:at], *chosen, *words[at:]]
    if random.random() < 0.3:
        words = chosen
    return Case(" ".join(word[:60] for word in chosen), tuple(words))
