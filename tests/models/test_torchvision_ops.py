from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Each case needs a process in which torchvision was never imported."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)


def test_torchvision_imports_after_the_shim_however_it_was_built() -> None:
    done = run(
        "from earthloom.models.networks.torchvision_ops import define_missing_ops as d; d(); d(); import torchvision, torch; "
        "assert torch.ops.torchvision.nms and torch.ops.torchvision.qnms"
    )
    assert done.returncode == 0, done.stderr


def test_the_shim_does_nothing_where_the_operators_exist() -> None:
    done = run(
        "import torch; L = torch.library.Library('torchvision', 'DEF')\n"
        "for n in ('nms', 'qnms'): L.define(n + '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')\n"
        "from earthloom.models.networks import torchvision_ops as t; t.define_missing_ops(); assert not t._kept\n"
        "import torchvision"
    )
    assert done.returncode == 0, done.stderr
