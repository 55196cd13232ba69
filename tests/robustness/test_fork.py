# SPDX-License-Identifier: MIT
"""A forked process starts without its parent's threads, and siblings share the machine."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import child

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

# A problem for each split, what one thread makes of it, and whether four make the same of it now.
START = """
import os, sys, threading, time, warnings
from support.problems import CELLS, core_results, of_many_threads, problem

warnings.simplefilter("ignore", DeprecationWarning)  # of Python, about forks beside threads
lstm = next(c for c in CELLS if c.id == "lstm")
shapes = [(20, 3, 30, 437), (20, 33, 19, 171)]
problems = [problem(lstm, of_many_threads(lstm, s), dtype="float32") for s in shapes]

def bits(threads):
    return [a.tobytes() for p in problems for a in core_results(p, threads=threads).values()]

def tasks():
    return len(os.listdir("/proc/self/task"))

def right():
    return bits(4) == want

def exit_codes(children):
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]

want = bits(1)
"""


def test_children_of_a_process_that_used_its_threads_start_their_own() -> None:
    program = """
        def fork(depth):
            child = os.fork()
            if child:
                return child
            alone = tasks() == 1
            good = right() and tasks() == 4
            grandchildren = exit_codes([fork(depth - 1) for _ in range(2) if depth])
            sys.exit(not (alone and good and not any(grandchildren) and right()))

        assert tasks() == 1
        assert right() and tasks() == 4
        children = [fork(1) for _ in range(3)]
        print(right(), *exit_codes(children), right(), tasks())
    """
    assert child.output(START + child.dedent(program)) == "True 0 0 0 True 4\n"


def test_children_forked_while_another_thread_computes() -> None:
    program = """
        stop, wrong = threading.Event(), []

        def work():
            while not stop.is_set():
                if not right():
                    wrong.append("parent")

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for n in range(15):
            time.sleep(0.001 * n)
            pid = os.fork()
            if pid == 0:
                sys.exit(not right())
            wrong += [n for code in exit_codes([pid]) if code]
        stop.set()
        for thread in threads:
            thread.join()
        print(wrong, right())
    """
    assert child.output(START + child.dedent(program)) == "[] True\n"


def test_a_child_ends_without_waiting_for_threads_it_does_not_have() -> None:
    """The ways to leave: as a script ends, at once, and by an exception."""
    program = """
        right()
        ends = [lambda: sys.exit(0), lambda: os._exit(0), lambda: 1 / 0]
        children = []
        for end in ends:
            children.append(os.fork())
            if children[-1] == 0:
                sys.stderr = open(os.devnull, "w")
                right()
                end()
        print(*exit_codes(children))
    """
    assert child.output(START + child.dedent(program)) == "0 0 1\n"


SCRIPT = """
import multiprocessing, sys
import bptt

def threads(count):
    if count:
        bptt.set_num_threads(count)
    return bptt.get_num_threads()

if __name__ == "__main__":
    before = threads(0)
    with multiprocessing.get_context(sys.argv[1]).Pool(1) as pool:
        children = pool.map(threads, [0, 5, 0])
        pool.close()
        pool.join()
    print(before == threads(0) == int(sys.argv[2]), *children)
"""


@pytest.mark.parametrize("how", multiprocessing.get_all_start_methods())
def test_a_process_of_multiprocessing_takes_one_thread(how: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    inherited = {k: v for k, v in os.environ.items() if k not in child.COUNTS}
    alone = child.output("import bptt; print(bptt.get_num_threads())", OMP_NUM_THREADS=None)
    for own, before, after in (({}, alone.strip(), 1), ({"BPTT_NUM_THREADS": "3"}, "3", 3)):
        done = subprocess.run(
            [sys.executable, str(script), how, before],
            env={**inherited, **own},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.stdout, done.stderr) == (f"True {after} 5 5\n", "")


def test_a_forked_process_takes_one_thread_unless_told() -> None:
    program = """
        import os
        import bptt

        def in_child(call):
            pid = os.fork()
            if pid == 0:
                call()
                os._exit(bptt.get_num_threads())
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

        if {asked}:
            bptt.get_num_threads()
        print(in_child(int), in_child(lambda: bptt.set_num_threads(7)), end=" ")
        bptt.set_num_threads(3)
        print(in_child(int), bptt.get_num_threads())
    """
    for asked in (True, False):
        text = child.dedent(program).format(asked=asked)
        assert child.output(text, OMP_NUM_THREADS=None) == "1 7 3 3\n"
        assert child.output(text, BPTT_NUM_THREADS="5") == "5 7 3 3\n"
