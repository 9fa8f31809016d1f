"""How connections ended, on disk."""

from pathlib import Path

from trunkline.sessions.connection_log import ConnectionLog


def test_the_newest_come_first(tmp_path: Path) -> None:
    log = ConnectionLog(tmp_path, 4096)
    assert log.last(5) == []
    for n in range(4):
        log.append({"n": n, "reason": "a\nb"})
    assert [event["n"] for event in log.last(3)] == [3, 2, 1]
    assert ConnectionLog(tmp_path, 4096).last(1) == [{"n": 3, "reason": "a\nb"}]


def test_it_stays_within_its_bound_and_keeps_half_of_it_at_least(tmp_path: Path) -> None:
    log = ConnectionLog(tmp_path, 4096)
    for n in range(1000):
        log.append({"n": n})
        size = sum(path.stat().st_size for path in tmp_path.iterdir())
        assert size <= 4096 + 20
    kept = [event["n"] for event in log.last(1000)]
    assert kept == list(range(999, 999 - len(kept), -1))
    assert len(kept) * 10 > 2048


def test_what_is_not_whole_is_passed_over(tmp_path: Path) -> None:
    log = ConnectionLog(tmp_path, 4096)
    log.append({"n": 1})
    with (tmp_path / "connections.jsonl").open("ab") as file:
        file.write(b'{"n": \xff\n[2]\n{"n": 3')
        file.write(b"\n")
    log.append({"n": 4})
    assert log.last(9) == [{"n": 4}, {"n": 1}]


def test_for_a_session_that_is_gone_nothing_is_kept(tmp_path: Path) -> None:
    ConnectionLog(tmp_path / "gone", 4096).append({"n": 1})
    assert not (tmp_path / "gone").exists()


def test_a_disk_that_fails_is_told_and_nothing_more(tmp_path: Path, caplog) -> None:
    (tmp_path / "connections.jsonl").mkdir()
    ConnectionLog(tmp_path, 4096).append({"n": 1})
    assert "can't be kept" in caplog.text
