"""The sliding window, step by step: every number here was worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from shell import Finished

import runner
from runner.config.errors import ConfigError

NINE = "data.values=[[0,1,2],[3,4,5],[6,7,8]]"
SIXTEEN = "data.values=[[0,1,2,3],[4,5,6,7],[8,9,10,11],[12,13,14,15]]"


@pytest.fixture
def one_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing is most of the time that a trace takes."""
    monkeypatch.setattr("runner.tasks.trace.FRAMES", 1)


def trace(*words: str) -> runner.Result:
    return runner.run("task=trace", "device=cpu", "tensorboard=false", *words)


def conv(**fields: Any) -> str:
    listed = ", ".join(f"{name}: {value}" for name, value in fields.items())
    return f"stack.layers.conv={{kind: conv, {listed}}}"


def text(result: runner.Result) -> str:
    return (result.directory / "trace.txt").read_text()


def test_the_books_first_example(one_frame: None, workplace: Path) -> None:
    result = trace()
    assert result.metrics["values"] == [19, 25, 37, 43]  # the book, 6.2.1
    assert result.metrics["sums"] == [19, 25, 37, 43]
    assert result.metrics["positions"] == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert result.metrics["max_difference"] == 0
    assert text(result).split("\n\n")[1] == (
        "output[0, 1] of conv = 25\n"
        "  rows 0 to 1, columns 1 to 2 of the input\n"
        "    window     kernel     products\n"
        "    1 2     ×  0 1     =  0  2\n"
        "    4 5        2 3        8 15      sum 25"
    )


def test_only_the_positions_asked_for_in_their_order(one_frame: None, workplace: Path) -> None:
    result = trace("task.positions=[[1,1],[0,0]]")
    assert result.metrics["values"] == [43, 19]
    assert text(result).count("output[") == 2


def test_convolution_flips_the_kernel(one_frame: None, workplace: Path) -> None:
    result = trace("stack.layers.conv.mode=convolution")
    # 0·3 + 1·2 + 3·1 + 4·0 = 5, and so on.
    assert result.metrics["values"] == [5, 11, 23, 29]
    assert "flipped kernel" in text(result)
    assert "0 1     ×  3 2             =  0 2" in text(result)


@pytest.mark.parametrize(
    ("pad_mode", "corner", "value"),
    [
        # Above and left of 0..8 lies …; the kernel is [[0, 1], [2, 3]].
        ("zeros", "(0)(0)", 0),
        ("reflect", "(4)(3)", 3 + 2 * 1),
        ("replicate", "(0)(0)", 0),
        ("circular", "(8)(6)", 6 + 2 * 2),
    ],
)
def test_padding_is_marked_and_holds_what_its_mode_says(
    pad_mode: str, corner: str, value: int, workplace: Path
) -> None:
    pad = ("stack.layers.conv.padding=1", f"stack.layers.conv.pad_mode={pad_mode}")
    result = trace(*pad, "task.positions=[[0,0],[1,1]]")
    assert result.metrics["values"] == [value, 19]
    first, second = text(result).split("\n\n")
    assert "rows -1 to 0, columns -1 to 0 of the input; (…) is padding" in first
    assert corner in first
    assert "padding" not in second


def test_the_end_of_the_input_is_padded_too(one_frame: None, workplace: Path) -> None:
    # 8 is the last number; reflected below and right of it lie 5 7 / 4, circular 2 6 / 0.
    words = ("stack.layers.conv.padding=1", "task.positions=[[3,3]]")
    assert trace(*words).metrics["values"] == [0]
    reflect = trace(*words, "stack.layers.conv.pad_mode=reflect")
    assert reflect.metrics["values"] == [7 * 1 + 5 * 2 + 4 * 3]
    circular = trace(*words, "stack.layers.conv.pad_mode=circular")
    assert circular.metrics["values"] == [6 * 1 + 2 * 2 + 0 * 3]


def test_dilation_picks_every_other_element(one_frame: None, workplace: Path) -> None:
    values = np.arange(25).reshape(5, 5).tolist()
    words = (f"data.values={values}", "stack.layers.conv.dilation=[2,3]")
    result = trace(*words, "task.positions=[[1,1]]")
    # Rows 1 and 3, columns 1 and 4: 6 9 / 16 19.
    assert result.metrics["values"] == [9 * 1 + 16 * 2 + 19 * 3]
    assert "rows 1, 3, columns 1, 4 of the input" in text(result)
    assert "     6  9   ×  0 1     =   0  9\n    16 19      2 3        32 57" in text(result)


def test_stride_moves_the_window(one_frame: None, workplace: Path) -> None:
    result = trace(SIXTEEN, "stack.layers.conv.stride=[2,1]", "task.positions=[[1,2]]")
    # Rows 2 and 3, columns 2 and 3: 10 11 / 14 15.
    assert result.metrics["values"] == [11 + 28 + 45]


def test_channels_are_added_and_so_is_the_bias(one_frame: None, workplace: Path) -> None:
    two = "data.values=[[[0,1,2],[3,4,5],[6,7,8]],[[1,2,3],[4,5,6],[7,8,9]]]"
    weight = "[[[[0,1],[2,3]],[[1,2],[3,4]]]]"
    result = trace(two, conv(weight=weight, bias=-0.5))
    assert result.metrics["values"] == [55.5, 71.5, 103.5, 119.5]  # the book, 6.4.1, less 0.5
    assert result.metrics["channel_sums"] == [[19, 37], [25, 47], [37, 67], [43, 77]]
    assert "  input channel 1\n" in text(result)
    assert "  19 + 37 - 0.5 (bias) = 55.5" in text(result)


def test_groups_see_their_own_channels(one_frame: None, workplace: Path) -> None:
    four = "data.values=[[[1,2]],[[3,4]],[[5,6]],[[7,8]]]"
    weight = "[[[[1]],[[10]]],[[[2]],[[20]]]]"
    result = trace(four, conv(weight=weight, groups=2), "task.channels=[1,0]")
    # Output channel 1 sees input channels 2 and 3: 2·5 + 20·7 and 2·6 + 20·8.
    assert result.metrics["values"] == [[150, 172], [31, 42]]
    assert result.metrics["sums"] == [[150, 172], [31, 42]]
    assert "output[0, 1] of channel 1 of conv = 172" in text(result)
    assert "input channel 3" in text(result)


def test_the_largest_and_the_smallest_win(one_frame: None, workplace: Path) -> None:
    pool = ("stack=pool", NINE, "stack.layers.pool.stride=1")
    result = trace(*pool)
    assert result.metrics["values"] == [4, 5, 7, 8]  # the book, 6.5.1
    assert result.metrics["winners"] == [[1, 1], [1, 2], [2, 1], [2, 2]]
    assert "     0  1\n     3 [4]  max 4" in text(result)
    result = trace(*pool, "stack.layers.pool.mode=min")
    assert result.metrics["values"] == [0, 1, 3, 4]
    assert "[0] 1" in text(result)


def test_of_equal_numbers_the_first_wins(one_frame: None, workplace: Path) -> None:
    result = trace("stack=pool", "data.values=[[7,7],[7,7]]")
    assert result.metrics["winners"] == [[0, 0]]


def test_padding_never_wins(one_frame: None, workplace: Path) -> None:
    minus = "data.values=[[-1,-2],[-3,-4]]"
    result = trace("stack=pool", minus, "stack.layers.pool.padding=1")
    assert result.metrics["values"] == [-1, -2, -3, -4]
    assert "(·) (·)\n    (·)[-1]  max -1" in text(result)


@pytest.mark.parametrize(
    ("counted", "divisors", "words"),
    [("true", (4, 4, 4, 4), "sum 3 / 4, padding counted = 0.75"),
     ("false", (1, 2, 2, 4), "sum 3 / 2, padding not counted = 1.5")],
)  # fmt: skip
def test_what_an_average_is_divided_by(
    counted: str, divisors: tuple[int, ...], words: str, workplace: Path
) -> None:
    # 0..8 with padding 1, windows of 2×2 and stride 2: 0 alone, then 1 2, 3 6, and 4 5 7 8.
    pool = f"mode: avg, kernel: 2, stride: 2, padding: 1, count_include_pad: {counted}"
    result = trace("stack=pool", NINE, f"stack.layers.pool={{kind: pool, {pool}}}")
    sums = [0, 1 + 2, 3 + 6, 4 + 5 + 7 + 8]
    expected = [total / divisor for total, divisor in zip(sums, divisors, strict=True)]
    assert result.metrics["values"] == expected
    assert words in text(result)
    assert "sum 24 / 4 = 6" in text(result)
    assert "winners" not in result.metrics


def test_adaptive_windows_differ_in_size(one_frame: None, workplace: Path) -> None:
    pool = "stack.layers={pool: {kind: pool, mode: avg, output_size: [1, 2]}}"
    result = trace("stack=empty", "data.values=[[1,2,3,4,5]]", pool)
    assert result.metrics["values"] == [2, 4]  # of 1 2 3 and 3 4 5


def test_a_layer_inside_others(one_frame: None, workplace: Path) -> None:
    layers = (
        "stack.layers={first: {kind: conv, weight: [[2]]}, "
        "inner: {kind: residual, layers: {conv: {kind: conv, weight: [[0,1],[2,3]], "
        "padding: [0,1,0,1]}}}}"
    )
    result = trace("stack=empty", layers, "task.layer=inner.conv", "task.positions=[[0,0]]")
    assert result.metrics["layer"] == "inner.conv"
    assert result.metrics["values"] == [38]  # of twice the input, before it is added


def test_the_first_conv_or_pool_layer_is_the_default(one_frame: None, workplace: Path) -> None:
    result = trace("stack=empty", "stack.layers={act: {kind: activation, function: relu}, "
                   "pool: {kind: pool, kernel: 3}, conv: {kind: conv, weight: [[1]]}}")  # fmt: skip
    assert result.metrics["layer"] == "pool"
    assert result.metrics["values"] == [8]


def test_one_of_several_images(one_frame: None, workplace: Path) -> None:
    two = "data.values=[[[[0,1],[3,4]]],[[[1,1],[1,1]]]]"
    assert trace(two, "task.image=1").metrics["values"] == [6]
    assert trace(two).metrics["values"] == [19]


def test_the_first_sixteen_positions_by_default(one_frame: None, workplace: Path) -> None:
    values = np.zeros((6, 6), int).tolist()
    result = trace(f"data.values={values}")
    assert len(result.metrics["values"]) == 16
    assert result.metrics["positions"][-1] == [3, 0]  # row by row, five in each


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_any_precision(dtype: str, workplace: Path) -> None:
    assert trace(f"dtype={dtype}").metrics["values"] == [19, 25, 37, 43]


def test_what_half_precision_cannot_hold_is_no_mistake(one_frame: None, workplace: Path) -> None:
    result = trace("dtype=float16", "data.values=[[60000,60000],[0,0]]", conv(weight="[[1,1]]"))
    assert result.metrics["sums"] == [120000, 0]
    assert result.metrics["values"][0] == float("inf")


def test_an_operator_that_is_wrong_is_named(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runner.ops.native import NativeConv

    right = NativeConv.forward

    def wrong(self: NativeConv, x: Any, *rest: Any) -> Any:
        return right(self, x.flip(3), *rest)

    monkeypatch.setattr(NativeConv, "forward", wrong)
    with pytest.raises(RuntimeError) as caught:
        trace("task.positions=[[0,1]]")
    # Of the mirrored rows 2 1 0 and 5 4 3: 1·0 + 0·1 + 4·2 + 3·3.
    assert str(caught.value) == (
        "stack.layers.conv: operator 'native' computed 17 at channel 0, position [0, 1], where "
        "the definition gives 25"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["task.positions=[[5,-7]]"],
         "task.positions[0]: expected [row, column] within the 2×2 output of 'conv', got [5, -7]. "
         "Rows and columns count from 0; the nearest is [1, 0]."),
        (["task.positions=[[0,1],[0,2]]"], "task.positions[1]"),
        (["task.positions=[0,1]"], "task.positions[0]: expected two integers: [row, column], got "
         "0. Put the position into brackets too: [[0, 1]]."),
        (["task.positions=[]"], "task.positions: expected a list of 1 to 1000 positions"),
        (["task.positions=[[0,true]]"], "task.positions[0]: expected two integers"),
        (["task.layer=con"], "task.layer: expected a conv or pool layer (conv), got 'con'. "
         "Did you mean 'conv'?"),
        (["stack=lenet", "data=blank", "task.layer=fc1"], "task.layer: expected a conv or pool "
         "layer (conv1, pool1, conv2, pool2), got 'fc1', of kind linear."),
        (["stack=empty"], "stack.layers: expected a conv or pool layer to trace, got no layers."),
        (["task.image=1"], "task.image: expected an image of the data, 0, the only one, got 1."),
        (["task.channels=[0,1]"], "task.channels[1]: expected a channel of the output of 'conv', "
         "0, the only one, got 1."),
        (["task.channels=[]"], "task.channels: expected a channel or a list of up to 64"),
    ],
)  # fmt: skip
def test_bad_input_is_answered_by_path(words: list[str], message: str, workplace: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        trace(*words)
    assert message in str(caught.value)
    assert not list(workplace.glob("outputs/*/*"))


def test_every_mistake_is_named_at_once(one_frame: None, workplace: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        runner.plan("task=trace", "task.positions=[[9,0],[0,0],[0,9]]", "task.channels=4")
    paths = [problem.path for problem in caught.value.problems]
    assert paths == ["task.positions[0]", "task.positions[2]", "task.channels[0]"]


def test_pictures(workplace: Path) -> None:
    result = trace("task.seconds=0.5")
    images = result.directory / "images"
    assert {p.name for p in images.iterdir()} == {
        *(f"trace_frames_00000{i}.png" for i in (1, 2, 3, 4)), "trace.gif", "trace_storyboard.png",
    }  # fmt: skip
    with PIL.Image.open(images / "trace.gif") as film:
        assert film.n_frames == 4  # type: ignore[attr-defined]  # of GIF files
        assert film.info["duration"] == 500
        assert film.info["loop"] == 0
        frames = []
        for i in range(4):
            film.seek(i)
            frames.append(np.asarray(film.convert("RGB")).astype(int))
    for i, frame in enumerate(frames, start=1):
        with PIL.Image.open(images / f"trace_frames_00000{i}.png") as still:
            assert still.size == frame.shape[1::-1]
            # One palette for all frames costs some shades at the edges of letters.
            assert np.abs(np.asarray(still).astype(int) - frame).mean() < 0.5
    assert all((a != b).any() for a, b in pairwise(frames))


def test_no_more_frames_than_can_be_watched(workplace: Path) -> None:
    values = np.zeros((9, 9), int).tolist()
    positions = [[i // 8, i % 8] for i in range(40)]
    result = trace(f"data.values={values}", f"task.positions={positions}")
    assert len(result.metrics["values"]) == 40
    assert text(result).count("output[") == 40
    assert len(list((result.directory / "images").glob("trace_frames_*"))) == 32


def test_large_kernels_and_many_channels_are_cut_in_the_terminal_only(
    cli: Callable[..., Finished], workplace: Path
) -> None:
    layer = (
        "stack.layers={conv: {kind: conv, channels: 1, kernel: 9, bias: false, "
        "weight: {initializer: constant, value: 1.0}}}"
    )
    done = cli("task=trace", "data=blank", "data.channels=6", "data.value=1.0", "stack=empty",
               layer, "task.positions=[[0,0],[0,1]]", "device=cpu")  # fmt: skip
    assert done.rc == 0, done.stderr
    assert "2 more input channels: sum 162" in done.stdout  # 81 each
    assert "81 + 81 + 81 + 81 + 162 = 486" in done.stdout
    assert "… and 1 more outputs, in trace.txt." in done.stdout
    (written,) = (workplace / "outputs" / "trace").glob("*/trace.txt")
    whole = written.read_text()
    assert "81 + 81 + 81 + 81 + 81 + 81 = 486" in whole
    assert "1 1 1 1 1 1 1 1 1" in whole
    assert "…" not in whole
    assert whole in (written.parent / "run.log").read_text()
    steps = done.stdout[done.stdout.index("output[0, 0]") : done.stdout.index("results")]
    assert max(map(len, steps.splitlines())) <= 80
