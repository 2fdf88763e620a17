"""Only one writer at a time, and no lock outlives its process."""

import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from music_assets.foundation.locks import Busy, exclusive


def test_there_is_never_more_than_one(tmp_path: Path) -> None:
    target, inside = tmp_path / "new" / "file", threading.Lock()

    def work(_: int) -> int:
        done = 0
        while done < 50:
            try:
                with exclusive(target):
                    assert inside.acquire(blocking=False)
                    done += 1
                    inside.release()
            except Busy:
                continue
        return done

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(8))) == 400
    assert list(target.parent.iterdir()) == []


def test_a_killed_holder_frees_it(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from music_assets.foundation.locks import exclusive\n"
        "with exclusive(Path(sys.argv[1])):\n"
        "    print('held', flush=True); time.sleep(60)"
    )
    target = tmp_path / "file"
    with subprocess.Popen([sys.executable, "-c", code, str(target)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Busy, match="Another process is writing"), exclusive(target):
            pass
        holder.kill()
    assert holder.returncode == -signal.SIGKILL
    with exclusive(target):
        pass
    assert list(tmp_path.iterdir()) == []
