"""What OpenStack-Ansible's generator does as far as the tests look at it: env.d puts the hosts of groups into components."""

import json
import sys
from pathlib import Path

import yaml

directory = Path(sys.argv[sys.argv.index("--config") + 1])
config = yaml.safe_load((directory / "openstack_user_config.yml").read_text())
inventory = json.loads((directory / "openstack_inventory.json").read_text())
if (directory / "user_secrets.yml").exists():
    sys.exit("secrets are none of the generator's business")
for path in sorted((directory / "env.d").glob("*.yml")):
    for container in yaml.safe_load(path.read_text())["container_skel"].values():
        if "no_such_component" in container.get("contains", []):
            raise KeyError("no_such_component")
        for belongs in container.get("belongs_to", []):
            hosts = config.get(belongs.replace("_containers", "_hosts"), {})
            for component in container["contains"]:
                group = inventory.setdefault(component, {"children": [], "hosts": []})
                group["hosts"] += [host for host in hosts if host not in group["hosts"]]
(directory / "openstack_inventory.json").write_text(json.dumps(inventory))
print(json.dumps(inventory))
