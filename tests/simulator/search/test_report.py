"""`simulator report`: one page that loads nothing from elsewhere, of a run or of a sweep."""

import json
import re
from html.parser import HTMLParser

import pytest

from simulator.cli import main

FILE = """
[model]
name = "lenet"
[cluster]
workers = 3
[faults]
slow_worker = [{worker = 1, factor = 2.0}]
[run]
steps = 6
"""


class Page(HTMLParser):
    """Tags that stay open, and whatever a browser would fetch."""

    def __init__(self, text):
        super().__init__()
        self.open, self.fetched, self.svgs = [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.svgs += tag == "svg"
        if tag not in ("meta", "html", "br"):
            self.open.append(tag)
        self.fetched += [value for name, value in attrs if name in ("src", "href") and not value.startswith("#")]
        assert tag not in ("script", "link", "iframe")

    def handle_startendtag(self, tag, attrs):
        self.fetched += [value for name, value in attrs if name in ("src", "href") and not value.startswith("#")]

    def handle_endtag(self, tag):
        if tag != "html":
            assert self.open.pop() == tag


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "exp.toml"
    path.write_text(FILE)
    return path


@pytest.fixture
def folder(file):
    folder = file.with_name("run<1>")  # a name that must be escaped
    result = file.with_name("r.json")
    assert main(["run", str(file), "--trace", str(folder), "--json", str(result)]) == 0
    (folder / "result.json").write_text(result.read_text())
    (folder / "config.toml").write_text(FILE)
    return folder


def report(source, *more):
    out = source.with_name("page.html")
    assert main(["report", str(source), "--out", str(out), *map(str, more)]) == 0
    return out.read_text()


def test_a_run_on_one_page(folder):
    text = report(folder)
    page = Page(text)
    assert (page.open, page.fetched, page.svgs) == ([], [], 3)
    result = json.loads((folder / "result.json").read_text())
    assert f"{result['bytes_sent_per_worker']:,}" in text
    assert "slow_worker" in text
    assert "run&lt;1&gt;" in text
    assert "run<1>" not in text
    assert report(folder) == text


def test_a_folder_without_a_result_is_summed_up_from_its_trace(folder):
    total = json.loads((folder / "result.json").read_text())["total_time_s"]
    (folder / "result.json").unlink()
    from simulator.terminal import duration

    assert duration(total) in report(folder)


def test_a_sweep_on_one_page(file):
    out = file.with_name("sweep.csv")
    over = ["--over", "cluster.workers=2,4", "--over", "compression.name=none,topk"]
    assert main(["sweep", str(file), "--set", "faults.slow_worker=[]", *over, "--csv", str(out)]) == 0
    text = report(out)
    page = Page(text)
    assert (page.open, page.fetched, page.svgs) == ([], [], 1)
    assert len(re.findall("<tr>", text)) == 5
    assert "Fastest: cluster.workers = " in text


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "cluster.workers,iteration_time_s,fingerprint\n2,x,y\n"])
def test_what_is_no_sweep_is_refused(tmp_path, capsys, content):
    path = tmp_path / "x.csv"
    path.write_text(content)
    assert main(["report", str(path), "--out", str(tmp_path / "o.html")]) == 2
    assert "neither a run folder nor a CSV that 'simulator sweep' wrote" in capsys.readouterr().err
    assert not (tmp_path / "o.html").exists()


def test_what_is_not_there_is_refused(tmp_path, capsys):
    assert main(["report", str(tmp_path / "none.csv"), "--out", str(tmp_path / "o.html")]) == 2
    assert "cannot be read" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["report", str(tmp_path / "empty"), "--out", str(tmp_path / "o.html")]) == 2
    assert "no trace/rank*.jsonl" in capsys.readouterr().err
