"""Another device than the CPU: everything that trains and measures, on one made in software."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mansu.base import device_named
from verify.errors import UsageError

TESTS = Path(__file__).parent


def test_a_model_elsewhere_is_edited_and_measured_as_on_the_cpu(tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "elsewhere.bench", str(tmp_path), "mansu"],
        cwd=TESTS,
        env={**os.environ, "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr[-3000:]
    on = json.loads(found.stdout.splitlines()[-1])
    for here, there in zip(on["cpu"], on["elsewhere"], strict=True):
        assert here.pop("device") == "cpu"
        assert there.pop("device").startswith("elsewhere")
        # attention takes another path there, whose sums are in another order
        assert there.pop("changed") == pytest.approx(here.pop("changed"), rel=0.02)
        assert there.pop("crossing") == pytest.approx(here.pop("crossing"), rel=0.02)
        assert there.keys() == here.keys()
        for name, values in here.items():
            assert there[name] == pytest.approx(values, abs=0.05), name


def test_a_device_is_found_by_its_name() -> None:
    assert device_named("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["quantum", "xpu:7", "meta"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be used") as caught:
        device_named(name)
    assert caught.value.id == "ME390"
