"""The time of a run's own processes, however deep, is not taken for that of others."""

import subprocess
import sys
import time

from toolkit.testbed import bystanders
from toolkit.testbed.bystanders import Bystanders

BURN = "import time\nend = time.process_time() + 0.4\nwhile time.process_time() < end: pass"


def test_own_children_and_theirs_are_no_bystanders():
    everybody, own = bystanders._seconds()
    subprocess.run(["sh", "-c", f"{sys.executable} -c '{BURN}'; true"], check=True)
    after_all, after_own = bystanders._seconds()
    assert after_own - own >= 0.4
    assert after_all - everybody >= after_own - own - 0.1  # the kernel counts in ticks of 10 ms


def test_a_bystander_is_seen():
    before = Bystanders()
    stranger = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    time.sleep(1.0)
    share = before.share()  # it has not ended, so its time is not among that of ended children
    stranger.kill()
    stranger.wait()
    assert 0.02 < share <= 1.0
