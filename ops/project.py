"""The project's own folders, and the region of everything that runs on this machine."""

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
LOCAL_FOLDER = PROJECT / ".local"
REGION = "us-east-1"
