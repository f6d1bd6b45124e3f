"""Mistakes in YAML files: other values and keys, text that is no YAML, bytes that are no text."""

from __future__ import annotations

import re
from random import Random

import yaml
from shipped import OWN, Case, Shipped, at, dotted, materials, places, shipped_files
from surprises import (
    DEEP,
    DEFAULTS,
    INTERPOLATIONS,
    KEYS,
    NESTED,
    NUMBERS,
    PACKAGES,
    SIGNS,
    TEXTS,
    WORDS,
    YAML_ONLY,
)

MARK = "MUTATED_HERE"


def _yaml_value(random: Random) -> tuple[str, str]:
    """A value as YAML writes it, and its name."""
    kind = random.randrange(8)
    if kind == 0:
        name, text = random.choice(list(TEXTS.items()))
        return name, yaml.dump(text, allow_unicode=random.random() < 0.5).partition("\n...")[0]
    if kind == 1:
        depth, text = random.choice(list(DEEP.items()))
        return f"{depth} deep", text
    plain = (NUMBERS, NUMBERS, WORDS, INTERPOLATIONS, NESTED, YAML_ONLY)[kind - 2]
    text = random.choice(plain)
    quoted = f'"{text}"' if plain is INTERPOLATIONS else text
    return text, quoted


def _own(shipped: Shipped, content: bytes | str, name: str) -> Case:
    """The case of a file of one's own, used as the shipped one is."""
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogatepass")
    if not shipped.group:
        file = f"{OWN}/{OWN}.yaml"
        words: tuple[str, ...] = ("--config-name", OWN, *shipped.words)
    else:
        file = f"{OWN}/{shipped.group}/{OWN}.yaml"
        choice = f"{shipped.group}={OWN}"
        words = tuple(
            choice if word.startswith(f"{shipped.group}=") else word for word in shipped.words
        )
        words = words if choice in words else (*words, choice)
    label = "/".join(filter(None, (shipped.group, shipped.option)))
    return Case(f"{label}: {name}", ("--config-dir", OWN, *words), {file: content})


def _head(text: str) -> str:
    return "# @package _global_\n" if text.startswith("# @package _global_") else ""


def values_of_file(random: Random) -> Case:
    """Some values of a file are others."""
    shipped = random.choice(shipped_files())
    config, names, values = shipped.config(), [], []
    for number in range(random.choice((1, 1, 1, 2, 3))):
        path = random.choice(places(config))
        name, value = _yaml_value(random)
        parent = at(config, path[:-1])
        parent[path[-1]] = f"{MARK}{number}"
        names.append(f"{dotted(path)} is {name[:60]!r}")
        values.append(value)
    text = yaml.safe_dump(config, sort_keys=False, default_flow_style=None, width=10**6)
    for number, value in enumerate(values):
        text = text.replace(f"{MARK}{number}", value)
    return _own(shipped, _head(shipped.text) + text, "; ".join(names))


def keys_of_file(random: Random) -> Case:
    """A key of a file is missing, misspelt, added, or there twice."""
    shipped = random.choice(shipped_files())
    config = shipped.config()
    path = random.choice([place for place in places(config) if isinstance(place[-1], str)])
    parent, key = at(config, path[:-1]), path[-1]
    what = random.choice(("missing", "misspelt", "added", "twice"))
    new = _misspelt(random, key) if what == "misspelt" else random.choice(KEYS)
    entries = []
    for name, value in parent.items():
        if name != key:
            entries.append((name, value))
        elif what == "misspelt":
            entries.append((new, value))
        elif what != "missing":
            entries += [(name, value), (MARK, value if what == "twice" else 1)]
    parent.clear()
    parent.update(entries)
    text = yaml.safe_dump(config, sort_keys=False, default_flow_style=None, width=10**6)
    text = text.replace(MARK, key if what == "twice" else new)
    named = f" {new[:60]!r}" if what in ("added", "misspelt") else ""
    return _own(shipped, _head(shipped.text) + text, f"{dotted(path)} {what}{named}")


def _misspelt(random: Random, word: str) -> str:
    at = random.randrange(len(word))
    return random.choice(
        (
            word[:at] + word[at + 1 :],
            word[:at] + word[at] + word[at:],
            word[:at] + random.choice("aeq_1-") + word[at + 1 :],
            word.upper(),
            word[::-1],
            word + "s",
        )
    )


def text_of_file(random: Random) -> Case:
    """The text of a file is changed as if nobody knew YAML."""
    shipped = random.choice(shipped_files())
    text, lines = shipped.text, shipped.text.splitlines(keepends=True)
    at, letter = random.randrange(len(lines)), random.randrange(len(text))
    sign, package = random.choice(SIGNS), random.choice(PACKAGES)
    entry = random.choice(DEFAULTS)
    changes = {
        "a line is missing": "".join(lines[:at] + lines[at + 1 :]),
        "a line is there twice": "".join([*lines[: at + 1], *lines[at:]]),
        "two lines change places": "".join(lines[:at] + lines[at : at + 2][::-1] + lines[at + 2 :]),
        "a line is indented": "".join([*lines[:at], "  " + lines[at], *lines[at + 1 :]]),
        "a line is indented by a tab": "".join([*lines[:at], "\t" + lines[at], *lines[at + 1 :]]),
        "a line is not indented": "".join([*lines[:at], lines[at].lstrip(), *lines[at + 1 :]]),
        "it is cut off": text[:letter],
        "a letter is missing": text[:letter] + text[letter + 1 :],
        "a sign is added": text[:letter] + sign + text[letter:],
        "everything is there twice": text * 2,
        "two documents": f"{text}---\n{text}",
        "a document's end": f"{text}...\n",
        "a directive": f"%YAML 1.1\n---\n{text}",
        "nonsense after a document's end": f"{text}...\nx: [1\n",
        "empty": "",
        "only a comment": "# nothing\n",
        "only spaces": "  \n \n",
        "a list": "- a\n- b\n",
        "a word": "word\n",
        "a number": "3\n",
        "null": "null\n",
        "a date": "2020-01-01\n",
        "JSON": '{"layers": {"a": {"kind": "flatten"}}}',
        "the first line is missing": "".join(lines[1:]),
        "all comments are missing": re.sub(r"#.*", "", text),
        "another package": f"# @package {package}\n{text}",
        "other defaults": f"{_head(text)}defaults:\n  - {entry}\n",
        "defaults are a word": f"{_head(text)}defaults: nope\n",
    }  # fmt: skip
    what = random.choice(sorted(changes))
    return _own(shipped, changes[what], f"{what} ({at + 1}/{letter})")


def bytes_of_file(random: Random) -> Case:
    """A file is encoded in another way, or damaged."""
    shipped = random.choice(shipped_files())
    text = shipped.text
    content = text.encode()
    at = random.randrange(len(content))
    before, byte, after = content[:at], content[at], content[at + 1 :]
    flipped = bytes([byte ^ (1 << random.randrange(8))])
    high, control = bytes([random.randrange(128, 256)]), bytes([random.randrange(32)])
    changes = {
        "byte order mark": text.encode("utf-8-sig"),
        "UTF-16": text.encode("utf-16"),
        "UTF-16, big-endian without mark": text.encode("utf-16-be"),
        "UTF-32": text.encode("utf-32"),
        "CRLF": content.replace(b"\n", b"\r\n"),
        "CR": content.replace(b"\n", b"\r"),
        "Latin-1": b"# caf\xe9\n" + content,
        "a byte that is no UTF-8": before + high + content[at:],
        "a control character": before + control + content[at:],
        "a bit is flipped": before + flipped + after,
        "NULs at the end": content + b"\0" * 100,
        "a PNG": materials()["picture.png"],
        "random bytes": random.randbytes(300),
        "a long line": content + b"\n# " + b"x" * 200_000,
        "a long key": content + b"\n" + b"k" * 2_000 + b": 1\n",
        "many keys": content + b"".join(b"\nkey%d: 1" % i for i in range(2_000)),
    }  # fmt: skip
    what = random.choice(sorted(changes))
    return _own(shipped, changes[what], f"{what} ({at})")
