#!/usr/bin/python3 -I
"""Stands in for a program: writes down that it was called, and does what the scene's rules say.

A rule is {"program", "match"?, "times"?, "exit"?, "stdout"?, "stderr"?, "write"?, "remove"?, "run"?, "trips"?, "seconds"?, "real"?}.
The first one fits whose program is this one, whose `match` is found in the arguments, and that is not used up (`times`).
`trips` are round trips on the way to another machine, `seconds` what the work itself takes: both pass for real only if the
scene has a round trip time.
"""

import fcntl
import json
import os
import re
import subprocess
import sys
import time

SCENE = "/tmp/scene"
name = os.path.basename(sys.argv[0])
arguments = sys.argv[1:]
began = time.monotonic()
text = " ".join(arguments)

with open(f"{SCENE}/rules.json", "r+") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    scene = json.load(file)
    rule = {}
    for candidate in scene["rules"]:
        if candidate["program"] == name and re.search(candidate.get("match", ""), text) and candidate.get("times", 1) > 0:
            rule = candidate
            break
    if "times" in rule:
        rule["times"] -= 1
    file.seek(0)
    file.truncate()
    json.dump(scene, file)


def note(**more):
    call = {"program": name, "arguments": arguments, "boot": int(open(f"{SCENE}/boot").read()), "began": began, **more}
    with open(f"{SCENE}/out/calls", "a") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        log.write(json.dumps(call) + "\n")


def place(path):
    """A path as it is; `--output` stands for what follows that word, `--output=` for what follows it in its word."""
    if path.startswith("--") and path.endswith("="):
        return next(word for word in arguments if word.startswith(path))[len(path) :]
    if path.startswith("--"):
        return arguments[arguments.index(path) + 1]
    return path


trip_seconds = scene.get("tripSeconds", 0)
if trip_seconds:
    time.sleep(rule.get("trips", 0) * trip_seconds + rule.get("seconds", 0))
if rule.get("real"):
    note(trips=rule.get("trips", 0), seconds=rule.get("seconds", 0), ended=time.monotonic(), real=True)
    os.execv(rule["real"], [rule["real"], *arguments])
said = {}
if name == "tailscale" and arguments[:1] == ["up"]:
    # What a real one would find there.
    key = next((word.split("=file:", 1)[1] for word in arguments if "=file:" in word), None)
    said = {"key": os.path.exists(key or "")}
    if said["key"]:
        said["mode"] = oct(os.stat(key).st_mode & 0o7777)
        said["right"] = open(key).read().strip() == open(f"{SCENE}/secrets").readline().strip()
for path, content in rule.get("write", {}).items():
    path = place(path)
    os.makedirs(os.path.dirname(path) or "/", exist_ok=True)
    source = content.get("copy") if isinstance(content, dict) else None
    with open(path, "wb") as file:
        file.write(open(source, "rb").read() if source else content.encode())
for path in rule.get("remove", []):
    if os.path.exists(path):
        os.remove(path)
code = rule.get("exit", 0)
if "run" in rule:
    # A small program of the scene's: its exit code and its words are this one's.
    done = subprocess.run(["/bin/sh", "-c", rule["run"], name, *arguments], capture_output=True, text=True)
    code = done.returncode
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
sys.stdout.write(rule.get("stdout", ""))
sys.stderr.write(rule.get("stderr", ""))
note(exit=code, trips=rule.get("trips", 0), seconds=rule.get("seconds", 0), ended=time.monotonic(), **said)
sys.exit(code)
