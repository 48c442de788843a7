"""Run under mpirun: train a few steps with each of the settings in a JSON file, each into a folder of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from toolkit.comm import Communicator, abort_job
from toolkit.experiment import load
from toolkit.train import train

SMALL = Path(__file__).with_name("small.toml")


def main() -> None:
    comm = Communicator()
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    for name, overrides in json.loads((folder / "cases.json").read_text()).items():
        settings = [f"cluster.workers={comm.size}", "run.steps=3", *overrides]
        train(load(SMALL, settings), folder / name, comm)
    comm.close()


if __name__ == "__main__":
    try:
        main()
    except BaseException:
        import traceback

        traceback.print_exc()
        abort_job()
        raise
