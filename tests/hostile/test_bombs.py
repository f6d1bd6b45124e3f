"""Small YAML that would take all time or memory, and files that are no YAML."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from attacking import Attack

GLOBAL = "# @package _global_\n"


def laughs(levels: int, each: int = 9) -> str:
    """Aliases of aliases: 430 bytes that stand for a billion words."""
    lines = ["0: &0 [lol,lol,lol]"]
    for i in range(1, levels):
        lines.append(f"{i}: &{i} [{','.join([f'*{i - 1}'] * each)}]")
    return "\n".join(lines) + "\n"


def merged(levels: int) -> str:
    """The same by merge keys, whose entries are gathered before equal ones become one."""
    lines = ["a0: &a0 {x: 1, y: 2}"]
    for i in range(1, levels):
        lines.append(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}")
    return "\n".join(lines) + "\n"


def deepened(levels: int, each: int) -> str:
    """Aliases within each other, each some levels deep."""
    lines = ["a0: &a0 1"]
    for i in range(1, levels):
        lines.append(f"a{i}: &a{i} {'[' * each}*a{i - 1}{']' * each}")
    return "\n".join(lines) + "\n"


YAML = {
    "a billion laughs": (laughs(10), "billions"),
    "a few laughs too many": (laughs(5), "at most 20,000 values, aliases written out, got"),
    "laughs as keys": (laughs(10).replace("[lol,lol,lol]", "lol"), "at most 20,000"),
    "a list that holds itself": ("a: &a [*a]\n", "aliases of what came before"),
    "a mapping that holds itself": ("a: &a {b: {c: *a}}\n", "aliases of what came before"),
    "a merge of itself": ("a: &a {<<: *a}\n", "aliases of what came before"),
    "merge keys": (merged(9), "at most"),
    "deep aliases": (deepened(9, 10), "at most 50 levels, aliases written out, got 8"),
    "a long text repeated": (
        f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 100)}]\n",
        "characters, aliases written out",
    ),
    "too large": ("a: " + "x" * 2**20, "at most 1,048,576 bytes"),
    "too large a comment": ("#" * 2**24, "at most 1,048,576 bytes"),
    "too many numbers": (f"a: [{'1,' * 300_000}]\n", "at most 20,000 values, got more"),
    "too many keys": ("".join(f"k{i}: 1\n" for i in range(50_000)), "at most 20,000 values"),
    "just too many": (f"a: [{'1,' * 20_000}]\n", "at most 20,000 values, got more"),
    "just too deep": (f"a: {'[' * 50}{']' * 50}\n", "at most 50 levels, got more"),
    "deep lists": ("a: " + "[" * 500_000, "at most 50 levels, got more"),
    "deep mappings": ("a: " + "{x: " * 200_000, "at most 50 levels, got more"),
    "deep blocks": ("".join(f"{' ' * i}a:\n" for i in range(1_000)), "at most 50 levels"),
    "deep keys": ("? " * 300_000, "at most 50 levels"),
    "deep sequences": ("- " * 300_000, "at most 50 levels"),
    "base 60": ("seed: 1" + ":1" * 400_000, "numbers of at most 1,000 characters"),
    "base 60 of a name": ("seed: !!int 1" + ":1" * 400_000, "numbers of at most 1,000"),
    "base 60 as a key": ("? 1" + ":1" * 400_000 + "\n: 1\n", "numbers of at most 1,000"),
    "base 60 with a point": ("seed: 1" + ":1" * 400_000 + ".5", "numbers of at most 1,000"),
    "digits": ("seed: " + "9" * 900_000, "numbers of at most 1,000 characters"),
    "binary digits": ("seed: 0b" + "1" * 900_000, "numbers of at most 1,000 characters"),
    "interpolations": (f"a: '{'${seed}' * 20_000}'\n", "in texts with interpolations"),
    "nested interpolations": (f"a: '{'${' * 20_000}'\n", "in texts with interpolations"),
    "many interpolations": (
        "".join(f"k{i}: ${{seed}}\n" for i in range(5_000)), "in texts with interpolations",
    ),
    "interpolations repeated": (
        f"a: &a {'${seed}' * 100}\nb: [{', '.join(['*a'] * 100)}]\n",
        "in texts with interpolations",
    ),
    "a list": ("- 1\n- 2\n", "a mapping"),
    "a text": ("hydra\n", "a mapping"),
    "a number": ("3\n", "a mapping"),
    "two documents": ("a: 1\n---\nb: 2\n", "document"),
    "a class": ("a: !!python/object/apply:os.mkdir [MARKER]\n", "could not determine"),
    "a name": ("a: !!python/name:os.mkdir ''\n", "could not determine"),
    "a module": ("a: !!python/module:antigravity ''\n", "could not determine"),
    "a new object": ("a: !!python/object/new:os.mkdir {args: [MARKER]}\n", "could not determine"),
    "a key that is a list": ("? [1, 2]\n: 3\n", "unhashable"),
    "a key that is a set": ("? !!set {a}\n: 3\n", "unhashable"),
    "no text": (b"a: \xff\xfe\n", "utf-8"),
    "NUL": ("a: \0\n", "special characters are not allowed"),
    "a header of nonsense": ("# @package a b c\na: 1\n", "Too many components"),
}  # fmt: skip


@pytest.mark.parametrize("name", YAML)
def test_yaml_that_takes_too_much(attack: Attack, name: str) -> None:
    content, says = YAML[name]
    files = {"own/stack/evil.yaml": content}
    attack("--config-dir", "own", "task=plan", "stack=evil", files=files).refused(says)


def test_the_bombs_are_no_larger_than_is_told() -> None:
    assert len(laughs(10)) < 430


def test_limits_leave_room(attack: Attack) -> None:
    """A picture of 100×100 numbers, 20 levels, and the same kernel by an alias."""
    rows = ", ".join([f"[{', '.join(['0.5'] * 100)}]"] * 100)
    files = {
        "own/data/fine.yaml": f"kind: tensor\nvalues: [{rows}]\n",
        "own/stack/fine.yaml": "layers:\n  a: {kind: conv, weight: &w [[1, -1]]}\n"
        "  b: {kind: conv, weight: *w}\n",
    }
    words = ["--config-dir", "own", "task=plan", "data=fine", "stack=fine"]
    answer = attack(*words, files=files)
    assert answer.rc == 0, answer.stderr


INCLUDED = {
    "itself": {"a": "defaults: [a, _self_]\n"},
    "each other": {"a": "defaults: [b]\n", "b": "defaults: [a]\n"},
    "itself elsewhere": {"a": "defaults: [a@x]\n"},
    "twice the next, and that again": {
        **{chr(97 + i): f"defaults: [{chr(98 + i)}@x, {chr(98 + i)}@y]\n" for i in range(24)},
        "y": "k: 1\n",
    },
    "a thousand": {
        "a": f"defaults: [{', '.join(f'b@x{i}' for i in range(1_000))}]\n",
        "b": "k: 1\n",
    },
}


@pytest.mark.parametrize("name", INCLUDED)
def test_files_that_include_each_other_without_end(attack: Attack, name: str) -> None:
    files = {f"own/stack/{path}.yaml": text for path, text in INCLUDED[name].items()}
    attack("--config-dir", "own", "task=plan", "stack=a", files=files).refused("defaults")


@pytest.mark.parametrize("place", ["own/stack/evil.yaml", "own/evil.yaml"])
@pytest.mark.parametrize("what", ["pipe", "zero", "folder", "link to a pipe", "no file", "loop"])
def test_files_that_are_none(attack: Attack, place: str, what: str) -> None:
    cwd = attack("--version", files={"own/data/x.yaml": ""}).cwd
    path = cwd / place
    path.parent.mkdir(exist_ok=True)
    if what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "link to a pipe":
        os.mkfifo(cwd / "pipe")
        path.symlink_to(cwd / "pipe")
    else:
        path.symlink_to({"zero": "/dev/zero", "no file": "absent", "loop": path}[what])
    words = ["stack=evil"] if "stack" in place else ["--config-name", "evil"]
    attack("--config-dir", "own", "task=plan", *words).refused("evil")
    # A folder full of them may still be listed.
    assert attack("--config-dir", "own", "task=plan").rc == 0


LINKED = {
    "to itself": {"loop": "."},
    "further up": {"up": "../.."},
    "to the root": {"all": "/"},
    "to each other": {"a/to_b": "../b", "b/to_a": "../a"},
    "two ways, and that again": {
        f"{i}/{way}": f"../{i + 1}" for i in range(30) for way in ("left", "right")
    },
}


@pytest.mark.parametrize("words", ["task=plan stack=fin", "--help", "--hydra-help"])
@pytest.mark.parametrize("name", LINKED)
def test_folders_that_are_linked_without_end(attack: Attack, name: str, words: str) -> None:
    cwd = attack("--version", files={"own/stack/fine.yaml": "layers: {}\n"}).cwd
    for link, target in LINKED[name].items():
        place = cwd / "own/stack" / link
        place.parent.mkdir(exist_ok=True)
        place.symlink_to(target)
    answer = attack("--config-dir", "own", *words.split())
    answer.harmless()
    if name == "two ways, and that again":
        assert f"{cwd}/own: expected at most 500 folders in it" in answer.stderr
    elif words == "--help":
        assert ", fine, " in answer.stdout
    elif "stack" in words:
        assert "Did you mean 'fine'?" in answer.stderr


def test_a_folder_that_has_everything_is_not_listed(attack: Attack) -> None:
    attack("--config-dir", "/", "--help").refused("  /: expected at most 500 folders")


def test_a_file_is_measured_before_it_is_read(attack: Attack) -> None:
    cwd = attack("--version", files={"own/stack/evil.yaml": ""}).cwd
    with (cwd / "own/stack/evil.yaml").open("wb") as file:
        file.truncate(2**40)
    answer = attack("--config-dir", "own", "task=plan", "stack=evil")
    answer.refused("at most 1,048,576 bytes")
    assert answer.mib < 100


DOUBLED = "".join(f"a{i}: ${{.a{i + 1}}}${{.a{i + 1}}}\n" for i in range(40)) + "a40: lol\n"
BRANCHED = "".join(f"a{i}: {{x: ${{..a{i + 1}}}, y: ${{..a{i + 1}}}}}\n" for i in range(30))

INTERPOLATED = {
    "texts": ({"expect": DOUBLED}, ["task=plan"]),
    "mappings": ({"expect": BRANCHED + "a30: {value: 1}\n"}, ["task=plan"]),
    "by select": ({"expect": DOUBLED.replace("${.", "${oc.select:expect.")}, ["task=plan"]),
    "by names that are put together": (
        {"expect": DOUBLED.replace("${.a", "${expect.a${expect.no}") + "no: ''\n"}, ["task=plan"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", INTERPOLATED)
def test_interpolations_that_double(attack: Attack, name: str) -> None:
    (inner,), words = INTERPOLATED[name][0].items(), INTERPOLATED[name][1]
    key, text = inner
    block = "".join(f"  {line}\n" for line in text.splitlines())
    files = {"own/experiment/evil.yaml": f"{GLOBAL}{key}:\n{block}"}
    attack("--config-dir", "own", *words, "experiment=evil", files=files).refused(key)


def test_paths_of_files_are_those_of_the_folder(attack: Attack, tmp_path: Path) -> None:
    answer = attack(
        "--config-dir", "own", "stack=evil", files={"own/stack/evil.yaml": "a: &a [*a]\n"}
    )
    assert answer.stderr == (
        "1 problem in the config:\n"
        f"  {answer.cwd}/own/stack/evil.yaml: expected aliases of what came before, got one of "
        "what it is a part of.\n"
    )
