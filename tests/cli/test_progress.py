"""Where stderr is no terminal, a long run says now and then how far it has come, and a short one nothing."""

import pytest

from headatlas.cli.terminal import progress
from headatlas.cli.terminal.progress import ProgressBar


def test_a_line_every_half_minute(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with ProgressBar("running") as tell:
        for second in range(65):
            now = float(second)
            tell("scores", second, 100)
        now = 200.0
        tell("opening", 0, 0)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["running: scores (30 of 100)", "running: scores (60 of 100)", "running: opening"]
