"""Signals, sent by a process to itself."""

import multiprocessing
import signal
import subprocess
import sys
import time

import pytest

from hvs.training.interrupt import Interrupt, heed_parent

NUMBERS = [signal.SIGTERM, signal.SIGINT]
NAMES = [number.name for number in NUMBERS]


@pytest.fixture(params=NUMBERS, ids=NAMES)
def number(request):
    before = {number: signal.signal(number, signal.default_int_handler) for number in NUMBERS}
    yield request.param
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_first_signal_only_asks_and_a_second_one_does_what_it_did_before(number):
    with Interrupt() as interrupt:
        assert not interrupt.asked
        signal.raise_signal(number)
        assert interrupt.asked
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)


def test_behind_it_everything_is_as_before(number):
    with Interrupt() as interrupt:
        pass
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)
    assert not interrupt.asked


def test_ignored_signals_stay_ignored(number):
    signal.signal(number, signal.SIG_IGN)
    with Interrupt() as interrupt:
        signal.raise_signal(number)
    assert not interrupt.asked and signal.getsignal(number) is signal.SIG_IGN


def serve(ready):
    heed_parent()
    ready.set()
    time.sleep(60)


@pytest.fixture
def reader():
    """A process that heeds its parent only."""
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=serve, args=(ready,), daemon=True)
    process.start()
    assert ready.wait(60)
    yield process
    process.kill()


def test_processes_that_read_ahead_heed_only_their_parent(reader):
    for name in NAMES:
        # The shell is somebody else.
        subprocess.run(["sh", "-c", f"kill -{name.removeprefix('SIG')} {reader.pid}"], check=True)
    reader.join(0.3)
    assert reader.is_alive()
    reader.terminate()
    reader.join()
    assert reader.exitcode == 0


def test_a_second_sigterm_ends_the_process():
    code = "import signal; from hvs.training.interrupt import Interrupt\nwith Interrupt():\n"
    code += "    for _ in range(2): signal.raise_signal(signal.SIGTERM); print('once', flush=True)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGTERM and done.stdout == "once\n" and not done.stderr
