import shutil
from pathlib import Path

import pytest
import torch

from fedsec.defense.kernels.package import build, load
from fedsec.defense.kernels.specification import MiddleMeanKernel
from fedsec.defense.order_statistics import Scratch, middle_mean


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="kernels need a C++ compiler")
@pytest.mark.filterwarnings("default")
def test_a_built_kernel_gives_the_same_bits(tmp_path: Path) -> None:
    kernel = MiddleMeanKernel(5, 1, torch.float32)
    leftover = tmp_path / f".{kernel.name}-killed"
    leftover.mkdir()
    # Trying the compiler on each instruction set of the processor would take longer than the kernel itself.
    with torch._inductor.config.patch({"cpp.vec_isa_ok": True}):
        build(kernel, tmp_path)
    (path,) = tmp_path.glob("*.pt2")
    written = path.stat()
    assert not leftover.exists()
    build(kernel, tmp_path)  # it is there
    assert path.stat() == written

    function = load(kernel, tmp_path)
    assert function is not None
    rows = torch.randn(5, 5001) * torch.tensor([1, 1e30, 1e-40, 1, 3e38])[:, None]
    rows = torch.where(rows.isfinite(), rows, 3.4e38)
    rows[:, ::7] = rows[:1, ::7]
    for columns in (slice(None), slice(1, 2), slice(3, 20), slice(0, 4096)):
        assert torch.equal(function(rows[:, columns].unbind(0)), middle_mean(rows[:, columns], 1, Scratch()))
