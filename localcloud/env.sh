# The running local cloud in a shell's variables: API, TOKEN, AUTH (a header for curl), and the AWS_* ones, which any AWS
# client reads. For bash, dash and zsh, from the project's root: `. localcloud/env.sh`
_cloud=$(python3 -c '
import json, shlex, sys, urllib.request

try:
    with open(".local/cloud.json") as file:
        cloud = json.load(file)
    # One that was killed leaves its file; a proxy is no way to this machine.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    direct.open(cloud["endpoint_url"] + "/_ministack/health", timeout=5).close()
except (OSError, ValueError, KeyError):
    sys.exit("error: no local cloud is running in this folder: start one with make cloud")
variables = {"API": cloud["api_url"], "TOKEN": cloud["token"], "AUTH": "Authorization: Bearer " + cloud["token"]}
for name, value in {**variables, **cloud["environment"]}.items():
    print("export " + name + "=" + shlex.quote(value))
') || { unset _cloud; return 1; }
eval "$_cloud"
unset _cloud
