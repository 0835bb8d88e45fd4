"""Kernel and module templates; found only through `ROOT`."""

from pathlib import Path

ROOT = Path(__file__).parent
