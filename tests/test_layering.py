"""Imports point one way; read from the source, imports inside functions included."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import runner

ROOT = Path(runner.__file__).parent

TIERS = [
    [
        "runner.config",
        "runner.menu",
        "runner.geometry",
        "runner.kernels",
        "runner.readable",
        "runner.machine",
        "runner.installation",
        "runner.signals",
    ],
    ["runner.choices"],
    ["runner.weights", "runner.ops", "runner.plan", "runner.expect"],
    ["runner.autograd", "runner.batching"],
    ["runner.modules"],
    ["runner.chain", "runner.layers", "runner.data"],
    ["runner.functional", "runner.stack"],
    ["runner.tracking", "runner.environment", "runner.exactness"],
    ["runner.tasks"],
    ["runner.report"],
    ["runner.job", "runner.prepare", "runner.execute", "runner.terminal"],
    ["runner.launch", "runner.resume", "runner.sweep"],
    ["runner.__main__", "runner"],
]
"""From the bottom up. A module may import its own tier and those below."""

MENUS = ["runner.layers", "runner.ops", "runner.data", "runner.tasks"]

ONLY = {
    "hydra": ["runner.__main__", "runner.launch", "runner.config", "runner.sweep"],
    "omegaconf": [
        "runner.__main__",
        "runner.launch",
        "runner.resume",
        "runner.config",
        "runner.sweep",
    ],
    "tensorboard": ["runner.tracking"],
    "google_crc32c": ["runner.tracking"],
    "numba": ["runner.ops"],
    "triton": ["runner.ops"],
    "cv2": ["runner.tasks"],
    "scipy": ["runner.tasks"],
    "rich": ["runner.terminal"],
    "matplotlib": ["runner.tracking"],
    "sklearn": ["runner.data"],
    "yaml": ["runner.config"],
    "joblib": ["runner.sweep.engines"],
    "optuna": ["runner.sweep.engines"],
    "ray": ["runner.sweep.engines"],
    "submitit": ["runner.sweep.engines"],
}
"""Who may know a library."""


def module_name(path: Path) -> str:
    parts = ["runner", *path.relative_to(ROOT).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def belongs(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def tier(name: str) -> int:
    found = [
        (len(package), level)
        for level, packages in enumerate(TIERS)
        for package in packages
        if name == package or (belongs(name, package) and package != "runner")
    ]
    assert found, f"{name} is in no tier: add it"
    return max(found)[1]


class Imports(ast.NodeVisitor):
    """Every module that a source file imports, and whether a function does."""

    def __init__(self) -> None:
        self.found: set[tuple[str, bool]] = set()
        self.depth = 0

    def visit_If(self, node: ast.If) -> None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for child in node.orelse:
                self.visit(child)
            return
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.depth += 1
        self.generic_visit(node)
        self.depth -= 1

    def visit_Import(self, node: ast.Import) -> None:
        self.found |= {(alias.name, self.depth > 0) for alias in node.names}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        assert node.level == 0, "imports are absolute"
        module = node.module or ""
        for alias in node.names:
            full = f"{module}.{alias.name}"
            self.found.add((full if full in MODULES else module, self.depth > 0))


def imports(source: str) -> set[tuple[str, bool]]:
    visitor = Imports()
    visitor.visit(ast.parse(source))
    return visitor.found


def edges() -> Iterator[tuple[str, str, bool]]:
    for name, path in MODULES.items():
        for imported, inside in imports(path.read_text()):
            yield name, imported, inside


def test_the_walk_sees_what_there_is() -> None:
    source = (
        "from __future__ import annotations\nimport a.b\nfrom c import d\n"
        "from runner import functional\n"
        "if TYPE_CHECKING:\n    import hidden\n"
        "def f():\n    import inner\n    class C:\n        def g(self):\n            import deep\n"
        "try:\n    import tried\nexcept ImportError:\n    pass\n"
    )
    assert imports(source) == {
        ("__future__", False), ("a.b", False), ("c", False), ("runner.functional", False),
        ("inner", True), ("deep", True), ("tried", False),
    }  # fmt: skip
    assert len(MODULES) > 50
    there = {(name, imported) for name, imported, _ in edges()}
    assert ("runner.tasks.edge", "runner.tracking.pictures") in there
    assert ("runner.launch", "hydra.core.config_loader") in there


def test_imports_point_down() -> None:
    wrong = [
        f"{name} (tier {tier(name)}) imports {imported} (tier {tier(imported)})"
        for name, imported, inside in edges()
        if belongs(imported, "runner")
        # The package itself is imported for what lies below it: `from runner import menu`.
        and imported != "runner"
        and tier(imported) > tier(name)
    ]
    assert wrong == []


@pytest.mark.parametrize("menu", MENUS)
def test_menus_never_import_a_sibling(menu: str) -> None:
    wrong = [
        f"{name} imports {imported}"
        for name, imported, _ in edges()
        if belongs(name, menu)
        and imported.startswith(f"{menu}.")
        and not imported.rpartition(".")[2].startswith("_")
        # A folder may be one entry of a menu, and import its own parts.
        and imported.split(".")[2] != (name.split(".") + [""] * 2)[2]
    ]
    assert wrong == []


@pytest.mark.parametrize("menu", MENUS)
def test_nobody_below_or_beside_knows_the_entries_of_a_menu(menu: str) -> None:
    """Entries are found by name; who imports one by hand could not do without it."""
    allowed = {
        ("runner.functional", "runner.layers.conv"),  # conv2d validates as the layer does
        ("runner.functional", "runner.layers.pool"),
        ("runner.tasks._target", "runner.layers.conv"),  # the target is a conv layer
        # The doctor asks each compiler whether it works, and where it keeps what it compiled.
        ("runner.tasks._doctor_operators", "runner.ops._compiled"),
        ("runner.tasks._doctor_operators", "runner.ops._tuning"),
        ("runner.tasks._doctor_operators", "runner.ops.direct.numba_pool_kernels"),
        ("runner.tasks._doctor_operators", "runner.ops.direct.triton_conv"),
        ("runner.tasks._verify_judge", "runner.ops._cases"),  # no entry, but how auto names cases
    }
    wrong = [
        (name, imported)
        for name, imported, _ in edges()
        if not belongs(name, menu)
        and imported.startswith(f"{menu}.")
        and (name, imported) not in allowed
    ]
    assert wrong == []


@pytest.mark.parametrize("library", ONLY)
def test_libraries_are_known_where_they_belong(library: str) -> None:
    wrong = [
        f"{name} imports {imported}"
        for name, imported, _ in edges()
        if belongs(imported, library)
        and not any(belongs(name, package) for package in ONLY[library])
    ]
    assert wrong == []


def test_heavy_libraries_are_imported_where_they_are_used() -> None:
    """What a plan or a complaint imports must not import torch at the top of the file."""
    computes = {
        "runner.autograd",
        "runner.batching",
        "runner.exactness",
        "runner.functional",
        "runner.modules",
    }  # these compute: torch is what they are for
    wrong = [
        f"{name} imports {imported}"
        for name, imported, inside in edges()
        if imported.split(".")[0] in ("torch", "sklearn", "numba", "triton", "matplotlib")
        and not inside
        and name not in computes
        and not name.startswith("runner.ops.")
    ]
    assert wrong == []
