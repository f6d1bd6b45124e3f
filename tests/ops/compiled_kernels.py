"""Compile what `direct` would launch on an H100, without one; a program of its own.

Triton is either interpreted or compiled in a process, and the other tests interpret. Tensors are on
the device `meta`: they have shapes, but no numbers.
"""

import json
import warnings

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from runner.geometry import ConvGeometry, PoolGeometry
from runner.ops.direct import triton_conv, triton_pool

H100 = GPUTarget("cuda", 90, 32)
TYPES = {
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float32: "fp32",
    torch.float64: "fp64",
    torch.uint8: "u8",
    torch.int32: "i32",
    torch.int64: "i64",
}

found: list[tuple[str, int, int]] = []


def compile_instead(kernel, programs, *args, num_warps, **constants):
    """Stands for `launch`: the types that Triton would see, and what it would treat as constant."""
    signature, constant, attributes = {}, {}, {}
    for i, (parameter, given) in enumerate(zip(kernel.params, args, strict=False)):
        name, at = parameter.name, (i,)
        if isinstance(given, torch.Tensor):
            signature[name], attributes[at] = "*" + TYPES[given.dtype], [["tt.divisibility", 16]]
        elif parameter.is_constexpr or given in (None, 1):
            signature[name], constant[name] = "constexpr", given
        else:
            signature[name] = "i32"
            if given % 16 == 0:
                attributes[at] = [["tt.divisibility", 16]]
    signature |= dict.fromkeys(constants, "constexpr")
    source = ASTSource(kernel, signature, constant | constants, attributes)
    options = {"num_warps": num_warps, "enable_fp_fusion": True}
    compiled = triton.compile(source, target=H100, options=options)
    found.append((kernel.fn.__name__, programs, len(compiled.asm["cubin"])))


def convolve(x, c_out, window, dtype=torch.float32, bias=False):
    weight = (c_out, x[1] // window.groups, *window.kernel)
    x, weight, b = (torch.empty(s, dtype=dtype, device="meta") for s in (x, weight, (c_out,)))
    y = triton_conv.forward(x, weight, b if bias else None, window)
    triton_conv.input_gradient(y, weight, tuple(x.shape[2:]), window)
    triton_conv.weight_gradient(y, x, window)


def pool(x, window, dtype=torch.float32):
    x = torch.empty(x, dtype=dtype, device="meta")
    y, places = triton_pool.forward_with_indices(x, "min", window)
    for mode, where in (("max", places), ("avg", None)):
        triton_pool.forward(x, mode, window)
        triton_pool.input_gradient(y, None, where, tuple(x.shape[2:]), mode, window)


if __name__ == "__main__":
    warnings.simplefilter("error")
    triton_conv.launch = triton_pool.launch = compile_instead
    convolve((1, 1, 4096, 4096), 1, ConvGeometry((3, 3), padding=(1, 1, 1, 1)))
    convolve((1, 3, 512, 512), 3, ConvGeometry((2, 2), (2, 1), groups=3), torch.bfloat16, bias=True)
    convolve((2, 4, 9, 17), 6, ConvGeometry((3, 2), (2, 1), (2, 0, 1, 3), (1, 2), 2), bias=True)
    pool((32, 64, 56, 56), PoolGeometry((2, 2), (2, 2)))
    pool((2, 3, 9, 7), PoolGeometry(output=(3, 1)), torch.float64)
    print(json.dumps(found))
