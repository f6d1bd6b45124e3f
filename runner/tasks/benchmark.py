"""Benchmark: how fast every operator is on a suite of cases, and whether it is right.

Native, torch's own, is the yardstick. An operator's result is held against double precision before
its time is taken; times are taken in turns, so that whatever else the machine does hits all alike,
and are reported with their spread.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator
from pydantic import Field as Limited

from runner.choices import Choice, choices
from runner.config.errors import problem
from runner.machine import processor
from runner.ops import OpName, Ops
from runner.plan import ITEM_BYTES, Plan
from runner.readable import readable_bytes
from runner.stack import Stack
from runner.tasks import Advance, Run, Task
from runner.tasks import _benchmark_report as report
from runner.tasks._benchmark_cases import Case, Cases, cases, contenders
from runner.tasks._benchmark_report import Entry
from runner.tasks._benchmark_subjects import COPY, Bench, Computation
from runner.tasks._benchmark_timing import Statistics, clock, peak, rounds
from runner.tasks._roofline import Roofs, allocated
from runner.tasks._yardsticks import missing, opencv_threads
from runner.tracking import charts
from runner.tracking.directory import write_atomically, write_json

logger = logging.getLogger(__name__)

GIB = 2**30
DEVICES = ("cpu", "cuda", "mps")


def _listed(value: object) -> object:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


Passes = Annotated[
    tuple[Literal["forward", "both"], ...], BeforeValidator(_listed), Limited(min_length=1)
]
Patterns = Annotated[tuple[str, ...], BeforeValidator(_listed), Limited(min_length=1)]
Names = Annotated[tuple[OpName, ...], BeforeValidator(_listed), Limited(min_length=1)]


class Benchmark(Task):
    """A comparison of speed.

    Attributes:
        cases: what is measured, by name; null for the stack's conv and pool layers.
        only: names of cases, or patterns such as ``edge-*``; null for all.
        ops: which operators; null for all that support a case, but `loops`. Native is measured in
            any case.
        passes: ``forward`` is computed without gradients; ``both`` is forward and back to the
            input and the parameters.
        yardsticks: whether OpenCV, SciPy and a plain copy are measured too.
        seconds: for one pass over one case; a slow one takes as long as `repeats` rounds take.
        repeats: rounds, at the least.
        memory_gib: what measuring an operator on a case may take; one that needs more is left out.
    """

    measures: ClassVar[str] = """
        wrong wrong_ones measured noisy best_forward auto_forward auto_forward_least
        auto_forward_cases ratios_forward best_both auto_both auto_both_least auto_both_cases
        ratios_both copy_gb_per_s cached_copy_gb_per_s arithmetic_gflop_per_s
    """
    picks_operators: ClassVar[bool] = True
    showcase: ClassVar[tuple[str, ...]] = ("benchmark/",)

    cases: Cases = None
    only: Patterns | None = None
    ops: Names | None = None
    passes: Passes = ("forward", "both")
    yardsticks: bool = True
    seconds: Annotated[float, Limited(gt=0, le=3600)] = 1.0
    repeats: Annotated[int, Limited(ge=1, le=10_000)] = 3
    memory_gib: Annotated[float, Limited(gt=0, le=2**20)] = 3.0

    @property
    def uses_data(self) -> bool:
        """Cases have sizes of their own; a stack's layers have those that data gives them."""
        return self.cases is None

    @property
    def _limit(self) -> int:
        return int(self.memory_gib * GIB)

    def overhead(self, plan: Plan, stack: Stack, ops: Ops) -> int:
        """What the largest case takes with the hungriest operator that may take part."""
        if self.cases is not None and stack.layers:
            raise problem(
                "task.cases",
                "null, to measure the layers of a stack",
                f"{len(self.cases)} cases beside a stack of {len(stack.layers)} layers",
                "Use task=benchmark_stack, or leave stack out.",
            )
        largest = 0
        for case in cases(self.cases, plan, self.only):
            needed = case.bytes("native", ops)
            if needed > self._limit:
                where = f"task.cases.{case.name}.input" if self.cases else case.path
                expected = f"a case that fits into task.memory_gib ({self.memory_gib:g} GiB)"
                hint = "Use smaller sizes, or raise it and memory_limit_gib."
                raise problem(where, expected, readable_bytes(needed), hint)
            able, _ = contenders(case, self.ops, ops, "cpu", self._limit)
            largest = max(largest, *(case.bytes(name, ops) for name in able))
        return max(largest, allocated("cpu"))

    def check(self, plan: Plan, stack: Stack, ops: Ops) -> None:
        """Every operator asked for must be able to do something."""
        found = cases(self.cases, plan, self.only)
        for i, name in enumerate(self.ops or ()):
            reasons = [[case.unsupported(name, ops, one) for one in DEVICES] for case in found]
            if all(all(by_device) for by_device in reasons):
                raise problem(
                    f"task.ops[{i}]",
                    f"an operator for one of the cases ({', '.join(case.name for case in found)})",
                    f"'{name}', which can't: {reasons[0][0][0]}",
                )

    def run(self, run: Run) -> dict[str, Any]:
        """Errors, times and ratios of everything on every case."""
        import torch

        found = cases(self.cases, run.plan, self.only)
        work = [(case, *self._contenders(case, run)) for case in found]
        steps = sum(1 + len(names) + len(self.passes) for _, names, _ in work)
        roofs, machine = Roofs(run.device, run.dtype), _machine(run)
        entries: list[Entry] = []
        with run.progress(steps, "measuring") as advance, torch.no_grad(), opencv_threads():
            for i, (case, names, left_out) in enumerate(work):
                advance(case.name)
                roofs.measure(case.numbers * ITEM_BYTES[run.dtype])
                added = self._measure(run, case, names, advance)
                entries += added
                lines = report.block(case, added, left_out)
                logger.info("\n".join(lines))
                for line in ("", *lines):
                    run.say(line)
                _track(run, added, i + 1)
                # After every case: what was measured stays, should the run be interrupted.
                self._write(run, entries, roofs, machine)
        self._conclude(run, entries, roofs, machine)
        return self._metrics(entries, roofs)

    def _contenders(self, case: Case, run: Run) -> tuple[list[str], dict[str, str]]:
        device = run.device.partition(":")[0]
        return contenders(case, self.ops, run.ops, device, self._limit)

    def _measure(self, run: Run, case: Case, names: Sequence[str], advance: Advance) -> list[Entry]:
        """Whether each operator is right, then its times."""
        bench = Bench.of(case, run.ops, run.device, run.seed)
        subjects = [bench.operator(name) for name in names]
        subjects += bench.others() if self.yardsticks else []
        reference = bench.reference("both" in self.passes)
        entries: list[Entry] = []
        for subject in subjects:
            before = len(choices.made)
            verdict = bench.check(subject, self.passes, reference)
            picked = choices.made[before:]
            entries += [
                Entry(
                    case, subject.name, which, subject.operator is not None, verdict,
                    workspace=subject.workspace, chose=_chosen(picked, which),
                )
                for which in self.passes
                if subject.call(which) is not None
            ]  # fmt: skip
            if subject.operator is not None:
                advance(f"{case.name} {subject.name}")
        del reference
        timed: list[Entry] = []
        for which in self.passes:
            own = [entry for entry in entries if entry.which == which]
            timed += self._time(run, own, {one.name: one.call(which) for one in subjects})
            advance(f"{case.name} {report.TITLES[which]}")
        return timed

    def _time(
        self, run: Run, entries: Sequence[Entry], calls: Mapping[str, Computation | None]
    ) -> list[Entry]:
        """The entries of a pass with the times of those that are right."""
        right = {
            entry.name: call
            for entry in entries
            if not entry.verdict.failure and (call := calls[entry.name])
        }
        # Without a yardstick there are no ratios.
        if "native" not in right:
            return list(entries)
        measure = clock(run.device)
        times = rounds(right, measure, self.seconds, self.repeats, run.seed, aside=COPY)
        return [
            replace(
                entry,
                statistics=Statistics.of(times[entry.name], times["native"]),
                extra=peak(right[entry.name], run.device),
            )
            if entry.name in right
            else entry
            for entry in entries
        ]

    def _write(
        self, run: Run, entries: Sequence[Entry], roofs: Roofs, machine: dict[str, Any]
    ) -> None:
        rows = [entry.to_dict(roofs) for entry in entries]
        place = ", ".join(f"{key} {value}" for key, value in machine.items() if key != "load")
        files = {
            "csv": report.to_csv(rows, machine),
            "md": report.markdown(entries, self.passes, place).encode(),
        }
        for kind, content in files.items():
            write_atomically(run.directory / f"benchmark.{kind}", content)
        facts = {"machine": machine, "roofs": roofs.to_dict(), "rows": rows}
        write_json(run.directory / "benchmark.json", facts)

    def _conclude(
        self, run: Run, entries: Sequence[Entry], roofs: Roofs, machine: dict[str, Any]
    ) -> None:
        """What is said and drawn at the end."""
        if len({entry.case.name for entry in entries}) > 1:
            for which in self.passes:
                run.notes += ["", *report.overview(entries, which)]
        run.notes += ["", *report.remarks(entries, self.passes, roofs, machine)]
        absent = missing() if self.yardsticks and run.device == "cpu" else []
        if absent:
            run.notes.append(f"Not installed, and so not measured: {', '.join(absent)}.")
        run.tracker.text("benchmark", (run.directory / "benchmark.md").read_text())
        aside = {entry.name for entry in entries if not entry.is_operator}
        for which in self.passes:
            found = report.ratios(entries, which)
            if found:
                title = f"Times as fast as native, {report.TITLES[which]}"
                run.tracker.image(f"benchmark/{which}", charts.ratios(found, title, aside))
        points = report.points(entries, self.passes[0])
        if points:
            peak = roofs.arithmetic / 1e9
            speeds = {"memory": roofs.memory / 1e9, "caches": roofs.cache / 1e9}
            bandwidths = {f"{where}: {s:.3g} GB/s": s for where, s in speeds.items()}
            title = f"Under the roofs: {report.TITLES[self.passes[0]]}"
            drawn = charts.roofline(points, bandwidths, peak, title, aside)
            run.tracker.image("benchmark/roofline", drawn)

    def _metrics(self, entries: Sequence[Entry], roofs: Roofs) -> dict[str, Any]:
        wrong = dict.fromkeys(f"{e.case.name} {e.name}" for e in entries if e.verdict.failure)
        return {
            "wrong": len(wrong),
            "wrong_ones": list(wrong),
            "measured": len({(entry.case.name, entry.name) for entry in entries}),
            "noisy": sum(entry.noisy for entry in entries),
            **report.summary(entries, self.passes),
            "copy_gb_per_s": roofs.memory / 1e9,
            "cached_copy_gb_per_s": roofs.cache / 1e9,
            "arithmetic_gflop_per_s": roofs.arithmetic / 1e9,
        }


def _chosen(made: Sequence[Choice], which: str) -> str:
    """What `auto` took in a pass."""
    picked = {one.computation: one.picked for one in made}
    if which == "forward":
        return picked.get("forward", "")
    pooled = picked.get("forward and gradient")
    if pooled or len(set(picked.values())) == 1:
        return pooled or next(iter(picked.values()))
    return ", ".join(f"{name} ({computation})" for computation, name in picked.items())


def _track(run: Run, entries: Sequence[Entry], step: int) -> None:
    """A case's numbers, one step each."""
    scalars = {}
    for entry in entries:
        if entry.statistics is not None:
            tag = f"{entry.case.name}/{entry.name}"
            scalars[f"{entry.which}_ms/{tag}"] = entry.statistics.median * 1e3
            scalars[f"{entry.which}_ratio/{tag}"] = entry.statistics.ratio
    run.tracker.scalars(scalars, step)


def _machine(run: Run) -> dict[str, Any]:
    """What times depend on."""
    import torch

    name = f"{os.cpu_count()} × {processor()}"
    if run.device.startswith("cuda"):
        name = torch.cuda.get_device_name(run.device)
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "dtype": run.dtype,
        "torch": torch.__version__,
        "load": round(os.getloadavg()[0], 2),
    }
