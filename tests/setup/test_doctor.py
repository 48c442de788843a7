"""doctor: a required failure fails the whole, an absence does not, and nothing that a check does can hang it."""

from __future__ import annotations

import json
import os

import psutil
import pytest

from toolkit.doctor import CHECKS, Absent, Check, doctor, error_line, last_lines, run_ranks


def fine() -> str:
    return "fine"


def broken() -> str:
    raise OSError("it broke\nand then some")


def missing() -> str:
    raise Absent("not here")


@pytest.mark.parametrize(
    ("checks", "code"),
    [
        ([Check("a", fine)], 0),
        ([Check("a", fine), Check("b", broken)], 1),
        ([Check("a", broken, required=False), Check("b", fine)], 0),
        ([Check("a", missing)], 0),
    ],
)
def test_only_a_required_failure_fails(checks, code, capsys):
    assert doctor([], checks) == code
    assert len(capsys.readouterr().out.splitlines()) == len(checks)


def test_a_failure_is_one_line_and_the_checks_after_it_still_run(capsys):
    doctor([], [Check("first", broken), Check("second", missing), Check("third", fine)])
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith("FAILED  first    OSError: it broke (")
    assert second.startswith("absent  second   not here (")
    assert third.startswith("ok      third    fine (")


def test_json_has_every_finding(capsys):
    assert doctor(["--json"], [Check("a", broken), Check("b", missing)]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert [finding["status"] for finding in report["checks"]] == ["FAILED", "absent"]


def test_an_unknown_option_is_exit_2():
    with pytest.raises(SystemExit) as stopped:
        doctor(["--jsno"])
    assert stopped.value.code == 2


def test_last_lines_leaves_out_the_frames_of_mpirun():
    assert last_lines("-----\nno slots\n\n-----\n") == "no slots"
    assert last_lines("") == "no output"


@pytest.mark.parallel
def test_a_failing_rank_is_reported_by_its_error():
    with pytest.raises(RuntimeError, match="KeyError: 'lost'"):
        run_ranks(2, "raise KeyError('lost')")


def test_a_line_that_was_cut_short_is_not_the_one_reported():
    assert error_line("Traceback\nKeyError: 'lost'\n  raise\nKeyError\n") == "KeyError: 'lost'"
    assert error_line("KeyError\nmpirun noticed\n") == "KeyError"
    assert error_line("mpirun: no slots\n") == "mpirun: no slots"


@pytest.mark.parallel
def test_a_hang_is_ended_with_all_its_ranks():
    marker = f"doctor-hang-{os.getpid()}"
    with pytest.raises(RuntimeError, match="no answer in 3 s from 2 ranks"):
        run_ranks(2, f"import time; '{marker}'; time.sleep(100)", timeout_s=3)
    left = [p for p in psutil.process_iter(["cmdline"]) if any(marker in word for word in p.info["cmdline"] or [])]
    psutil.wait_procs(left, timeout=5)
    assert not [process for process in left if process.is_running()]


@pytest.mark.parallel
@pytest.mark.parametrize("check", [check for check in CHECKS if check.required], ids=lambda check: check.name)
def test_every_required_line_is_ok_after_set_up(check: Check):
    assert check.run()
