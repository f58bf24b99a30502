"""Whoever waits for the local cloud asks again and again, at random."""

from types import SimpleNamespace

from localcloud import polling


def test_polls_are_random_waits_until_the_time_is_over(monkeypatch):
    now, waited = [0.0], []

    def sleep(seconds):
        waited.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(polling, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    assert len(list(polling.polls(10))) == len(waited) + 1
    assert sum(waited) >= 10
    assert len(set(waited)) > len(waited) / 2
