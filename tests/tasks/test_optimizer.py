"""Steps that are taken without torch's optimizers are theirs to the last bit."""

from __future__ import annotations

import pytest
import torch

from runner.tasks._optimizer import Optimizer


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "fields",
    [
        {"lr": 0.03},
        {"lr": 0.1, "weight_decay": 0.3},
        {"lr": 0.1, "momentum": 0.9},
        {"name": "adam", "lr": 0.1},
    ],
)
def test_steps_are_torchs(fields: dict[str, object], dtype: torch.dtype) -> None:
    kinds = {"adam": torch.optim.Adam}
    options = {key: value for key, value in fields.items() if key != "name"}
    first = [torch.nn.Parameter(torch.randn(3, 5, dtype=dtype)) for _ in range(3)]
    second = [torch.nn.Parameter(p.detach().clone()) for p in first]
    for weights in (first, second):
        weights[1].requires_grad_(False)
    step = Optimizer(**fields).stepper(iter(first))
    theirs = kinds.get(str(fields.get("name")), torch.optim.SGD)(second, **options)
    for _ in range(5):
        for weights in (first, second):
            for weight in weights:
                weight.grad = None
            (weights[0].sin() * 3).sum().backward()  # the third takes no part
        step()
        theirs.step()
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
