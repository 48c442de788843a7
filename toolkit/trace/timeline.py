"""`python -m toolkit timeline RUN --out FILE.json`: a run's trace for Perfetto: a track a worker, a device, a link."""

from __future__ import annotations

import argparse
from pathlib import Path

from toolkit.errors import UserError
from toolkit.trace.chrome import write_chrome
from toolkit.trace.span import read_run


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m toolkit timeline", description="Export a run's trace.")
    parser.add_argument("run", type=Path, help="run folder, real or simulated (run --trace FOLDER)")
    parser.add_argument("--out", type=Path, required=True, help="file for chrome://tracing and ui.perfetto.dev")
    args = parser.parse_args(argv)
    header, ranks = read_run(args.run)
    hosts = header.get("hosts", [])
    known = isinstance(hosts, list) and len(hosts) == len(ranks) and all(isinstance(host, str) for host in hosts)
    try:
        write_chrome(args.out, [span for spans in ranks for span in spans], hosts if known else ())
    except OSError as error:
        raise UserError(f"{args.out}: cannot be written: {error.strerror}") from None
    print(f"{args.out}: {sum(map(len, ranks))} spans of {len(ranks)} workers; open it at ui.perfetto.dev")
    return 0
