"""A report of a measured run with its own simulation beside it."""

from simulator.cli import main


def test_measured_and_simulated_stand_side_by_side(write_run, truth, tmp_path):
    run, profile, out = write_run(truth, "run"), tmp_path / "p.json", tmp_path / "page.html"
    assert main(["calibrate", str(run), "--profile", str(profile)]) == 0
    assert main(["report", str(run), "--profile", str(profile), "--out", str(out)]) == 0
    text = out.read_text()
    assert text.count("<svg") == 3
    for label in ("measured 0", "simulated 0", "measured 3", "simulated 3"):
        assert label in text
    assert "<th>measured</th><th>simulated</th>" in text
