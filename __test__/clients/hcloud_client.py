"""Drives a local cloud with Hetzner's own Python client: create, wait, relabel, power, delete.

Usage: hcloud_client.py ENDPOINT TOKEN. Prints one line of JSON at each station.
"""

import json
import sys

from hcloud import APIException, Client
from hcloud.images import Image
from hcloud.locations import Location
from hcloud.server_types import ServerType
from hcloud.ssh_keys import SSHKey


def tell(station, **what):
    print(json.dumps({"station": station, **what}), flush=True)


endpoint, token = sys.argv[1:]
client = Client(token=token, api_endpoint=endpoint, poll_interval=0.05)

created = client.servers.create(
    name="python-1",
    server_type=ServerType(name="cpx11"),
    image=Image(name="ubuntu-24.04"),
    location=Location(name="ash"),
    ssh_keys=[SSHKey(id=4711)],
    labels={"made-by": "python"},
)
created.action.wait_until_finished()
for action in created.next_actions:
    action.wait_until_finished()
server = client.servers.get_by_id(created.server.id)
tell("created", id=server.id, status=server.status, ip=server.public_net.ipv4.ip, password=created.root_password)

server = server.update(labels={"made-by": "python", "state": "relabelled"})
found = client.servers.get_all(label_selector="state=relabelled,!other,made-by in (python,go)")
tell("relabelled", labels=server.labels, found=[server.id for server in found])

server.power_off().wait_until_finished()
tell("off", status=client.servers.get_by_id(server.id).status)
server.power_on().wait_until_finished()
tell("on", status=client.servers.get_by_id(server.id).status)

try:
    client.servers.create(name="python-1", server_type=ServerType(name="cpx11"), image=Image(name="debian-12"))
except APIException as error:
    tell("taken", code=error.code, correlation=bool(error.correlation_id))

types = {each.name: [place.location.name for place in each.locations] for each in client.server_types.get_all()}
tell("types", cpx12=types["cpx12"], images=len(client.images.get_all()), locations=len(client.locations.get_all()))

client.servers.delete(server).wait_until_finished()
try:
    client.servers.get_by_id(server.id)
except APIException as error:
    tell("deleted", code=error.code)
