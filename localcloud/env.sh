# The running local cloud in a shell's variables: API, TOKEN, AUTH (a header for curl), and the AWS_* ones, which any AWS
# client reads. For bash, dash and zsh, from the project's root: `. localcloud/env.sh`
_python=.venv/bin/python
[ -x "$_python" ] || _python=python3
_cloud=$("$_python" -c '
import json, os, shlex, sys, urllib.request

try:
    with open(".local/cloud.json") as file:
        cloud = json.load(file)
    # One that was killed leaves its file; a proxy is no way to this machine.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    direct.open(cloud["endpoint_url"] + "/_ministack/health", timeout=5).close()
except (OSError, ValueError, KeyError):
    sys.exit("error: no local cloud is running in this folder: start one with make cloud")
# A proxy would look for this machine on its own.
direct = ",".join(filter(None, [os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), "127.0.0.1,localhost"]))
variables = {"no_proxy": direct, "NO_PROXY": direct, "API": cloud["api_url"], "TOKEN": cloud["token"], "AUTH": "Authorization: Bearer " + cloud["token"]}
for name, value in {**variables, **cloud["environment"]}.items():
    print("export " + name + "=" + shlex.quote(value))
') || { unset _cloud _python; return 1; }
eval "$_cloud"
unset _cloud _python
