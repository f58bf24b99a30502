"""The project's own folders, and the region of everything that runs on this machine."""

import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
LOCAL_FOLDER = PROJECT / ".local"
REGION = "us-east-1"
# With these, nothing that the developer has set up for AWS is read.
NO_AWS_FILES = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
