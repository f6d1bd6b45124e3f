"""Sizes beyond memory, machine integers or patience, refused before torch is there."""

from __future__ import annotations

import pytest
from attacking import Attack

CONV = "stack.layers.conv1"
NESTED = "{kind: repeat, times: 1000, layers: {a: LAYERS}}"
WIDE = "{kind:conv,channels:2147483647,kernel:1}"
RELU = "{kind: activation, function: relu}"


def nested(levels: int) -> str:
    """A thousand to the power of levels layers."""
    text = RELU
    for _ in range(levels):
        text = NESTED.replace("LAYERS", text)
    return f"+stack.layers.more={text}"


SIZES = {
    f"{CONV}.padding=2305843009213693952": f"{CONV}.padding",  # 2^61: torch crashes
    f"{CONV}.dilation=4611686018427387904": f"{CONV}.dilation",  # 2^62: torch answers wrongly
    f"{CONV}.padding=2147483648": f"{CONV}.padding",
    f"{CONV}.padding=2147483647": "stack.layers.",
    f"{CONV}.dilation=2147483647": "stack.layers.conv1",
    f"{CONV}.kernel=2147483647": "stack.layers.conv1",
    f"{CONV}.stride=2147483648": f"{CONV}.stride",
    f"{CONV}.padding=-1": f"{CONV}.padding",
    f"{CONV}.padding=[0,0,0,9223372036854775807]": f"{CONV}.padding",
    f"{CONV}.channels=0": f"{CONV}.channels",
    f"{CONV}.channels=-1": f"{CONV}.channels",
    f"{CONV}.channels=2147483647": "stack.layers.",
    f"{CONV}.channels=18446744073709551617": f"{CONV}.channels",
    f"{CONV}.channels=1000000007 {CONV}.groups=1000000007": f"{CONV}.groups",
    f"{CONV}.kernel=0": f"{CONV}.kernel",
    f"{CONV}.kernel=29": "stack.layers.",
    "stack.layers.fc1.features=2147483647": "stack.layers.",
    "stack.layers.fc1.features=0": "stack.layers.fc1.features",
    "stack.layers.pool1.kernel=1000000000": "stack.layers.pool1",
    "+stack.layers.up={kind:pool,mode:avg,output_size:2147483647}": "stack.layers.",
    f"+stack.layers.c={CONV} {nested(1)}": "stack.layers.c",
    nested(3): "at most 10,000 layers",
    nested(6): "at most 10,000 layers",
    "+stack.layers.r={kind:repeat,times:1000000000,layers:{a:{kind:flatten}}}": "times",
    f"+stack.layers.r={{kind:repeat,times:1000,layers:{{c:{WIDE}}}}}": "stack.layers.",
    f"+stack.layers.d={{kind:dense_block,times:1000,layers:{{c:{WIDE}}}}}": "stack.layers.",
    "data.height=100000000000": "data.height",
    "data.height=0": "data.height",
    "data.channels=1000000000": "memory_limit_gib",
    "data=noise data.images=1000000000000": "data.images",
    "data=noise data.images=2147483647": "memory_limit_gib",
    "data=shapes data.images=2147483647": "",
    "data=photo data.resize=1000000": "data.resize",
    "data=photo data.resize=[1,16385]": "data.resize",
    "data=photo data.crop=[0,0,1000000000,1]": "data.crop",
    "data=digits data.start=1000000000000": "data.start",
    "seed=9223372036854775808": "seed",
    "threads=1000000000": "threads",
    "memory_limit_gib=0": "memory_limit_gib",
    "memory_limit_gib=1e400": "memory_limit_gib",
}  # fmt: skip


@pytest.mark.parametrize("words", SIZES)
def test_sizes_are_refused_by_their_path(attack: Attack, words: str) -> None:
    given = [words] if "{kind: " in words else words.split(" ")
    data = [] if any(word.startswith("data=") for word in given) else ["data=blank"]
    stack = ["stack=lenet"] if "stack" in words else ["stack=empty"]
    answer = attack("task=forward", *stack, *data, "device=cpu", *given)
    answer.refused(SIZES[words])


TASKS = {
    "task=classify task.epochs=1000000000000": "task.epochs",
    "task=classify task.batch_size=1000000000000": "task.batch_size",
    "task=classify task.batch_size=0": "task.batch_size",
    "task=learn_kernel task.steps=1000000000000": "task.steps",
    "task=learn_kernel task.steps=0": "task.steps",
    "task=receptive_field task.samples=1000000000000": "task.samples",
    "task=trace task.stop=1000000000000": "task.",
    "-m task=plan seed=range(0,100000000000)": "100,000",
    "-m task=plan seed=range(0,1000) threads=range(1,1001)": "100,000",
    "-m task=plan seed=range(0,1,0.000000000001)": "100,000",
    "-m task=plan seed=range(0,1e300)": "seed",
    "-m task=plan stack=glob(*) data=glob(*) task=glob(*) ops=glob(*) seed=range(0,100)": "100,000",
}


@pytest.mark.parametrize("words", TASKS)
def test_counts_are_refused_by_their_path(attack: Attack, words: str) -> None:
    attack(*words.split(" "), "device=cpu").refused(TASKS[words])
