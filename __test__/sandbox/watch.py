"""Looks at the command lines and environments of all processes, again and again, for what must not be in one."""

import os
import sys
import time

secrets = [line.encode() for line in open(sys.argv[1]).read().split("\n") if line]
seen = set()
with open(sys.argv[2], "w") as out:
    while True:
        for pid in filter(str.isdigit, os.listdir("/proc")):
            for what in ("cmdline", "environ"):
                try:
                    text = open(f"/proc/{pid}/{what}", "rb").read()
                except OSError:
                    continue
                if any(secret in text for secret in secrets) and (what, text) not in seen:
                    seen.add((what, text))
                    out.write(f"{what} {text!r}\n")
                    out.flush()
        time.sleep(0.004)
