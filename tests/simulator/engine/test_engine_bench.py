"""The benchmark does what it says: figures are checked first, and every flow of its flow figure arrives."""

from simulator import bench


def test_engines_are_held_against_each_other_before_they_are_timed():
    bench.check()


def test_figures_have_a_positive_rate():
    figure = bench.flows(count=200, hosts=8)
    assert figure.seconds > 0
    assert figure.rate == 200 / figure.seconds
    assert bench.crowd(count=300, senders=20).rate > 0


def test_the_machine_is_named():
    assert set(bench.machine()) == {"cpu", "python"}
    assert all(bench.machine().values())
