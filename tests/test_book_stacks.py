"""The networks of the book's next chapter: shapes as printed, parameters counted by hand."""

from __future__ import annotations

import pytest
import torch

import runner
from runner.config.compose import Composer
from runner.config.plain import plain
from runner.job import Job
from runner.plan import Plan


def conv(c_in: int, c_out: int, k: int) -> int:
    """A convolution with bias."""
    return c_out * (c_in * k * k + 1)


def dense(n_in: int, n_out: int) -> int:
    return n_out * (n_in + 1)


def norm(c: int) -> int:
    """Scale and shift."""
    return 2 * c


def inception(c: int, one: int, three: tuple[int, int], five: tuple[int, int], pool: int) -> int:
    """Table 1 of Szegedy et al. 2015, a row: 1×1, 1×1 then 3×3, 1×1 then 5×5, pool then 1×1."""
    return (
        conv(c, one, 1)
        + conv(c, three[0], 1) + conv(three[0], three[1], 3)
        + conv(c, five[0], 1) + conv(five[0], five[1], 5)
        + conv(c, pool, 1)
    )  # fmt: skip


def residual(c_in: int, c_out: int) -> int:
    around = conv(c_in, c_out, 1) if c_in != c_out else 0
    return conv(c_in, c_out, 3) + conv(c_out, c_out, 3) + 2 * norm(c_out) + around


def dense_block(c: int) -> int:
    """Four times batch norm and a 3×3 convolution to 32 channels, which are added to the input."""
    return sum(norm(c + 32 * i) + conv(c + 32 * i, 32, 3) for i in range(4))


def transition(c: int) -> int:
    return norm(c) + conv(c, c // 2, 1)


PARAMETERS = {
    "lenet": conv(1, 6, 5) + conv(6, 16, 5) + dense(400, 120) + dense(120, 84) + dense(84, 10),
    "lenet_bn": conv(1, 6, 5) + norm(6) + conv(6, 16, 5) + norm(16) + dense(256, 120)
    + norm(120) + dense(120, 84) + norm(84) + dense(84, 10),
    "alexnet": conv(1, 96, 11) + conv(96, 256, 5) + conv(256, 384, 3) + conv(384, 384, 3)
    + conv(384, 256, 3) + dense(6400, 4096) + dense(4096, 4096) + dense(4096, 10),
    "vgg11": conv(1, 64, 3) + conv(64, 128, 3) + conv(128, 256, 3) + conv(256, 256, 3)
    + conv(256, 512, 3) + 3 * conv(512, 512, 3)
    + dense(25088, 4096) + dense(4096, 4096) + dense(4096, 10),
    "nin": conv(1, 96, 11) + 2 * conv(96, 96, 1) + conv(96, 256, 5) + 2 * conv(256, 256, 1)
    + conv(256, 384, 3) + 2 * conv(384, 384, 1) + conv(384, 10, 3) + 2 * conv(10, 10, 1),
    "googlenet": conv(1, 64, 7) + conv(64, 64, 1) + conv(64, 192, 3)
    + inception(192, 64, (96, 128), (16, 32), 32)
    + inception(256, 128, (128, 192), (32, 96), 64)
    + inception(480, 192, (96, 208), (16, 48), 64)
    + inception(512, 160, (112, 224), (24, 64), 64)
    + inception(512, 128, (128, 256), (24, 64), 64)
    + inception(512, 112, (144, 288), (32, 64), 64)
    + inception(528, 256, (160, 320), (32, 128), 128)
    + inception(832, 256, (160, 320), (32, 128), 128)
    + inception(832, 384, (192, 384), (48, 128), 128)
    + dense(1024, 10),
    "resnet18": conv(1, 64, 7) + norm(64) + 2 * residual(64, 64)
    + residual(64, 128) + residual(128, 128) + residual(128, 256) + residual(256, 256)
    + residual(256, 512) + residual(512, 512) + dense(512, 10),
    "densenet": conv(1, 64, 7) + norm(64) + dense_block(64) + transition(192) + dense_block(96)
    + transition(224) + dense_block(112) + transition(240) + dense_block(120) + norm(248)
    + dense(248, 10),
}  # fmt: skip

PRINTED = {
    "lenet": 61_706,
    "lenet_bn": 44_878,
    "alexnet": 46_764_746,
    "vgg11": 128_806_154,
    "nin": 1_992_166,
    "googlenet": 5_977_530,
    "resnet18": 11_178_378,
    "densenet": 758_226,
}
"""What the YAML's headers say."""

SIZE = {
    "lenet": 28, "lenet_bn": 28, "alexnet": 224, "vgg11": 224, "nin": 224,
    "googlenet": 96, "resnet18": 96, "densenet": 96,
}  # fmt: skip

SHAPES = {
    "lenet_bn": {"conv1": "6×24×24", "pool1": "6×12×12", "conv2": "16×8×8", "pool2": "16×4×4",
                 "flatten": "256"},
    "alexnet": {"conv1": "96×54×54", "pool1": "96×26×26", "conv2": "256×26×26",
                "pool2": "256×12×12", "conv3": "384×12×12", "conv5": "256×12×12",
                "pool3": "256×5×5", "flatten": "6400", "fc1": "4096", "fc3": "10"},
    "vgg11": {"blocks.1": "64×112×112", "blocks.2": "128×56×56", "blocks.3": "256×28×28",
              "blocks.4": "512×14×14", "blocks.5": "512×7×7", "flatten": "25088", "head": "4096",
              "fc": "10"},
    "nin": {"blocks.1.pixels": "96×54×54", "blocks.1": "96×26×26", "blocks.2.pixels": "256×26×26",
            "blocks.2": "256×12×12", "blocks.3.pixels": "384×12×12", "blocks.3": "384×5×5",
            "pixels": "10×5×5", "pool": "10×1×1", "flatten": "10"},
    "googlenet": {"stem": "192×12×12", "inception3.1": "256×12×12", "inception3": "480×12×12",
                  "pool3": "480×6×6", "inception4": "832×6×6", "pool4": "832×3×3",
                  "inception5": "1024×3×3", "flatten": "1024", "fc": "10"},
    "resnet18": {"pool": "64×24×24", "blocks.2": "64×24×24", "blocks.4": "128×12×12",
                 "blocks.6": "256×6×6", "blocks.8": "512×3×3", "flatten": "512", "fc": "10"},
    "densenet": {"pool": "64×24×24", "stages.1.dense": "192×24×24", "stages.1": "96×12×12",
                 "stages.2.dense": "224×12×12", "stages.2": "112×6×6",
                 "stages.3.dense": "240×6×6", "stages.3": "120×3×3", "dense": "248×3×3",
                 "flatten": "248", "fc": "10"},
}  # fmt: skip


def job(stack: str) -> Job:
    size = [f"data.height={SIZE[stack]}", f"data.width={SIZE[stack]}"]
    with Composer() as composer:
        words = ["task=forward", "data=blank", f"stack={stack}", *size]
        return Job.parse(plain(composer.compose(words).config))


@pytest.mark.parametrize("stack", PARAMETERS)
def test_parameters(stack: str) -> None:
    assert job(stack).plan().parameters == PARAMETERS[stack] == PRINTED[stack]


@pytest.mark.parametrize("stack", SHAPES)
def test_shapes(stack: str) -> None:
    shapes = {row.name: str(row.output) for row in job(stack).plan().walk()}
    assert {name: shapes.get(name) for name in SHAPES[stack]} == SHAPES[stack]


@pytest.mark.parametrize("stack", PARAMETERS)
def test_runs_forward_as_planned(stack: str) -> None:
    """Every module, those inside containers too, gives the planned shape and holds as many."""
    made = job(stack)
    plan = made.plan()
    model = made.stack.build(plan, made.ops, torch.Generator().manual_seed(0)).float().eval()
    seen = {}
    for row in plan.walk():
        module = model.get_submodule(row.name)
        assert sum(p.numel() for p in module.parameters()) == row.parameters, row.name
        module.register_forward_hook(lambda _m, _x, y, name=row.name: seen.update({name: y.shape}))
    x = torch.rand(1, 1, SIZE[stack], SIZE[stack], generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        y = model(x)
    assert y.shape == (1, 10)
    assert torch.isfinite(y).all()
    assert {name: tuple(shape[1:]) for name, shape in seen.items()} == {
        row.name: row.output.dims for row in plan.walk()
    }


def test_receptive_fields() -> None:
    """By hand: r grows by (k − 1) · the product of the strides before."""
    fields = {name: job(name).plan() for name in ("resnet18", "alexnet", "googlenet", "vgg11")}

    def field(stack: str, row: str) -> tuple[int, int] | None:
        return next(r.receptive_field for r in fields[stack].walk() if r.name == row)

    # conv 7: 7, jump 2; pool 3: 7 + 2·2 = 11, jump 4; each block adds 2·(k − 1)·jump, its first
    # convolution with the jump before: +16, +16; +8 + 2·4·… with stride 2: 2·4 + 2·8 = 24, +32;
    # 2·8 + 2·16 = 48, +64; 2·16 + 2·32 = 96, +128.
    assert field("resnet18", "pool") == (11, 11)
    assert [field("resnet18", f"blocks.{i}") for i in range(1, 9)] == [
        (n, n) for n in (27, 43, 67, 99, 147, 211, 307, 435)
    ]
    # 11; pool: 11 + 2·4 = 19, jump 8; conv 5: 19 + 4·8 = 51; pool: 51 + 16 = 67, jump 16;
    # three times conv 3: + 3·32 = 163; pool: + 32 = 195.
    assert fields["alexnet"].receptive_field == (195, 195)
    # The widest branch has the 5×5: 27 + 4·8 = 59, then 91.
    assert field("googlenet", "inception3") == (91, 91)
    # Blocks of 1, 1, 2, 2, 2 convolutions at jumps 1, 2, 4, 8, 16, each ending in a pool of 2:
    # 1 + 2 + 1 + 4 + 2 + 16 + 4 + 32 + 8 + 64 + 16 = 150.
    assert fields["vgg11"].receptive_field == (150, 150)


def test_the_next_class_count_is_an_override(workplace: object) -> None:
    found: Plan = runner.plan(
        "stack=resnet18", "stack.layers.fc.features=100",
        "stack.layers.blocks.each.channels=[8,8,16,16,32,32,64,64]",
    )  # fmt: skip
    assert found.output.dims == (100,)
