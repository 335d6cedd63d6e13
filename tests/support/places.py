"""Where the project lies, for tests in any room."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
