"""How classes fared when they were taught, and what they still need."""

from cfl_edge.loop.taught import Taught


def test_advice_follows_the_classes():
    taught = Taught()
    for number in range(50):
        taught.add("mug", "pen" if number % 5 == 0 else "mug")
        taught.add("pen", "pen")
    samples = {"mug": 50, "pen": 50, "key": 29}
    pen = "often taken for pen: show both from other sides"
    assert taught.advice(samples) == {"mug": pen, "key": "show more of it"}
    few = {"mug": "often taken for pen: show more of pen", "pen": "show more of it"}
    assert taught.advice({"mug": 50, "pen": 9}) == few
    taught.follow(["pen"], "biro")
    taught.follow(["mug"], "cup")
    assert taught.advice({"cup": 50, "biro": 50}) == {"cup": pen.replace("pen", "biro")}
    taught.follow(["cup", "biro"], "thing")
    assert taught.advice({"thing": 100}) == {}
    taught.follow(["thing"], None)
    for _ in range(101):
        taught.add("mug", "mug")
    assert taught.advice({"mug": 101}) == {}


def test_the_verdict_names_what_is_missing_then_what_is_confused():
    taught = Taught()
    assert taught.verdict({"mug": 100}) == ""
    for number in range(100):
        taught.add("mug", "pen" if number % 20 == 0 else "mug")
        taught.add("pen", "mug" if number % 50 == 0 else "pen")
        taught.add("key", None if number == 0 else "gone")  # of a class that is no more
    samples = {"mug": 100, "pen": 100, "key": 29, "named, never shown": 0}
    assert taught.verdict({"mug": 100, "named, never shown": 0}) == ""
    assert taught.verdict(samples) == "Not yet: key has 29 of 30 samples."
    confused = "Most confused: mug and pen, 7 of their last 200 frames."
    assert taught.verdict(samples | {"key": 100}) == confused
    for _ in range(100):
        for name in ("mug", "pen", "key"):
            taught.add(name, name)
    assert taught.verdict(samples | {"key": 200}).startswith("Enough")
