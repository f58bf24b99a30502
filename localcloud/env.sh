# The running local cloud in a shell's variables: API, TOKEN, AUTH (a header for curl), and the AWS_* ones, which any AWS
# client reads. `leave_local_cloud` puts back what was there before.
# For bash, dash and zsh, from the project's root: `. localcloud/env.sh`
if command -v leave_local_cloud > /dev/null; then leave_local_cloud; fi
if [ -x .venv/bin/python ]; then
    _cloud=$(.venv/bin/python -m localcloud env) || { unset _cloud; return 1; }
    eval "$_cloud"
    unset _cloud
else
    echo "error: no local cloud is running in this folder: start one with make cloud" >&2
    return 1
fi
