"""Pipelines to measure, written as files, as a person would have them."""

from __future__ import annotations

from pathlib import Path

_HEAD = "import mainspring as ms\n\n\n"
_BUSY = '''
def spin(seconds):
    """CPU work of about *seconds*, whatever else the machine does."""
    import time
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return seconds
'''


def chain(folder: Path, length: int, name: str = "chain") -> Path:
    """*length* steps, each adding one to the step before."""
    source = [_HEAD + "def s0():\n    return 0\n"]
    source += [f"def s{i}(s{i - 1}):\n    return s{i - 1} + 1\n" for i in range(1, length)]
    names = ", ".join(f"s{i}" for i in range(length))
    return _write(folder, name, "\n\n".join(source) + f'\n\n{name} = ms.Pipeline("{name}", [{names}])\n')


def fan(folder: Path, width: int, seconds: float = 0.0, name: str = "fan") -> Path:
    """One step, *width* elements of *seconds* CPU each, one step."""
    text = f'''{_HEAD}{_BUSY}

def numbers():
    return list(range({width}))


@ms.step(each={{"number": "numbers"}})
def worked(number):
    spin({seconds})
    return number


def total(worked):
    return sum(worked)


{name} = ms.Pipeline("{name}", [numbers, worked, total])
'''
    return _write(folder, name, text)


def _write(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.py"
    path.write_text(text)
    return path
