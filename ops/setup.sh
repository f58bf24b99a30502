# Sets up the virtual environments that its arguments name, with the Python of the environment variable PYTHON; else
# that of .venv, so that nothing changes unasked; else the newest that functions can run on. For any POSIX shell.
supported='import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))'
# A version manager's command may be found and fail: only what runs counts.
for python in "$PYTHON" .venv/bin/python python3.13 python3.12 python3.14 python3.11 python3 python; do
    if [ -n "$python" ] && "$python" -c "$supported" 2> /dev/null; then
        exec "$python" -m ops.environments "$@"
    fi
    if [ -n "$PYTHON" ]; then
        echo "error: PYTHON=$PYTHON: not a Python 3.11 to 3.14 with ensurepip" >&2
        exit 1
    fi
done
echo "error: no Python 3.11 to 3.14 with ensurepip is found: install one (on Debian and Ubuntu:" \
    "apt install python3-venv), or give its path: make PYTHON=path" >&2
exit 1
