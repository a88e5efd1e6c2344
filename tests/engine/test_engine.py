"""Turns, limits, cancellation and failures, with work that is not an attack."""

import gc
import logging
import threading
import time
import weakref
from dataclasses import replace
from functools import partial

import pytest
import torch

from explorer.core import Cancelled, ExplorerError, InvalidValue, UnknownName, current_rng, use_generator
from explorer.engine import Busy, Engine, Failed, model_cache, scheduler
from explorer.models import zoo

SOON = 10  # seconds; nothing here takes one


def count(n):
    return lambda: iter(range(n))


def forever(closed=None, pause=0.005):
    """Work without end that tells when its `finally` block has run."""

    def work():
        try:
            while True:
                time.sleep(pause)
                yield 0
        finally:
            if closed is not None:
                closed.set()

    return work


@pytest.fixture
def gate(engine):
    """The worker waits inside one job until the gate is opened: what is submitted meanwhile stands in line."""
    opened, entered = threading.Event(), threading.Event()

    def work():
        entered.set()
        opened.wait(SOON)
        yield 0

    engine.submit("gate", work)
    assert entered.wait(SOON)
    yield opened
    opened.set()


def test_items_come_and_the_newest_stays(engine):
    future = engine.submit("a", count(5))
    assert future.wait(SOON)
    assert (future.state, future.latest, future.count, future.error) == ("done", 4, 5, None)
    assert list(engine.submit("a", count(1)).events()) == [0]


def test_none_is_no_news(engine):
    future = engine.submit("a", lambda: iter([None, 1, None]))
    assert future.wait(SOON) and (future.latest, future.count) == (1, 1)


def test_events_end_with_the_last_item_however_slow_the_reader(engine):
    seen = []
    for item in engine.submit("a", count(300)).events():
        seen.append(item)
        time.sleep(0.001)
    assert seen[-1] == 299 and seen == sorted(set(seen))


def logged(log, name, n, pause=0.001):
    """Work of n items that writes its name before each."""

    def work():
        for i in range(n):
            log.append(name)
            time.sleep(pause)
            yield i

    return work


def test_sessions_take_turns_and_each_keeps_its_own_order(engine, gate, monkeypatch):
    monkeypatch.setattr(scheduler, "TIME_SLICE_S", 0.0005)  # every item is longer
    log = []
    work = partial(logged, log)
    flood = [engine.submit("flood", work(f"flood{k}", 30)) for k in range(3)]
    others = [engine.submit(name, work(name, 5)) for name in ("a", "b")]
    assert [t.position for t in flood] == [0, 1, 2] and all(t.state == "queued" for t in flood)
    assert engine.sessions == 4
    gate.set()
    for future in (*flood, *others):
        assert future.wait(SOON)
    assert log[:15] == ["flood0", "a", "b"] * 5
    assert log[15:] == ["flood0"] * 25 + ["flood1"] * 30 + ["flood2"] * 30
    assert engine.sessions == 0


def test_a_short_job_is_done_in_one_turn_and_the_first_need_not_wait_for_the_last(engine, gate):
    log, names = [], [f"student {k}" for k in range(6)]
    futures = [engine.submit(name, logged(log, name, 10)) for name in names]
    gate.set()
    for future in futures:
        assert future.wait(SOON)
    assert log == [name for name in names for _ in range(10)]


def test_whose_job_has_ended_waits_for_the_others_with_the_next(engine, gate):
    log = []
    futures = [engine.submit("flood", logged(log, f"flood{k}", 3)) for k in range(3)]
    futures.append(engine.submit("student", logged(log, "student", 3)))
    gate.set()
    for future in futures:
        assert future.wait(SOON)
    assert log == ["flood0"] * 3 + ["student"] * 3 + ["flood1"] * 3 + ["flood2"] * 3


def test_an_item_that_is_waited_for(engine):
    futures = [engine.submit("me", lambda: (time.sleep(0.01) or i for i in range(50))), engine.submit("you", forever())]
    assert futures[0].wait_for(lambda item: item >= 20, SOON) and futures[0].latest >= 20
    assert not futures[1].wait_for(lambda item: item > 0, 0.05)
    futures[1].cancel()
    assert futures[1].wait_for(lambda item: item > 0, SOON) and futures[1].finished


def test_a_flooder_does_not_make_the_others_wait(make_engine):
    def latency(engine):
        began = time.monotonic()
        assert engine.submit("student", lambda: (time.sleep(0.005) for _ in range(20))).wait(SOON)
        return time.monotonic() - began

    engine = make_engine()
    alone = latency(engine)
    flood = [engine.submit("flood", forever()) for _ in range(3)]
    crowded = latency(engine)
    for future in flood:
        future.cancel()
    assert crowded < 4 * alone + 0.5  # two share: twice, and room for a busy machine


def test_a_session_has_one_running_and_two_waiting_and_no_more(engine, gate):
    futures = [engine.submit("a", count(1)) for _ in range(3)]
    with pytest.raises(Busy, match="3 runs under way or waiting already"):
        engine.submit("a", count(1))
    engine.submit("b", count(1))
    futures[1].cancel()
    assert engine.submit("a", count(1)).position == 3
    gate.set()
    assert all(t.wait(SOON) for t in futures)
    assert [t.state for t in futures] == ["done", "cancelled", "done"]
    assert engine.submit("a", count(1)).wait(SOON)


def test_the_whole_queue_is_bounded(engine, gate):
    for k in range(scheduler.QUEUE_LIMIT - 1):
        engine.submit(f"s{k}", count(1))
    with pytest.raises(Busy, match=f"{scheduler.QUEUE_LIMIT} runs are waiting"):
        engine.submit("late", count(1))


def test_cancel_stops_within_a_second_and_closes_the_work(engine):
    closed = threading.Event()
    future = engine.submit("a", forever(closed))
    next(future.events())
    began = time.monotonic()
    future.cancel()
    assert future.wait(SOON) and time.monotonic() - began < 1
    assert future.state == "cancelled" and closed.is_set() and future.error is None
    with pytest.raises(Cancelled):
        list(future.events())


def test_a_waiting_job_can_be_cancelled_before_its_turn(engine):
    first, second = (engine.submit("a", forever()) for _ in range(2))
    second.cancel()
    assert second.wait(SOON) and second.state == "cancelled" and second.count == 0
    assert first.state == "running"


def test_nobody_there_any_more_stops_within_a_second_even_in_line(engine):
    here, closed = threading.Event(), threading.Event()
    here.set()
    futures = [engine.submit("a", forever(closed), alive=here.is_set) for _ in range(2)]
    next(futures[0].events())
    here.clear()
    began = time.monotonic()
    assert all(t.wait(SOON) for t in futures) and time.monotonic() - began < 1
    assert closed.is_set() and {t.state for t in futures} == {"cancelled"}


def test_a_question_that_fails_counts_as_nobody_there(engine, caplog):
    def alive():
        raise RuntimeError("no runtime")

    future = engine.submit("a", forever(), alive=alive)
    assert future.wait(SOON) and future.state == "cancelled" and "no runtime" in caplog.text


def failing(error):
    def work():
        yield 1
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (UnknownName("model", "x", ["y"]), UnknownName, "Unknown model 'x'. Known: y."),
        (FloatingPointError("the logits are not finite"), Failed, "the logits are not finite"),
        (torch.OutOfMemoryError("CUDA out of memory"), Failed, "choose fewer draws, or a smaller model"),
        (MemoryError(), Failed, "choose fewer draws, or a smaller model"),
        (KeyError("secret"), Failed, r"unexpected went wrong \(KeyError\)"),
        (SystemExit(3), Failed, r"unexpected went wrong \(SystemExit\)"),
    ],
)
def test_a_failure_is_one_sentence_and_harms_no_other(engine, caplog, error, kind, says):
    other = engine.submit("b", forever())
    future = engine.submit("a", failing(error))
    with caplog.at_level(logging.WARNING), pytest.raises(kind, match=says):
        list(future.events())
    assert future.state == "failed" and future.latest == 1 and "\n" not in future.error
    assert ("Traceback" in caplog.text) == ("unexpected" in future.error)
    assert not other.finished and engine.submit("a", count(2)).wait(SOON)


def test_real_exhaustion_of_memory_is_told_and_survived(engine):
    future = engine.submit("a", lambda: iter([torch.empty(2**50)]))
    assert future.wait(SOON) and "ran out of memory" in future.error
    assert engine.submit("a", count(2)).wait(SOON)


def test_work_that_fails_at_once_or_while_being_closed(engine, caplog):
    def stubborn():
        try:
            while True:
                yield 0
        finally:
            raise ValueError("no way")

    broken = engine.submit("a", lambda: 1 / 0)
    assert broken.wait(SOON) and "ZeroDivisionError" in broken.error
    future = engine.submit("a", stubborn)
    next(future.events())
    future.cancel()
    assert future.wait(SOON) and future.state == "cancelled" and "no way" in caplog.text


def test_work_that_says_it_was_cancelled(engine):
    future = engine.submit("a", failing(Cancelled("stopped")))
    assert future.wait(SOON) and future.state == "cancelled"


def test_a_deadline_counts_computing_only(make_engine):
    engine = make_engine(deadline=0.1)
    slow, quick = engine.submit("a", forever(pause=0.02)), engine.submit("b", count(40))
    assert slow.wait(SOON) and slow.state == "failed" and "after 0.1 s of computing" in slow.error
    assert quick.wait(SOON) and quick.state == "done"


def test_blocks_left_open_at_a_yield_leak_into_nobody(engine):
    def leaking():
        with torch.no_grad(), use_generator(torch.Generator()):
            yield 0
            yield 1

    def asking():
        for _ in range(3):
            yield torch.is_grad_enabled(), current_rng(torch.device("cpu"))

    leak, ask = engine.submit("a", leaking), engine.submit("b", asking)
    assert set(ask.events()) == {(True, None)}
    assert leak.wait(SOON) and leak.state == "done"


@pytest.mark.parametrize("error", [None, KeyError, ExplorerError, MemoryError])
def test_a_finished_future_holds_nothing_of_its_work(engine, error):
    class Weights:
        pass

    def work():
        weights = Weights()
        born.append(weakref.ref(weights))
        yield 1
        if error is not None:
            raise error("no")

    born = []
    future = engine.submit("a", work)
    assert future.wait(SOON)
    gc.collect()
    assert born[0]() is None and future.latest == 1


def test_close_cancels_everything_and_ends_the_thread(make_engine):
    engine, closed = make_engine(), threading.Event()
    future = engine.submit("a", forever(closed))
    waiting = engine.submit("a", count(1))
    next(future.events())
    engine.close()
    assert future.state == waiting.state == "cancelled" and closed.is_set()
    with pytest.raises(Busy):
        engine.submit("a", count(1))


def test_the_worker_s_threads_are_set_on_purpose(make_engine):
    engine = Engine("cpu", threads=2)
    assert list(engine.submit("a", lambda: iter([torch.get_num_threads()])).events()) == [2]
    engine.close()
    assert torch.get_num_threads() == 1
    assert engine.description == "CPU, 2 threads"


# Models


def test_ten_first_requests_load_a_model_once(engine, monkeypatch):
    loads, load = [], zoo.load

    def slow(name, device):
        loads.append(name)
        time.sleep(0.05)
        return load(name, device)

    monkeypatch.setattr(zoo, "load", slow)
    found = []
    threads = [threading.Thread(target=lambda: found.append(engine.model("cifar10/tiny"))) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads == ["cifar10/tiny"] and len({id(m) for m in found}) == 1
    model = found[0]
    assert not model.training and not any(p.requires_grad for p in model.parameters())


def test_the_least_recently_used_model_goes(engine, monkeypatch):
    monkeypatch.setattr(model_cache, "MAX_MODELS", 2)
    a, b = engine.model("cifar10/tiny"), engine.model("cifar10/tiny-lwta")
    assert engine.model("cifar10/tiny") is a
    engine.model("fashion_mnist/tiny")
    assert engine.model("cifar10/tiny") is a and engine.model("cifar10/tiny-lwta") is not b


def test_retrained_weights_are_noticed(engine, tiny_zoo, tmp_path, monkeypatch):
    card = zoo.card("cifar10/tiny")
    about = replace(card, name="cifar10/changing")
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(tmp_path))
    with torch.random.fork_rng():
        zoo.write(tmp_path / "cifar10", about, zoo.empty(about))
        first = engine.model("cifar10/changing")
        zoo.write(tmp_path / "cifar10", about, zoo.empty(about))
    second = engine.model("cifar10/changing")
    assert first is not second and engine.model("cifar10/changing") is second


def test_unknown_models_and_uploads_that_are_gone(engine, monkeypatch):
    with pytest.raises(UnknownName, match="cifar10/tiny"):
        engine.model("cifar10/tinny")
    monkeypatch.setattr(model_cache, "MAX_UPLOADS", 2)
    for key in ("upload:aaaaaaaa", "upload:bbbbbbbb", "upload:cccccccc"):
        engine.keep_upload(key, torch.zeros(3, 32, 32))
    assert engine.upload("upload:cccccccc").shape == (3, 32, 32)
    with pytest.raises(InvalidValue, match="upload it again"):
        engine.upload("upload:aaaaaaaa")
