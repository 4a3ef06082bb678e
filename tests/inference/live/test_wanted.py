import threading

from hvs.inference.live.wanted import Wanted


def test_whoever_asks_often_is_drawn_once_and_nobody_is_forgotten():
    wanted = Wanted()
    for page in ("a", "a", "b", "a", "c"):
        wanted.put(page)
    assert [wanted.take() for _ in range(3)] == ["a", "b", "c"]


def test_who_asks_while_being_drawn_waits_behind_the_others():
    wanted = Wanted()
    wanted.put("a")
    wanted.put("b")
    assert wanted.take() == "a"
    wanted.put("a")
    assert [wanted.take(), wanted.take()] == ["b", "a"]


def test_who_left_is_not_drawn():
    wanted = Wanted()
    wanted.put("a")
    wanted.put("b")
    wanted.drop("a")
    wanted.drop("nobody")
    assert wanted.take() == "b"


def test_taking_waits_for_somebody_to_ask():
    wanted = Wanted()
    taken = []
    thread = threading.Thread(target=lambda: taken.append(wanted.take()))
    thread.start()
    wanted.put("a")
    thread.join(60)
    assert taken == ["a"]
