"""Forks, threads, signals and pickles: Spark forks its workers, notebooks are interrupted.

Each test runs in a fresh process of its own, as what is tested is what a process has started.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

SUPPORT = Path(__file__).with_name("support")
# Far beyond what any of these needs on a busy machine: a hang is what it finds.
TIMEOUT = 300

PRELUDE = f"""
import os, pickle, signal, sys, threading, time
sys.path.insert(0, {str(SUPPORT)!r})
import numpy as np
"""

# What the tests of a running process share.
SHARED = f"""
import pomona
from specimens import picture, saved

MODEL = {str(SUPPORT.parent / "data" / "tiny.onnx")!r}
PHOTOS = [saved(picture("RGB", 40 + at, 30, at), "JPEG") for at in range(8)]
# Large enough that a call on them lasts for seconds.
LARGE = [saved(picture("RGB", 1500, 1500), "PNG", compress_level=1)] * 100

def threads():
    return len(os.listdir("/proc/self/task"))

def settles(condition):
    # The kernel lists a thread for a moment after it could be joined.
    end = time.monotonic() + 60
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
    return condition()

def wait_for_work(seconds):
    # Until other threads have computed for so long: the clock goes on while they wait their turn.
    def done():
        return time.process_time() - time.thread_time()

    start = done()
    while done() - start < seconds:
        time.sleep(0.001)

def in_child(work, in_parent=lambda: None):
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    in_parent()
    _, status = os.waitpid(child, 0)
    return status
"""


def run(code: str, *, shared: str = SHARED) -> str:
    """Run code in a process of its own; what it prints, and nothing on stderr."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PRELUDE + shared + dedent(code)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


class TestNothingIsStartedEarly:
    def test_importing_and_making_a_featurizer_start_no_thread_and_load_no_runtime(self) -> None:
        run(
            """
            def started():
                maps = open("/proc/self/maps").read()
                return threads() > before, "libonnxruntime" in maps

            before = threads()
            featurizer = pomona.Featurizer(MODEL, threads=4)
            assert started() == (False, False)
            assert featurizer.dim == 16
            pickle.loads(pickle.dumps(featurizer))
            assert started() == (False, False)
            pomona.load_image(PHOTOS[0], size=(8, 8))
            assert started() == (False, False)
            featurizer.featurize([None, b""], on_error="nan")
            assert started() == (False, False)
            featurizer.featurize(PHOTOS)
            assert settles(lambda: started() == (False, True))
            """
        )

    def test_importing_alone_starts_nothing(self) -> None:
        run(
            """
            before = len(os.listdir("/proc/self/task"))
            import pomona
            assert len(os.listdir("/proc/self/task")) == before
            assert "libonnxruntime" not in open("/proc/self/maps").read()
            assert not {"pyspark", "pandas", "pyarrow", "onnx", "h5py"} & set(sys.modules)
            """,
            shared="",
        )


class TestThreads:
    @pytest.mark.parametrize("threads", [1, 2, 4])
    def test_a_call_has_its_threads_and_leaves_none(self, threads: int) -> None:
        run(
            f"""
            before = threads()
            featurizer = pomona.Featurizer(MODEL, threads={threads})
            most = 0
            done = threading.Event()

            def watch():
                global most
                while not done.is_set():
                    most = max(most, threads())
                    time.sleep(0.0005)

            watcher = threading.Thread(target=watch)
            watcher.start()
            # Calls go on until the watcher has seen what it waits for.
            for _ in range(200):
                featurizer.featurize(LARGE[:8])
                if most - before - 1 == {threads} - 1:
                    break
                # What is left of this call would count with the next one's.
                settles(lambda: threads() == before + 1)
            done.set()
            watcher.join()
            assert most - before - 1 == {threads} - 1, most
            assert settles(lambda: threads() == before), threads()
            """
        )

    def test_threads_that_can_not_be_started_are_an_error_and_later_calls_work(self) -> None:
        run(
            """
            import ctypes
            import resource

            # glibc reserves 64 MiB for the allocations of a new thread, and aborts a thread that
            # finds no room for its first variable. With one arena, the stacks alone fill memory.
            M_ARENA_MAX = -8
            assert ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)
            featurizer = pomona.Featurizer(MODEL, threads=2)
            expected = featurizer.featurize(PHOTOS)
            many = pomona.Featurizer(MODEL, threads=1000, batch_size=1)
            batch = PHOTOS[:1] * 1000
            _, hard = resource.getrlimit(resource.RLIMIT_AS)
            used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            for _ in range(3):
                # Enough for some of the stacks.
                resource.setrlimit(resource.RLIMIT_AS, (used + (200 << 20), hard))
                try:
                    many.featurize(batch)
                except OSError as error:
                    assert "can't start the threads that featurize: " in str(error), error
                else:
                    raise AssertionError("started")
                resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
                assert (featurizer.featurize(PHOTOS) == expected).all()
            """
        )

    def test_calls_from_several_threads_give_each_its_own_rows(self) -> None:
        run(
            """
            from concurrent.futures import ThreadPoolExecutor

            featurizer = pomona.Featurizer(MODEL, threads=2, batch_size=3)
            expected = featurizer.featurize(PHOTOS)

            def one(number):
                order = np.random.RandomState(number).permutation(len(PHOTOS))
                rows = featurizer.featurize([PHOTOS[at] for at in order])
                return (rows == expected[order]).all()

            with ThreadPoolExecutor(8) as pool:
                assert all(pool.map(one, range(400)))
            """
        )

    def test_other_python_threads_run_during_a_call(self) -> None:
        run(
            """
            featurizer = pomona.Featurizer(MODEL)
            state = {"in call": False, "steps": 0}

            def step():
                while True:
                    if state["in call"]:
                        state["steps"] += 1
                    time.sleep(0.0001)

            threading.Thread(target=step, daemon=True).start()
            # Without the GIL, any call that long lets the other thread come by many times.
            sys.setswitchinterval(1e-5)
            for _ in range(20):
                state["in call"] = True
                featurizer.featurize(LARGE[:20])
                state["in call"] = False
                if state["steps"] > 20:
                    break
            assert state["steps"] > 20, state
            """
        )

    def test_memory_stays_level_over_thousands_of_images(self) -> None:
        run(
            """
            def resident():
                return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20

            featurizer = pomona.Featurizer(MODEL, threads=2)
            batch = PHOTOS * 12 + [None, b"text", PHOTOS[0][:100], LARGE[0][:5000]]
            for _ in range(10):
                featurizer.try_featurize(batch)
            before = resident()
            for _ in range(60):
                featurizer.try_featurize(batch)
            assert resident() - before < 8, resident() - before
            """
        )


class TestForks:
    def test_before_the_first_batch_both_sides_work(self) -> None:
        run(
            """
            featurizer = pomona.Featurizer(MODEL, threads=2)

            def child():
                assert np.isfinite(featurizer.featurize(PHOTOS)).all()
                assert np.isfinite(featurizer.featurize(PHOTOS)).all()

            for _ in range(3):
                assert in_child(child) == 0
            assert np.isfinite(featurizer.featurize(PHOTOS)).all()
            """
        )

    def test_after_the_first_batch_both_sides_work(self) -> None:
        run(
            """
            featurizer = pomona.Featurizer(MODEL, threads=2)
            expected = featurizer.featurize(PHOTOS)

            def child():
                for _ in range(3):
                    assert (featurizer.featurize(PHOTOS) == expected).all()
                new = pomona.Featurizer(MODEL, threads=3)
                assert (new.featurize(PHOTOS) == expected).all()

            for _ in range(3):
                assert in_child(child) == 0
                assert (featurizer.featurize(PHOTOS) == expected).all()
            """
        )

    def test_a_grandchild_works_as_well(self) -> None:
        run(
            """
            featurizer = pomona.Featurizer(MODEL)
            expected = featurizer.featurize(PHOTOS)

            def grandchild():
                assert (featurizer.featurize(PHOTOS) == expected).all()

            def child():
                grandchild()
                assert in_child(grandchild) == 0
                grandchild()

            assert in_child(child) == 0
            """
        )

    @pytest.mark.parametrize("threads", [1, 3])
    def test_during_a_call_the_child_is_told_and_a_new_featurizer_works_there(
        self, threads: int
    ) -> None:
        run(
            f"""
            busy = pomona.Featurizer(MODEL, threads={threads})
            expected = busy.featurize(PHOTOS)
            results = []
            # Decoding starts when the last photo has been handed over.
            handed_over = threading.Event()

            def photos():
                yield from LARGE
                handed_over.set()

            caller = threading.Thread(target=lambda: results.append(busy.featurize(photos())))
            caller.start()
            handed_over.wait()
            wait_for_work(0.05)

            def child():
                try:
                    busy.featurize(PHOTOS)
                except RuntimeError as error:
                    assert "forked while another thread was featurizing" in str(error), error
                    assert "make a new one in the child process" in str(error), error
                else:
                    raise AssertionError("the child did not notice")
                assert (pomona.Featurizer(MODEL).featurize(PHOTOS) == expected).all()
                assert (pickle.loads(pickle.dumps(busy)).featurize(PHOTOS) == expected).all()

            in_call = []
            assert in_child(child, lambda: in_call.append(caller.is_alive())) == 0
            assert in_call == [True], "the fork was not in the middle of the call"
            caller.join()
            assert results[0].shape == (len(LARGE), 16)
            assert (busy.featurize(PHOTOS) == expected).all()
            """
        )

    def test_while_onnx_runtime_is_loaded_the_child_is_told_that_no_featurizer_works_there(
        self, tmp_path: Path
    ) -> None:
        # A package whose library is a pipe: it is being loaded for as long as nobody writes to it.
        run(
            f"""
            import errno
            import importlib.util
            from pathlib import Path

            real = Path(importlib.util.find_spec("pomona").submodule_search_locations[0])
            package = Path({str(tmp_path)!r}, "pomona")
            (package / "lib").mkdir(parents=True)
            for entry in real.iterdir():
                if entry.name != "lib":
                    (package / entry.name).symlink_to(entry)
            (library,) = [path.name for path in (real / "lib").glob("libonnxruntime.so*")]
            os.mkfifo(package / "lib" / library)
            sys.path.insert(0, {str(tmp_path)!r})
            import pomona
            from specimens import picture, saved

            PHOTOS = [saved(picture("RGB", 8, 8), "PNG")]
            first = pomona.Featurizer({str(SUPPORT.parent / "data" / "tiny.onnx")!r})
            failed = []

            def call():
                try:
                    first.featurize(PHOTOS)
                except OSError as error:
                    failed.append(str(error))

            caller = threading.Thread(target=call)
            caller.start()
            while True:
                try:
                    pipe = os.open(package / "lib" / library, os.O_WRONLY | os.O_NONBLOCK)
                    break
                except OSError as error:
                    # Nobody has opened it to read yet.
                    assert error.errno == errno.ENXIO, error
                    time.sleep(0.001)

            child = os.fork()
            if child == 0:
                try:
                    again = pomona.Featurizer(first.model_path)
                    for featurizer in (first, again):
                        try:
                            featurizer.featurize(PHOTOS)
                        except RuntimeError as error:
                            assert "while another thread was starting ONNX Runtime" in str(error)
                            assert "fork another child process" in str(error)
                        else:
                            raise AssertionError("it works")
                except BaseException:
                    import traceback
                    traceback.print_exc()
                    os._exit(1)
                os._exit(0)
            _, status = os.waitpid(child, 0)
            os.close(pipe)
            caller.join()
            assert status == 0
            assert "can't load ONNX Runtime" in failed[0], failed
            """,
            shared="",
        )

    def test_threads_of_a_child_take_turns(self) -> None:
        run(
            """
            featurizer = pomona.Featurizer(MODEL)
            expected = featurizer.featurize(PHOTOS)

            def child():
                right = []
                work = lambda: right.append((featurizer.featurize(PHOTOS) == expected).all())
                callers = [threading.Thread(target=work) for _ in range(8)]
                for caller in callers:
                    caller.start()
                for caller in callers:
                    caller.join()
                assert right == [True] * len(callers), right

            for _ in range(10):
                assert in_child(child) == 0
            """
        )

    def test_pomona_featurize_works_in_a_child_that_was_forked_during_a_call(self) -> None:
        run(
            """
            expected = pomona.featurize(PHOTOS, model=MODEL)
            handed_over = threading.Event()

            def photos():
                yield from LARGE
                handed_over.set()

            caller = threading.Thread(target=lambda: pomona.featurize(photos(), model=MODEL))
            caller.start()
            handed_over.wait()
            wait_for_work(0.05)

            def child():
                assert (pomona.featurize(PHOTOS, model=MODEL) == expected).all()

            assert in_child(child) == 0
            caller.join()
            """
        )


POOL = """
import multiprocessing

def rows(photo):
    return FEATURIZER.featurize([photo])[0]

if __name__ == "__main__":
    FEATURIZER = pomona.Featurizer(MODEL)
"""


class TestPools:
    @pytest.mark.parametrize("first_batch", [False, True])
    def test_a_pool_of_forks_gives_the_right_rows(self, first_batch: bool) -> None:
        run(
            POOL
            + dedent(
                f"""
            if {first_batch}:
                FEATURIZER.featurize(PHOTOS[:1])
            with multiprocessing.get_context("fork").Pool(3) as pool:
                found = np.stack(pool.map(rows, PHOTOS * 10))
            assert (found == np.tile(FEATURIZER.featurize(PHOTOS), (10, 1))).all()
            """
            )
        )

    def test_a_featurizer_travels_to_spawned_processes(self, tmp_path: Path) -> None:
        # Spawned processes import the main module anew, so it must be a file.
        script = tmp_path / "spawned.py"
        main = """
        import multiprocessing

        def rows(featurizer):
            return os.getpid(), featurizer.featurize(PHOTOS)

        if __name__ == "__main__":
            featurizer = pomona.Featurizer(MODEL, threads=2, batch_size=3)
            with multiprocessing.get_context("spawn").Pool(2) as pool:
                found = pool.map(rows, [featurizer] * 4, chunksize=1)
            for pid, features in found:
                assert pid != os.getpid()
                assert (features == featurizer.featurize(PHOTOS)).all()
        """
        shared = SHARED.replace("LARGE =", "# LARGE =")
        script.write_text(PRELUDE + shared + dedent(main), encoding="utf-8")
        subprocess.run([sys.executable, str(script)], check=True, timeout=TIMEOUT)

    def test_a_pickled_featurizer_keeps_every_option(self) -> None:
        run(
            """
            featurizer = pomona.Featurizer(
                MODEL, threads=3, batch_size=5, max_pixels=40 * 30, apply_exif=True, strict=True,
                decode="fast",
            )
            copy = pickle.loads(pickle.dumps(featurizer))
            again = pickle.loads(pickle.dumps(copy))
            for each in (featurizer, copy, again):
                assert each.__reduce__()[0].keywords == {
                    "threads": 3, "batch_size": 5, "max_pixels": 1200, "apply_exif": True,
                    "strict": True, "decode": "fast",
                }
                assert each.model_path == featurizer.model_path
                features, errors = each.try_featurize([PHOTOS[0] + b"x", PHOTOS[1]])
                assert errors[0] is None
                assert "too large" in errors[1].reason
            """
        )

    def test_a_pickle_is_small_and_says_when_the_model_is_gone(self, tmp_path: Path) -> None:
        model = tmp_path / "gone.onnx"
        model.write_bytes((SUPPORT.parent / "data" / "tiny.onnx").read_bytes())
        run(
            f"""
            pickled = pickle.dumps(pomona.Featurizer({str(model)!r}))
            assert len(pickled) < 1000
            os.remove({str(model)!r})
            try:
                pickle.loads(pickled)
            except pomona.ModelError as error:
                assert "gone.onnx" in str(error)
            else:
                raise AssertionError("opened")
            """
        )


class TestSignals:
    def test_the_first_batch_runs_no_python_that_a_signal_could_interrupt(self) -> None:
        # The bridge to numpy asks for numpy's version when it is built, and panics if it can't.
        run(
            """
            def interrupted(version):
                raise KeyboardInterrupt

            featurizer = pomona.Featurizer(MODEL)
            np.lib.NumpyVersion = interrupted
            assert featurizer.featurize(PHOTOS).shape == (8, 16)
            """
        )

    @pytest.mark.parametrize("threads", [1, 3])
    def test_ctrl_c_ends_a_call_long_before_its_end_and_the_next_one_works(
        self, threads: int
    ) -> None:
        run(
            f"""
            featurizer = pomona.Featurizer(MODEL, threads={threads})
            expected = featurizer.featurize(PHOTOS)
            handed_over = threading.Event()

            # All times are the processor's. A batch of a hundred seconds of it, on any machine.
            start = time.process_time()
            featurizer.featurize(LARGE[:20])
            seconds = time.process_time() - start
            batch = LARGE[:1] * int(20 * 100 / seconds)

            def photos():
                yield from batch
                handed_over.set()

            def interrupt():
                handed_over.wait()
                wait_for_work(0.1)
                os.kill(os.getpid(), signal.SIGINT)

            threading.Thread(target=interrupt).start()
            start = time.process_time()
            try:
                featurizer.featurize(photos())
            except KeyboardInterrupt:
                took = time.process_time() - start
            else:
                raise AssertionError("not interrupted")
            whole = seconds / 20 * len(batch)
            assert took < whole / 2, (took, whole)
            assert (featurizer.featurize(PHOTOS) == expected).all()
            """
        )

    def test_what_a_signal_handler_raises_comes_out_of_the_call(self) -> None:
        run(
            """
            class Alarm(Exception):
                pass

            def ring(*_):
                raise Alarm

            signal.signal(signal.SIGALRM, ring)
            featurizer = pomona.Featurizer(MODEL)
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.2)
                while True:
                    featurizer.featurize(LARGE)
            except Alarm:
                pass
            assert np.isfinite(featurizer.featurize(PHOTOS)).all()
            """
        )

    def test_a_handler_that_returns_lets_the_call_go_on(self) -> None:
        run(
            """
            rung = []
            signal.signal(signal.SIGALRM, lambda *_: rung.append(threads()))
            featurizer = pomona.Featurizer(MODEL)
            signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
            features = featurizer.featurize(LARGE)
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert np.isfinite(features).all()
            assert rung
            """
        )
