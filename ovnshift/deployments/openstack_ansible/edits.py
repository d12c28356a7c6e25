"""What OVN needs in each of OpenStack-Ansible's files: text in, text out, and nothing else touched.

The edits are those of a migration that was done by hand, for the releases that
:mod:`ovnshift.deployments.openstack_ansible.release` names. What is there already is kept; each function gives its own result
back unchanged.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ovnshift.deployments.openstack_ansible.document import Document, Node, Value

LINUXBRIDGE, OVN = "ml2.lxb", "ml2.ovn"
AGENT_GROUP, CONTROLLER_GROUP, NORTHD_GROUP = (
    "neutron_linuxbridge_agent",
    "neutron_ovn_controller",
    "neutron_ovn_northd",
)
# Both name the same plugin (neutron's setup.cfg, neutron.service_plugins).
OVN_ROUTER = "neutron.services.ovn_l3.plugin.OVNL3RouterPlugin"
OVN_ROUTERS = (OVN_ROUTER, "ovn-router")
AGENT_ROUTERS = ("router", "neutron.services.l3_router.l3_router_plugin.L3RouterPlugin")
DRIVERS = "geneve,vxlan,vlan,flat"
MODULE = {"name": "openvswitch", "pattern": "CONFIG_OPENVSWITCH"}
MODULES = "openstack_host_specific_kernel_modules"
# Components of neutron_agents_container that OVN does without.
RETIRED = (
    "neutron_agent",
    "neutron_dhcp_agent",
    "neutron_l3_agent",
    AGENT_GROUP,
    "neutron_metadata_agent",
    "neutron_metering_agent",
    "neutron_openvswitch_agent",
)
NETWORKS_BY_HAND = (
    "docs/openstack-ansible.md shows what each network under global_overrides.provider_networks has to become"
)


def user_variables(text: str, place: str) -> str:
    """``user_variables.yml``: the plugin, its service plugins and the types of networks.

    Raises:
        EditRefused: neutron_plugin_type is neither LinuxBridge's nor OVN's, or provider networks are written out for LinuxBridge;
            or as :class:`Document` says.
    """
    document = Document(text, place)
    root = document.root
    kind = document.find(root, "neutron_plugin_type")
    if kind is None:
        document.add(root, "neutron_plugin_type", OVN)
    elif document.text_of(kind) == LINUXBRIDGE:
        document.set(root, "neutron_plugin_type", OVN)
    elif document.text_of(kind) != OVN:
        raise document.refusal(
            document.line(kind),
            f"neutron_plugin_type is {document.text_of(kind)}, neither {LINUXBRIDGE} nor {OVN}",
            "see whether this is the right cloud: only LinuxBridge is migrated to OVN",
        )
    _service_plugins(document)
    drivers = document.text_of(document.find(root, "neutron_ml2_drivers_type"))
    if drivers is None:
        document.add(root, "neutron_ml2_drivers_type", DRIVERS)
    elif "geneve" not in [each.strip() for each in drivers.split(",")]:
        if "{{" in drivers:
            raise document.refusal(
                document.key_line(root, "neutron_ml2_drivers_type"),
                "neutron_ml2_drivers_type is a template",
                "add geneve to what it gives, as text without a template",
            )
        document.set(root, "neutron_ml2_drivers_type", f"geneve,{drivers}" if drivers.strip() else DRIVERS)
    written_out = document.find(root, "neutron_provider_networks")
    if written_out is not None:
        types = document.text_of(document.find(written_out, "network_types")) or ""
        if "vxlan" in types or document.has(written_out, "network_vxlan_ranges"):
            raise document.refusal(
                document.key_line(root, "neutron_provider_networks"),
                "neutron_provider_networks is written out with VXLAN, and counts for more than openstack_user_config.yml",
                "make it geneve there (network_types, network_geneve_ranges, network_interface_mappings), and run this again",
            )
    return document.render()


def _exchange(document: Document, held: Node, *, old: Collection[str], good: Collection[str], new: str) -> None:
    """In a list an item takes the place of the old ones, unless one that is as good is there."""
    names = document.names(held)
    places = [index for index, name in enumerate(names) if name in old]
    if any(name in good for name in names):
        document.remove_items(held, places)
    elif places:
        document.replace_item(held, places[0], new)
        document.remove_items(held, places[1:])
    else:
        document.append(held, new)


def _service_plugins(document: Document) -> None:
    root, key = document.root, "neutron_plugin_base"
    plugins = document.find(root, key)
    names = document.names(plugins)
    if not names:
        if plugins is not None:
            raise document.refusal(document.key_line(root, key), f"{key} is empty", "take it away, and run this again")
        document.add(root, key, [OVN_ROUTER, "qos"])
        return
    _exchange(document, plugins, old=AGENT_ROUTERS, good=OVN_ROUTERS, new=OVN_ROUTER)
    if "qos" not in names:
        document.append(plugins, "qos")


def network_hosts(text: str, place: str) -> str:
    """``group_vars/network_hosts``: Open vSwitch's kernel module.

    Raises:
        EditRefused: as :class:`Document` says.
    """
    document = Document(text, place)
    modules = document.find(document.root, MODULES)
    if MODULE["name"] in [document.text_of(document.find(each, "name")) for each in document.items(modules)]:
        return text
    if document.items(modules):
        document.append(modules, MODULE, quoted=True)
    else:
        document.add(document.root, MODULES, [MODULE], quoted=True)
    return document.render()


def env_neutron(text: str, place: str, *, northd_in: str | None) -> str:
    """``env.d/neutron.yml``: OVN's groups are there, and the agents' container holds none of the retired agents.

    OpenStack-Ansible lays this file over its own: a list here takes the place of its list, and ``{}`` empties it
    (osa_toolkit/dictutils.py, merge_dict).

    Args:
        text: of the file; empty where there is none.
        place: names it in messages.
        northd_in: the group of containers on whose hosts ovn-northd is to run ("network_containers"); None where the group that
            OpenStack-Ansible has for it (``network-northd_hosts``) has hosts.

    Raises:
        EditRefused: as :class:`Document` says.
    """
    text = text or "---\n"
    for component in (CONTROLLER_GROUP, NORTHD_GROUP):
        text = _put(text, place, ["component_skel", component, "belongs_to"], ["neutron_all"], before="container_skel")
    text = _without_agents(text, place)
    if northd_in is not None:
        document = Document(text, place)
        containers = document.find(document.root, "container_skel")
        northd = {"belongs_to": [northd_in], "contains": [NORTHD_GROUP], "properties": {"is_metal": "true"}}
        if document.find(containers, "neutron_ovn_northd_container") is None:
            document.add(containers, "neutron_ovn_northd_container", northd, after="neutron_agents_container")
            text = document.render()
    return _holds_northd(text, place)


def _without_agents(text: str, place: str) -> str:
    document = Document(text, place)
    agents = document.find(document.find(document.root, "container_skel"), "neutron_agents_container")
    held = document.find(agents, "contains")
    if held is None:
        return _put(text, place, ["container_skel", "neutron_agents_container", "contains"], {})
    names = document.names(held)
    gone = [index for index, name in enumerate(names) if name in RETIRED]
    if gone and len(gone) == len(names):
        document.empty(agents, "contains")
    elif gone:
        document.remove_items(held, gone)
    return document.render()


def _holds_northd(text: str, place: str) -> str:
    document = Document(text, place)
    northd = document.find(document.find(document.root, "container_skel"), "neutron_ovn_northd_container")
    held = document.find(northd, "contains")
    if not document.has(northd, "contains") or NORTHD_GROUP in document.names(held):
        return text
    if document.items(held):
        document.append(held, NORTHD_GROUP)
    else:
        document.add(northd, "contains", [NORTHD_GROUP])
    return document.render()


def env_nova(text: str, place: str, *, compute_holds: Sequence[str]) -> str:
    """``env.d/nova.yml``: hypervisors are OVN's chassis and have no LinuxBridge agent any more.

    Args:
        text: of the file; empty where there is none.
        place: names it in messages.
        compute_holds: components of ``nova_compute_container`` where the file doesn't list them.

    Raises:
        EditRefused: as :class:`Document` says.
    """
    text = text or "---\n"
    document = Document(text, place)
    compute = document.find(document.find(document.root, "container_skel"), "nova_compute_container")
    held = document.find(compute, "contains")
    names = document.names(held)
    if not names:
        return _put(text, place, ["container_skel", "nova_compute_container", "contains"], list(compute_holds))
    _exchange(document, held, old={AGENT_GROUP}, good={CONTROLLER_GROUP}, new=CONTROLLER_GROUP)
    return document.render()


def _put(text: str, place: str, path: Sequence[str], value: Value, *, before: str | None = None) -> str:
    """A value below a path of keys of which the last ones may be missing; one that is there is kept."""
    document = Document(text, place)
    mapping = document.root
    for depth, key in enumerate(path):
        found = document.find(mapping, key)
        if document.is_empty(found):
            for missing in reversed(path[depth + 1 :]):
                value = {missing: value}
            document.add(mapping, key, value, before=before if depth == 0 else None)
            return document.render()
        mapping = found
    return text


def user_config(text: str, place: str, *, rename: Mapping[str, str]) -> str:
    """``openstack_user_config.yml``: the provider networks as OVN has them.

    Args:
        text: of the file.
        place: names it in messages.
        rename: new names of bridges by their old ones ({"br-vlan": "br-ex"}).

    Raises:
        EditRefused: no provider network is Neutron's, some are Geneve already while others are VXLAN, a network has two different
            interfaces, a bridge that is to be renamed is nowhere; or as :class:`Document` says.
    """
    document = Document(text, place)
    networks = _neutron_networks(document)
    if not networks:
        raise document.refusal(
            1,
            f"no network under global_overrides.provider_networks is bound to {AGENT_GROUP} or {CONTROLLER_GROUP}",
            NETWORKS_BY_HAND,
        )
    by_type: dict[str, list[Node]] = {}
    for network in networks:
        by_type.setdefault(str(document.text_of(document.find(network, "type"))), []).append(network)
    if "vxlan" in by_type and "geneve" in by_type:
        raise document.refusal(
            document.line(by_type["vxlan"][0]),
            f"is a vxlan network, and there is a geneve one in line {document.line(by_type['geneve'][0])} already",
            "take away the one that is not meant, and run this again",
        )
    bridges = [document.text_of(document.find(network, "container_bridge")) for network in networks]
    for old, new in rename.items():
        if old not in bridges and new not in bridges:
            raise document.refusal(
                1,
                f"no network of Neutron's has the bridge {old}, which is to become {new}",
                "see deployment.rename_bridges",
            )
    for network in networks:
        _network(document, network, rename)
    return document.render()


def _provider_networks(document: Document) -> list[Node]:
    overrides = document.find(document.root, "global_overrides")
    found = [document.find(each, "network") for each in document.items(document.find(overrides, "provider_networks"))]
    return [network for network in found if network is not None]


def _neutron_networks(document: Document) -> list[Node]:
    return [
        network
        for network in _provider_networks(document)
        if {AGENT_GROUP, CONTROLLER_GROUP} & set(document.names(document.find(network, "group_binds")))
    ]


def _network(document: Document, network: Node, rename: Mapping[str, str]) -> None:
    kind = document.text_of(document.find(network, "type"))
    if kind == "vxlan":
        document.set(network, "type", "geneve")
    if kind in {"vxlan", "geneve"} and document.text_of(document.find(network, "net_name")) == "vxlan":
        document.set(network, "net_name", "geneve")
    bridge = document.text_of(document.find(network, "container_bridge"))
    if bridge is not None and bridge in rename:
        document.set(network, "container_bridge", rename[bridge])
    bound = document.text_of(document.find(network, "host_bind_override"))
    if bound is not None:
        interface = document.text_of(document.find(network, "network_interface"))
        if interface is None and not document.has(network, "network_interface"):
            document.rename(network, "host_bind_override", "network_interface")
        elif interface == bound:
            document.remove(network, "host_bind_override")
        else:
            raise document.refusal(
                document.key_line(network, "host_bind_override"),
                f"host_bind_override is {bound} and network_interface is {interface}",
                "keep the one that is meant, as network_interface",
            )
    binds = document.find(network, "group_binds")
    _exchange(document, binds, old={AGENT_GROUP}, good={CONTROLLER_GROUP}, new=CONTROLLER_GROUP)


def groups_with_hosts(text: str, place: str) -> set[str]:
    """The groups of ``openstack_user_config.yml`` or of a file of ``conf.d`` that have hosts ("network_hosts").

    Raises:
        EditRefused: as :class:`Document` says.
    """
    document = Document(text, place)
    if document.root is None:
        return set()
    return {
        key.value
        for key, value in document.root.value
        if str(key.value).endswith("_hosts") and not document.is_empty(value)
    }


def loose_networks(text: str, place: str) -> list[str]:
    """Flat and VLAN networks into whose bridges nothing plugs a host's interface: no network of that bridge names one."""
    document = Document(text, place)
    plugged, loose = set(), []
    for network in _neutron_networks(document):
        bridge = document.text_of(document.find(network, "container_bridge"))
        if document.find(network, "network_interface") or document.find(network, "network_bond_interfaces"):
            plugged.add(bridge)
        elif document.text_of(document.find(network, "type")) in {"vlan", "flat"}:
            loose.append((document.line(network), bridge))
    return [f"line {line}: {bridge}" for line, bridge in loose if bridge not in plugged]


def other_networks(text: str, place: str) -> list[str]:
    """Networks of Neutron's types that are bound to other groups than Neutron's agents, and so are left as they are."""
    document = Document(text, place)
    ours = _neutron_networks(document)
    return [
        f"line {document.line(network)}: {document.text_of(document.find(network, 'container_bridge'))}, of type {kind}"
        for network in _provider_networks(document)
        if (kind := document.text_of(document.find(network, "type"))) in {"vxlan", "vlan", "flat"}
        and network not in ours
    ]


# OVN has no agent for these (docs.openstack.org/neutron, "Gaps from ML2/OVS"); ovn-vpnaas is another plugin than vpnaas.
AGENT_PLUGINS = ("metering", "firewall_v2", "vpnaas")


def agent_plugins(text: str, place: str) -> list[str]:
    """Service plugins in ``user_variables.yml`` that do their work in an agent that OVN has not."""
    document = Document(text, place)
    plugins = document.names(document.find(document.root, "neutron_plugin_base"))
    return [name for name in plugins if name in AGENT_PLUGINS]
