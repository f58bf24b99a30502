"""What a claim names, carries out, removes and spares: all of it follows from the committed manifest."""

import json
from datetime import timedelta

import pytest
from msgspec import structs

from chalicelib.fields import format_time
from chalicelib.landing import landing_objects
from chalicelib.ledger import NO_MANIFEST, NO_RUN, manifest_key, report_key, run_folder, run_of, state_key
from tests.archives import run_id
from tests.contracts import LEDGER_TABLE
from tests.factories import DAY, HOUR, MINUTE, NOW, landed, to_ms
from tests.runs import counts, land, new_player

WEEK = timedelta(days=7)


@pytest.fixture
def player():
    return new_player()


def claim(player, name="execution", now=NOW):
    """Play the claim; return the answer and what it has written."""
    execution = player.start(name, now).advance_to("AnythingToDo")
    return execution.claim, json.loads(player.store.s3.objects.get(execution.claim["claim_key"], b"null"))


def commit(player, number, **fields):
    """Make run `number` the head as if that many had committed, with the run before it."""
    for one in (number - 1, number):
        names = {"run_id": run_id(one), "previous_run_id": run_id(one - 1) if one > 1 else NO_RUN}
        about = {"locations_summary_key": f"{run_folder(run_id(one))}/summaries/try/locations.json"}
        manifest = structs.replace(NO_MANIFEST, **names, **about, **(fields if one == number else {}))
        player.store.put(manifest.locations_summary_key, b'{"locations":[]}')
        player.ledger.write_manifest(run_folder(run_id(one)), manifest)
    player.dynamodb.tables[LEDGER_TABLE]["head"] = {"id": {"S": "head"}, "run_id": {"S": run_id(number)}}


def leave(player, number, *names):
    """Leave behind what another attempt of this number has written."""
    keys = [f"runs/{number:012}-{'f' * 16}/{name}" for name in names or ("claim.json",)]
    for key in keys:
        player.store.put(key, b"")
    return keys


def there(player, keys):
    return [key for key in keys if key in player.store.s3.objects]


# Names


@pytest.mark.parametrize("head", [None, 12, 999_999_999])
def test_an_attempt_has_the_number_behind_the_heads_and_a_name_by_chance(player, head):
    if head:
        commit(player, head)
    land(player, landed())
    answers = [claim(player, f"execution-{number}")[0] for number in range(3)]
    numbers, names = zip(*(answer["run_id"].split("-") for answer in answers), strict=True)
    assert set(numbers) == {f"{(head or 0) + 1:012}"}
    assert len(set(names)) == 3
    assert all(len(name) == 16 and int(name, 16) for name in names)
    assert {answer["previous_run_id"] for answer in answers} == {run_id(head) if head else NO_RUN}


def test_two_claims_of_one_execution_are_two_attempts_of_which_one_commits(player):
    land(player, landed())
    one, other = (player.start("execution", NOW).advance_to("Receive") for _ in range(2))
    assert one.claim["run_id"] != other.claim["run_id"]
    assert len(there(player, [one.claim["claim_key"], other.claim["claim_key"]])) == 2
    assert [one.finish().passed[-1], other.finish().passed[-1]] == ["Reported", "Overtaken"]
    assert player.committed().run_id == one.claim["run_id"]
    assert counts(player) == {"a": 1}


def test_a_claim_tells_what_its_run_contains(player):
    keys = [land(player, landed(str(number)), number=number) for number in range(2)]
    answer, written = claim(player)
    assert (written["folder"], written["execution"]) == (f"runs/{answer['run_id']}", "execution")
    assert (written["landing"], written["archived"], written["previous_run_id"]) == (keys, [], NO_RUN)
    assert written["scope"] == answer["scope"] == {"window_minutes": 5, "history_hours": 2}


# Landing objects


def test_a_claim_takes_nothing_that_the_committed_run_has_counted_and_removes_it(player):
    old = land(player, landed())
    player.run("run-1", NOW)
    new = land(player, landed("2"), number=1)
    assert claim(player)[1]["landing"] == [new]
    assert player.store.list_keys("landing/") == [new]
    assert old in player.store.s3.history


def test_current_objects_come_before_late_ones_each_by_what_they_measured(player):
    ages = {"first": 8 * HOUR, "second": HOUR, "older late": 3 * DAY, "late": DAY}
    keys = {}
    for name in ("late", "second", "older late", "first"):
        queued_at = NOW - ages[name] + (DAY if "late" in name else MINUTE)
        one = landed(name.replace(" ", "-"), timestamp=NOW - ages[name], queued_at_ms=to_ms(queued_at))
        ((keys[name], content),) = landing_objects([one], NOW).items()
        player.store.put(keys[name], content)
    assert ["_late_" in keys[name] for name in ages] == [False, False, True, True]
    assert claim(player)[1]["landing"] == [keys[name] for name in ages]


def test_a_backlog_goes_into_several_runs_and_none_of_it_is_lost(player, monkeypatch):
    monkeypatch.setattr("chalicelib.analytics.claimer._OBJECTS_PER_RUN", 2)
    keys = [land(player, landed(str(number), timestamp=NOW + number * MINUTE), number=number) for number in range(5)]
    taken = []
    for number in range(3):
        player.run(f"run-{number}", NOW)
        taken.append(player.committed().landing)
    assert taken == [keys[:2], keys[2:4], keys[4:]]
    assert counts(player) == {"a": 5}


def test_every_object_that_a_run_claims_is_in_the_log(player, monkeypatch, caplog):
    monkeypatch.setattr("chalicelib.analytics.claimer._KEYS_PER_LOG_LINE", 2)
    keys = [land(player, landed(str(number), timestamp=NOW + number * MINUTE), number=number) for number in range(5)]
    with caplog.at_level("INFO", logger="chalicelib.analytics.claimer"):
        claim(player)
    logged = [record.landing_keys for record in caplog.records if record.message == "claimed"]
    assert logged == [keys[:2], keys[2:4], keys[4:]]


# What is left behind


def test_what_attempts_up_to_the_heads_number_left_goes_unless_one_of_the_last_two_manifests_names_it(player):
    folder, earlier = run_folder(run_id(12)), run_folder(run_id(3))
    reports = {"a": report_key(folder, "a", "try"), "b": report_key(earlier, "b", "try")}
    named = [*reports.values(), *map(state_key, reports.values())]
    for key in named:
        player.store.put(key, b"")
    commit(player, 12, reports=reports, swept_at=format_time(NOW))
    gone = [*leave(player, 12), *leave(player, 11, "claim.json", "plans/x.json")]
    for key in (f"{folder}/plans/try.json", report_key(folder, "a", "other try"), f"{earlier}/claim.json"):
        player.store.put(key, b"")
        gone.append(key)
    spared = [*leave(player, 13), *leave(player, 14), *named, manifest_key(run_folder(run_id(11))),
              f"{run_folder(run_id(11))}/summaries/try/locations.json", manifest_key(folder)]  # fmt: skip
    answer, _ = claim(player)
    assert (there(player, gone), there(player, spared)) == ([], spared)
    assert {run_of(key) for key in player.store.list_keys("runs/")} >= {run_id(11), run_id(12)}
    assert not answer["has_work"]


def test_what_the_predecessor_names_is_spared_for_who_is_still_reading_it(player):
    for number in range(4):
        land(player, landed(str(number)), number=number)
        player.run(f"run-{number}", NOW)
        if number == 1:
            (old,) = player.committed().reports.values()
        if number == 2:
            claim(player)
            assert there(player, [old, state_key(old)]) == [old, state_key(old)]
    claim(player)
    assert there(player, [old, state_key(old)]) == []
    assert counts(player) == {"a": 4}


def test_a_claim_looks_ten_numbers_back(player):
    commit(player, 25, swept_at=format_time(NOW))
    older, younger = leave(player, 14), leave(player, 15)
    land(player, landed())
    claim(player, now=NOW + WEEK - MINUTE)
    assert (there(player, older), there(player, younger)) == (older, [])


def test_once_a_week_a_claim_looks_at_all_runs_and_the_commit_remembers_it(player):
    commit(player, 25, swept_at=format_time(NOW))
    older = leave(player, 3)
    land(player, landed())
    assert player.run("sweep", NOW + WEEK).status == "SUCCEEDED"
    assert there(player, older) == []
    assert player.committed().swept_at == format_time(NOW + WEEK)
    older = leave(player, 3)
    land(player, landed("2"), number=1)
    assert player.run("no-sweep", NOW + WEEK + DAY).status == "SUCCEEDED"
    assert there(player, older) == older
    assert player.committed().swept_at == format_time(NOW + WEEK)


def test_a_claim_without_input_does_not_look_at_all_runs_time_and_again(player):
    commit(player, 25, swept_at=format_time(NOW))
    older = leave(player, 3)
    claim(player, now=NOW + 2 * WEEK)
    assert there(player, older) == older


def test_before_the_first_commit_nothing_is_removed(player):
    left = [*leave(player, 0), *leave(player, 1), land(player, landed())]
    claim(player)
    assert there(player, left) == left


def test_claims_after_the_commit_leave_nothing_of_overtaken_attempts(player):
    land(player, landed())
    attempts = [player.start(f"run-{number}", NOW).advance_to("Commit") for number in range(3)]
    for attempt in attempts:
        attempt.finish()
    answer, _ = claim(player)
    of_runs = {run_of(key) for key in player.store.list_keys("runs/")}
    assert of_runs == {attempts[0].claim["run_id"], answer["run_id"]}


# Entries


def with_an_entry_of_two_parts(player):
    """Commit runs until one has decided such an entry; return it."""
    interval = player.settings.archive.interval_minutes * MINUTE
    for number, now in enumerate((NOW, NOW, NOW + interval)):
        land(player, landed(str(number), timestamp=NOW + number * MINUTE), number=number)
        player.run(f"run-{number}", now)
    (entry,) = player.committed().entries
    assert len(entry.parts) == 2
    return entry, now


def test_an_entry_that_cannot_be_written_stands_unchanged_in_the_next_manifest_and_the_run_goes_on(player, caplog):
    entry, now = with_an_entry_of_two_parts(player)
    damaged = entry.parts[0].key
    whole = player.store.get(damaged)
    player.store.put(damaged, b"no parquet")
    land(player, landed("9", timestamp=NOW + 9 * HOUR), number=9)
    assert player.run("beside-it", now).passed[-1] == "Reported"
    manifest = player.committed()
    assert entry in manifest.entries
    assert entry.key not in player.store.s3.objects
    assert f"not archived yet: {entry.key}" in caplog.text
    assert manifest.archived_through == 1, "which later runs rely on"
    player.store.put(damaged, whole)
    player.run("repaired", now)
    assert (entry in player.committed().entries, entry.key in player.store.s3.objects) == (False, True)


def test_one_entry_that_cannot_be_written_keeps_no_other_from_the_archive(player):
    entry, now = with_an_entry_of_two_parts(player)
    player.store.put(entry.parts[0].key, b"no parquet")
    later = now + player.settings.archive.interval_minutes * MINUTE
    land(player, landed("9", timestamp=NOW + 9 * HOUR), number=9)
    player.run("another", later)
    (other,) = [one for one in player.committed().entries if one != entry]
    _, written = claim(player, now=later)
    assert written["archived"] == [other.key]
    assert there(player, [entry.key, other.key]) == [other.key]


def test_the_answer_tells_for_how_many_minutes_the_oldest_entry_has_been_waiting(player):
    assert claim(player)[0]["archive_behind_minutes"] == 0
    entry, now = with_an_entry_of_two_parts(player)
    whole = player.store.get(entry.parts[0].key)
    player.store.put(entry.parts[0].key, b"no parquet")
    assert [claim(player, now=now + waited)[0]["archive_behind_minutes"] for waited in (0 * HOUR, 2 * HOUR)] == [0, 120]
    player.store.put(entry.parts[0].key, whole)
    assert claim(player, now=now + 2 * HOUR)[0]["archive_behind_minutes"] == 0


def test_a_file_that_a_claim_of_before_has_written_is_the_archives(player):
    entry, now = with_an_entry_of_two_parts(player)
    claim(player, now=now)
    first = player.store.get(entry.key)
    for part in entry.parts:
        assert part.key in player.store.s3.objects
    player.store.s3.before = lambda operation, key: None
    _, written = claim(player, now=now)
    assert (written["archived"], player.store.get(entry.key)) == ([entry.key], first)
