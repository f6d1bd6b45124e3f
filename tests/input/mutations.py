"""Configs and command lines as they ship, with mistakes: any number of cases, each repeatable.

A case is drawn from its seed and number alone. It starts from a YAML file or a command that ships
(in `configs/`, in the heads of its files, in the README), puts one to three mistakes into it, and
says in words which they are.
"""

from __future__ import annotations

import re
from random import Random

from mutated_commands import flags, grammar, letters, override
from mutated_files import bytes_of_file, keys_of_file, text_of_file, values_of_file
from shipped import Case, materials


def case(seed: int, number: int) -> Case:
    """The case of that number."""
    random = Random(f"{seed} {number}")
    kinds = [values_of_file, keys_of_file, text_of_file, bytes_of_file]
    kinds += [override, override, override, letters, grammar, flags]
    found: Case = random.choice(kinds)(random)
    words = _small(found.words)
    return Case(f"seed {seed}, case {number}: {found.name}", words, materials() | found.files)


def _small(words: tuple[str, ...]) -> tuple[str, ...]:
    """No sweep over several ranges at once, nor one in processes that nobody watches."""
    if any(re.search(r"launcher|optuna", word) for word in words):
        return tuple(word for word in words if word not in ("-m", "--multirun"))
    lists = [word for word in words if re.search(r"glob|range|choice", word)]
    if "-m" not in words or not lists:
        return words
    return tuple(word for word in words if word in lists[-1:] or not re.search(r"=[^\[{]*,", word))
