"""Drives a local cloud with Hetzner's own Python client: create, wait, relabel, power, delete; then the same with what a
server is bound to: a network, a firewall, a placement group, and one public address or none.

Usage: hcloud_client.py ENDPOINT TOKEN. Prints one line of JSON at each station.
"""

import json
import sys

from hcloud import APIException, Client
from hcloud.firewalls import FirewallResource, FirewallRule
from hcloud.images import Image
from hcloud.locations import Location
from hcloud.networks import NetworkSubnet
from hcloud.server_types import ServerType
from hcloud.servers import ServerCreatePublicNetwork
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

network = client.networks.create(
    name="python-net",
    ip_range="10.0.0.0/16",
    subnets=[NetworkSubnet(type="cloud", network_zone="us-east", ip_range="10.0.1.0/24")],
    labels={"made-by": "python"},
)
rules = [
    FirewallRule(direction="in", protocol="icmp", source_ips=["0.0.0.0/0", "::/0"], description="ping"),
    FirewallRule(direction="out", protocol="tcp", port="443", destination_ips=["0.0.0.0/0", "::/0"]),
]
made = client.firewalls.create(name="python-wall", rules=rules, labels={"made-by": "python"})
for action in made.actions:
    action.wait_until_finished()
firewall = made.firewall
group = client.placement_groups.create(name="python-group", type="spread", labels={"made-by": "python"}).placement_group
tell(
    "made",
    subnets=[(subnet.ip_range, subnet.network_zone, subnet.gateway) for subnet in network.subnets],
    rules=[(rule.direction, rule.protocol, rule.port, rule.source_ips, rule.destination_ips) for rule in firewall.rules],
    type=group.type,
)

bound = dict(server_type=ServerType(name="cpx11"), image=Image(name="ubuntu-24.04"), location=Location(name="ash"))
created = client.servers.create(
    name="python-bound",
    networks=[network],
    firewalls=[firewall],
    placement_group=group,
    public_net=ServerCreatePublicNetwork(enable_ipv4=False),
    **bound,
)
created.action.wait_until_finished()
for action in created.next_actions:
    action.wait_until_finished()
server = client.servers.get_by_id(created.server.id)
hidden = client.servers.create(
    name="python-hidden",
    networks=[network],
    public_net=ServerCreatePublicNetwork(enable_ipv4=False, enable_ipv6=False),
    **bound,
)
for action in [hidden.action, *hidden.next_actions]:
    action.wait_until_finished()
hidden = client.servers.get_by_id(hidden.server.id)
tell(
    "bound",
    commands=[action.command for action in created.next_actions],
    status=server.status,
    ipv4=server.public_net.ipv4,
    ipv6=server.public_net.ipv6.ip,
    private=[(net.network.id == network.id, net.ip, net.alias_ips) for net in server.private_net],
    firewalls=[(each.firewall.id == firewall.id, each.status) for each in server.public_net.firewalls],
    group=server.placement_group.id == group.id,
    hidden=[hidden.status, hidden.public_net.ipv4, hidden.public_net.ipv6, hidden.private_net[0].ip],
)

applied = client.firewalls.create(name="python-second", resources=[FirewallResource(type="server", server=server)])
for action in applied.actions:
    action.wait_until_finished()
selector = "made-by=python"
network, firewall, group = (
    client.networks.get_by_name("python-net"),
    client.firewalls.get_by_name("python-wall"),
    client.placement_groups.get_by_name("python-group"),
)
tell(
    "listed",
    networks=[each.name for each in client.networks.get_all(label_selector=selector)],
    firewalls=[each.name for each in client.firewalls.get_all(label_selector=selector)],
    groups=[each.name for each in client.placement_groups.get_all(label_selector=selector)],
    members=[[each.id for each in network.servers], [each.server.id for each in firewall.applied_to], group.servers],
    ids=[server.id, hidden.id],
)

refused = {}


def refusal(what, call):
    try:
        call()
        refused[what] = None
    except APIException as error:
        refused[what] = error.code


refusal("name", lambda: client.networks.create(name="python-net", ip_range="10.0.0.0/16"))
refusal("firewall", firewall.delete)
refusal("group", group.delete)
elsewhere = {**bound, "location": Location(name="hil")}
refusal("zone", lambda: client.servers.create(name="python-refused", networks=[network], **elsewhere))
tell("refused", **refused)

for each in (server, hidden):
    client.servers.delete(each).wait_until_finished()
for each in (network, firewall, applied.firewall, group):
    each.delete()
tell(
    "gone",
    left=[len(kind.get_all()) for kind in (client.servers, client.networks, client.firewalls, client.placement_groups)],
)
