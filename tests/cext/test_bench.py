"""The benchmark checks what it times, reports each method once, and refuses nonsense in one line."""

import pytest

from cext import bench
from cext import bench_methods as methods


@pytest.mark.parametrize("density", [0.01])
@pytest.mark.parametrize("method", methods.METHODS, ids=lambda method: method.name)
def test_every_method_equals_its_reference(method, density):
    methods.check(method, 400_000, density, 2)


def test_a_wrong_method_is_caught():
    def shorter(b: methods.Bench) -> int:
        return methods.threshold(b) - (b.module is not methods.reference)

    wrong = methods.Method("wrong", shorter, methods.read, {})
    with pytest.raises(SystemExit, match=r"wrong at density 0\.1 differs from its reference"):
        methods.check(wrong, 50_000, 0.1, 1)


def test_report(capsys):
    assert bench.main(["--elements", "1M", "--densities", "0.01", "--rounds", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:30].strip() for line in lines[1:]] == [method.name for method in methods.METHODS]


@pytest.mark.parametrize("arguments", [["--elements", "3"], ["--elements", "3G"], ["--densities", "2"]])
def test_nonsense_is_refused(arguments):
    with pytest.raises(SystemExit) as caught:
        bench.main(arguments)
    assert caught.value.code == 2
