from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from ovnshift.deployments.openstack_ansible import edits, inventory
from ovnshift.deployments.openstack_ansible.directory import (
    ENV_NEUTRON,
    ENV_NOVA,
    INVENTORY,
    NETWORK_HOSTS,
    USER_CONFIG,
    USER_VARIABLES,
)
from ovnshift.deployments.openstack_ansible.document import Document, EditRefused
from ovnshift.deployments.openstack_ansible.release import SUPPORTED
from tests.unit.osa.deploy_host import after, before

PLACE = "/etc/openstack_deploy/file"
HOLDS = SUPPORTED[-1].compute_holds
EDITS: dict[str, Callable[[str], str]] = {
    USER_VARIABLES: lambda text: edits.user_variables(text, PLACE),
    NETWORK_HOSTS: lambda text: edits.network_hosts(text, PLACE),
    ENV_NEUTRON: lambda text: edits.env_neutron(text, PLACE, northd_in="network_containers"),
    ENV_NOVA: lambda text: edits.env_nova(text, PLACE, compute_holds=HOLDS),
    USER_CONFIG: lambda text: edits.user_config(text, PLACE, rename={"br-vlan": "br-ex"}),
    INVENTORY: lambda text: inventory.without_agents(text, PLACE),
}


@pytest.mark.parametrize("name", EDITS)
def test_the_files_before_become_the_files_after_and_nothing_else_changes(name: str) -> None:
    assert EDITS[name](before(name)) == after(name)
    assert before(name) != after(name)


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_file_stays_as_it_is(name: str) -> None:
    assert EDITS[name](after(name)) == after(name)


@pytest.mark.parametrize("name", [ENV_NOVA, USER_CONFIG])
@pytest.mark.parametrize("seed", range(8))
def test_a_half_edited_file_is_finished(name: str, seed: int) -> None:
    """Some lines of the difference were taken over by hand already."""
    chance = random.Random(seed)  # noqa: S311
    lines = zip(before(name).splitlines(True), after(name).splitlines(True), strict=True)
    assert EDITS[name]("".join(chance.choice(pair) for pair in lines)) == after(name)


@pytest.mark.parametrize("group", inventory.AGENT_GROUPS)
def test_a_half_edited_inventory_is_finished(group: str) -> None:
    half = json.loads(before(INVENTORY))
    half[group]["hosts"] = []
    assert json.loads(EDITS[INVENTORY](json.dumps(half, indent=4))) == json.loads(after(INVENTORY))


@pytest.mark.parametrize("name", [each for each in EDITS if each != INVENTORY])
def test_a_file_without_a_last_line_end_is_edited(name: str) -> None:
    assert yaml.safe_load(EDITS[name](before(name).rstrip("\n"))) == yaml.safe_load(after(name))


@pytest.mark.parametrize("name", [NETWORK_HOSTS, ENV_NEUTRON, ENV_NOVA])
@pytest.mark.parametrize("text", ["", "---\n", "# nothing yet\n"])
def test_a_file_that_is_not_there_is_made(name: str, text: str) -> None:
    made = EDITS[name](text)
    assert made.startswith(text)
    assert EDITS[name](made) == made
    assert yaml.safe_load(made)


def refused(edit: Callable[[], Any], line: int | None, says: str) -> None:
    with pytest.raises(EditRefused, match=says) as caught:
        edit()
    assert caught.value.place == (PLACE if line is None else f"{PLACE}, line {line}")
    assert caught.value.next_step


@pytest.mark.parametrize("name", [each for each in EDITS if each != INVENTORY])
@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "the key 'a' again, which stands in line 1"),
        ("x:\n  - deep:\n      a: 1\n      'a': 3\n", 4, "the key 'a' again, which stands in line 3"),
        ("a: 1\n---\nb: 2\n", 2, "several documents"),
        ("a:\n\tb: 1\n", 2, "is no YAML.*'\\\\t'"),
        ("a: [1\nb: 2\n", 2, "is no YAML"),
        ("a: {{ b }}\nc: *nowhere\n", 2, "is no YAML"),
        ("- a\n- b\n", 1, "is no mapping"),
        ("a: 1\r\nb: 2\r\n", 1, "Windows"),
        ("\ufeffa: 1\n", 1, "byte-order mark"),
        ("a: \x01\n", None, "is no YAML"),
        ("a: &x\n  b: *x\n", 1, "holds itself"),
    ],
)
def test_what_is_no_sound_yaml_is_refused_with_its_line(name: str, text: str, line: int | None, says: str) -> None:
    refused(lambda: EDITS[name](text), line, says)


# user_variables.yml


def variables(text: str) -> str:
    return edits.user_variables(text, PLACE)


REST = "neutron_plugin_base: [ovn-router, qos]\nneutron_ml2_drivers_type: geneve\n"


@pytest.mark.parametrize("quoted", ["ml2.lxb", "'ml2.lxb'", '"ml2.lxb"', "ml2.lxb   # as ever"])
def test_the_plugin_keeps_its_quotes_and_comment(quoted: str) -> None:
    text = f"neutron_plugin_type:  {quoted}\n{REST}"
    assert variables(text) == text.replace("lxb", "ovn")


@pytest.mark.parametrize("kind", ["ml2.ovs", "ml2.ovs.dvr", "'{{ our_plugin }}'", "7"])
def test_another_plugin_is_refused(kind: str) -> None:
    refused(lambda: variables(f"---\n\nneutron_plugin_type: {kind}\n"), 3, "neither ml2.lxb nor ml2.ovn")


@pytest.mark.parametrize(
    ("plugins", "wanted"),
    [
        ("\n  - router\n  - metering\n", "\n  - {0}\n  - metering\n  - qos\n"),
        ("\n- 'router' # L3\n- 'qos'\n", "\n- '{0}' # L3\n- 'qos'\n"),
        ("\n- trunk\n\n# and\n- qos\n", "\n- trunk\n\n# and\n- qos\n- {0}\n"),
        ("\n  - router\n  - ovn-router\n  - qos\n", "\n  - ovn-router\n  - qos\n"),
        ("\n  - ovn-router\n  - qos\n", "\n  - ovn-router\n  - qos\n"),
        (" [router, qos]\n", " [{0}, qos]\n"),
        (" [ metering,router ]  # x\n", " [ metering,{0}, qos ]  # x\n"),
        ('\n    - "router"\n', '\n    - "{0}"\n    - "qos"\n'),
    ],
)
def test_service_plugins_are_kept_but_for_the_router(plugins: str, wanted: str) -> None:
    text = "neutron_plugin_type: ml2.ovn\nneutron_plugin_base:{}neutron_ml2_drivers_type: geneve\nz: 1\n"
    assert variables(text.format(plugins)) == text.format(wanted.format(edits.OVN_ROUTER))


@pytest.mark.parametrize(
    ("types", "wanted"),
    [
        ('"vxlan,vlan,flat"', '"geneve,vxlan,vlan,flat"'),
        ("'flat,vlan'", "'geneve,flat,vlan'"),
        ("vxlan", '"geneve,vxlan"'),
        ('"vlan, geneve"', '"vlan, geneve"'),
    ],
)
def test_geneve_comes_before_the_types_that_are_there(types: str, wanted: str) -> None:
    text = "neutron_plugin_type: ml2.ovn\nneutron_plugin_base: [ovn-router, qos]\nneutron_ml2_drivers_type: {}\n"
    assert variables(text.format(types)) == text.format(wanted)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("a: &k ml2.lxb\nneutron_plugin_type: *k\n", 1, "below the anchor &k, which line 2 uses too"),
        ("neutron_plugin_type: &k ml2.lxb\na: *k\n", 1, "below the anchor &k, which line 2 uses too"),
        ("neutron_plugin_type: &k ml2.lxb\n", 1, "a block, a tag or an anchor"),
        ("neutron_plugin_type: !unsafe ml2.lxb\n", 1, "a block, a tag or an anchor"),
        ("neutron_plugin_type: [ml2.lxb]\n", 1, "a list or a mapping where a single value"),
        ("neutron_plugin_type: ml2.ovn\nneutron_plugin_base: router\n", 2, "is no list"),
        ("neutron_plugin_type: ml2.ovn\nneutron_plugin_base: []\n", 2, "is empty"),
        ("p: &p [router]\nneutron_plugin_base: *p\nneutron_plugin_type: ml2.ovn\n", 1, "below the anchor &p"),
        ("b: &b {x: 1}\n<<: *b\n", 2, "merges keys from elsewhere"),
        (f"neutron_plugin_type: ml2.ovn\n{REST}neutron_provider_networks:\n  network_types: vxlan\n", 4, "VXLAN"),
        (
            "neutron_plugin_type: ml2.ovn\nneutron_plugin_base: [ovn-router, qos]\nneutron_ml2_drivers_type: '{{ a }}'\n",
            3,
            "is a template",
        ),
        ("neutron_plugin_type: ml2.lxb\n...\n", 3, r"ends its document \(\.\.\.\)"),
    ],
)
def test_variables_that_can_not_be_edited_safely_are_refused(text: str, line: int, says: str) -> None:
    refused(lambda: variables(text), line, says)


def test_an_anchor_that_no_edit_touches_is_no_obstacle() -> None:
    text = f"a: &k\n  - 1\nb: *k\nneutron_plugin_type: ml2.lxb\n{REST}"
    assert variables(text) == text.replace("lxb", "ovn")


def test_an_anchor_that_is_given_twice_is_no_obstacle() -> None:
    text = f"a: &k 1\nb: *k\nc: &k 2\nd: *k\nneutron_plugin_type: ml2.lxb\n{REST}"
    assert variables(text) == text.replace("lxb", "ovn")


def test_a_block_that_keeps_its_last_lines_is_not_lengthened() -> None:
    text = f"{REST}motd: |+\n  text\n"
    refused(lambda: variables(text), 4, "would change something else")


def test_an_empty_value_is_filled() -> None:
    text = "neutron_plugin_type:   # which?\nneutron_plugin_base: ~\nneutron_ml2_drivers_type: geneve\n"
    assert yaml.safe_load(variables(text)) == {
        "neutron_plugin_type": "ml2.ovn",
        "neutron_plugin_base": [edits.OVN_ROUTER, "qos"],
        "neutron_ml2_drivers_type": "geneve",
    }
    assert "# which?" in variables(text)


# env.d


def test_other_agents_of_the_container_stay() -> None:
    head = "container_skel:\n  neutron_agents_container:\n    contains:\n"
    text = head + "      # ours\n      - neutron_l3_agent\n      - neutron_bgp_dragent\n"
    made = yaml.safe_load(EDITS[ENV_NEUTRON](text))
    assert made["container_skel"]["neutron_agents_container"] == {"contains": ["neutron_bgp_dragent"]}
    assert "      # ours\n" in EDITS[ENV_NEUTRON](text)


@pytest.mark.parametrize(
    ("contains", "wanted"),
    [
        ("\n    - neutron_agent # a\n    # b\n    - neutron_l3_agent\n", " {}\n    # b\n"),
        (" [neutron_agent, neutron_l3_agent]  # all\n", " {}  # all\n"),
        (" # all\n    - neutron_agent\n", " {} # all\n"),
        (" []\n", " []\n"),
        (" {}\n", " {}\n"),
    ],
)
def test_a_container_loses_its_agents_but_not_its_comments(contains: str, wanted: str) -> None:
    there = "{belongs_to: [neutron_all]}\n"
    head = f"component_skel:\n  neutron_ovn_controller: {there}  neutron_ovn_northd: {there}"
    body = "container_skel:\n  neutron_agents_container:\n    contains:"
    tail = "  x:\n    properties: {}\n"
    assert edits.env_neutron(head + body + contains + tail, PLACE, northd_in=None) == head + body + wanted + tail


def test_hosts_of_their_own_for_northd_are_left_to_the_deployer() -> None:
    made = yaml.safe_load(edits.env_neutron("", PLACE, northd_in=None))
    assert made["container_skel"] == {"neutron_agents_container": {"contains": {}}}


def test_a_container_for_northd_that_is_there_is_kept() -> None:
    text = "container_skel:\n  neutron_ovn_northd_container:\n    belongs_to: [ours]\n    contains: []\n"
    made = yaml.safe_load(EDITS[ENV_NEUTRON](text))
    assert made["container_skel"]["neutron_ovn_northd_container"] == {
        "belongs_to": ["ours"],
        "contains": ["neutron_ovn_northd"],
    }


def test_a_container_with_an_empty_value_is_filled() -> None:
    text = "container_skel:\n  neutron_agents_container:\n    contains:   # none\n  x:\n"
    made = edits.env_neutron(text, PLACE, northd_in=None)
    assert made.endswith(text.replace("contains:", "contains: {}"))


def test_hypervisors_keep_their_other_components() -> None:
    text = "container_skel:\n  nova_compute_container:\n    contains: [neutron_linuxbridge_agent, neutron_ovn_controller, ours]\n"
    assert EDITS[ENV_NOVA](text) == text.replace("neutron_linuxbridge_agent, ", "")


def test_hypervisors_are_gateways_by_themselves_in_zed_only() -> None:
    made = {
        release.series: yaml.safe_load(edits.env_nova("", PLACE, compute_holds=release.compute_holds))
        for release in SUPPORTED
    }
    gateways = [
        series
        for series, text in made.items()
        if "neutron_ovn_gateway" in text["container_skel"]["nova_compute_container"]["contains"]
    ]
    assert gateways == ["zed"]


# openstack_user_config.yml


def config(text: str, **rename: str) -> str:
    return edits.user_config(text, PLACE, rename={key.replace("_", "-"): value for key, value in rename.items()})


def networks(*bodies: str) -> str:
    head = "global_overrides:\n  provider_networks:\n"
    return head + "".join(f"    - network:\n{re.sub('(?m)^', '        ', body.strip())}\n" for body in bodies)


VXLAN = 'container_bridge: br-vxlan\ntype: vxlan\nnet_name: "tenants"\ngroup_binds:\n- neutron_linuxbridge_agent'
FLAT = "container_bridge: br-flat\nhost_bind_override: eth1\ntype: flat\ngroup_binds: [neutron_linuxbridge_agent]"


def test_bridges_keep_their_names_unless_it_is_asked_for() -> None:
    assert 'container_bridge: "br-vlan"' in config(before(USER_CONFIG))
    assert config(before(USER_CONFIG), br_vlan="br-ex") == after(USER_CONFIG)


def test_a_network_that_has_a_name_of_its_own_keeps_it() -> None:
    wanted = networks(VXLAN.replace("type: vxlan", "type: geneve").replace("linuxbridge_agent", "ovn_controller"))
    assert config(networks(VXLAN)) == wanted


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("a: 1\n", 1, "no network under global_overrides.provider_networks"),
        (
            networks(VXLAN, VXLAN.replace("type: vxlan", "type: geneve")),
            4,
            "and there is a geneve one in line 10 already",
        ),
        (networks(FLAT + "\nnetwork_interface: eth2"), 5, "host_bind_override is eth1 and network_interface is eth2"),
        ("d: &d {type: flat}\n" + networks(f"<<: *d\n{VXLAN}"), 5, "merges keys from elsewhere"),
        (
            "d: &d\n  - neutron_linuxbridge_agent\n" + networks("group_binds: *d\ntype: flat"),
            2,
            "below the anchor &d, which line 6",
        ),
        (networks("type: flat\ngroup_binds: neutron_linuxbridge_agent"), 5, "is no list"),
        ("global_overrides: 7\n", 1, "is no mapping"),
    ],
)
def test_networks_that_can_not_be_edited_safely_are_refused(text: str, line: int, says: str) -> None:
    refused(lambda: config(text), line, says)


def test_a_bridge_that_is_nowhere_is_not_renamed() -> None:
    refused(lambda: config(networks(FLAT), br_vlan="br-ex"), 1, "no network of Neutron's has the bridge br-vlan")


def test_the_same_interface_under_both_names_is_kept_once() -> None:
    text = networks("network_interface: eth1\n" + FLAT)
    assert config(text) == text.replace("        host_bind_override: eth1\n", "").replace(
        "linuxbridge_agent", "ovn_controller"
    )


def test_a_network_of_somebody_elses_is_left_alone() -> None:
    other = "container_bridge: br-vxlan\ntype: vxlan\nhost_bind_override: eth9\ngroup_binds: [octavia_worker]"
    text = networks(other, FLAT)
    assert config(text).startswith(networks(other))


@pytest.mark.parametrize("indent", [2, 4, 7])
def test_any_indentation_stays(indent: int) -> None:
    text = yaml.dump({"global_overrides": {"provider_networks": [{"network": yaml.safe_load(VXLAN)}]}}, indent=indent)
    changed = [pair for pair in zip(text.splitlines(), config(text).splitlines(), strict=True) if pair[0] != pair[1]]
    assert [(old.strip(), new.strip()) for old, new in changed] == [
        ("- neutron_linuxbridge_agent", "- neutron_ovn_controller"),
        ("type: vxlan", "type: geneve"),
    ]


def test_networks_without_an_interface_are_told() -> None:
    assert edits.loose_networks(after(USER_CONFIG), PLACE) == ["line 42: br-ex"]


def test_a_bridge_that_another_network_plugs_an_interface_into_is_not_told() -> None:
    vlan = "container_bridge: br-flat\ntype: vlan\ngroup_binds: [neutron_ovn_controller]"
    assert edits.loose_networks(config(networks(FLAT, vlan)), PLACE) == []
    assert edits.loose_networks(networks(vlan), PLACE) == ["line 4: br-flat"]


def test_networks_that_are_bound_to_other_groups_are_told() -> None:
    text = networks(FLAT, "container_bridge: br-lbaas\ntype: flat\ngroup_binds: [octavia_worker]")
    assert edits.other_networks(config(text), PLACE) == ["line 9: br-lbaas, of type flat"]
    assert edits.other_networks(after(USER_CONFIG), PLACE) == []


# group_vars/network_hosts


@pytest.mark.parametrize(
    "there",
    [
        "  - name: br_netfilter\n    pattern: CONFIG_BRIDGE\n",
        "- name: br_netfilter # x\n  pattern: CONFIG_BRIDGE\n\nz: 1\n",
    ],
)
def test_another_module_stays_before_ours(there: str) -> None:
    made = EDITS[NETWORK_HOSTS](f"openstack_host_specific_kernel_modules:\n{there}")
    modules = yaml.safe_load(made)["openstack_host_specific_kernel_modules"]
    assert modules == [{"name": "br_netfilter", "pattern": "CONFIG_BRIDGE"}, edits.MODULE]
    assert all(line in made.splitlines() for line in there.splitlines())


# Editing by place, in general


def test_any_mixture_of_styles_keeps_its_lines() -> None:
    """Made-up files: what an edit does not name is there afterwards, in the same order, to the byte."""
    pieces = [
        "a{}: 1   # one",
        "b{}:\n- x\n-   y",
        "c{}: {{p: [1, 2], q: 'it''s'}}",
        "d{}: >-\n   folded\n   text",
        "# note {}",
        "",
        'e{}: "q\\""',
    ]
    for seed in range(60):
        chance = random.Random(seed)  # noqa: S311
        filler = [chance.choice(pieces).format(number) for number in range(12)]
        filler.insert(chance.randrange(12), "neutron_plugin_type: ml2.lxb")
        text = "\n".join(filler) + "\n"
        made = variables(text)
        kept = text.replace("ml2.lxb", "ml2.ovn")
        assert made.startswith(kept)
        assert yaml.safe_load(made) == {
            **yaml.safe_load(kept),
            "neutron_plugin_base": [edits.OVN_ROUTER, "qos"],
            "neutron_ml2_drivers_type": edits.DRIVERS,
        }


def test_a_document_without_edits_is_the_same_text() -> None:
    assert Document(before(USER_CONFIG), PLACE).render() == before(USER_CONFIG)


MARKS = (
    '"',
    "'",
    ":",
    "-",
    "&a ",
    "*a",
    "{",
    "}",
    "[",
    "]",
    "#",
    "\t",
    " ",
    "\n",
    "!x ",
    "|",
    ">",
    "<<: *a\n",
    "? ",
    "~",
    ", ",
)


@pytest.mark.parametrize("name", EDITS)
def test_files_that_were_spoilt_at_random_are_refused_or_come_out_right(name: str) -> None:
    outcomes = set()
    for seed in range(40):
        chance = random.Random(seed)  # noqa: S311
        text = chance.choice((before, after))(name)
        for _ in range(chance.randint(1, 2)):
            place = chance.randrange(len(text))
            text = text[:place] + chance.choice(MARKS) + text[place + chance.choice((0, 0, 3)) :]
        try:
            made = EDITS[name](text)
        except EditRefused as error:
            outcomes.add("refused" if error.place.startswith(PLACE) else error.place)
        else:
            assert EDITS[name](made) == made
            outcomes.add("edited")
    assert outcomes == {"refused", "edited"}


# openstack_inventory.json


def test_groups_on_one_line_are_emptied() -> None:
    text = '{"_meta": {}, "neutron_l3_agent": {"children": [], "hosts": ["a", "b"]}, "x": {"hosts": ["a"]}}'
    assert inventory.without_agents(text, PLACE) == text.replace('["a", "b"]', "[]")


def test_groups_that_somebody_made_by_hand_stay() -> None:
    assert json.loads(EDITS[INVENTORY](before(INVENTORY)))["our_rack_b"] == {
        "children": ["neutron_l3_agent"],
        "hosts": ["compute2"],
    }


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ('{"_meta": {},\n"neutron_l3_agent": {"children": ["ours"], "hosts": []}}', 2, "has the groups ours below it"),
        ('{"_meta": {},\n"neutron_l3_agent": ["a"]}', 2, "is no group"),
        ('{"_meta": {},\n"neutron_l3_agent": {"hosts": {"a": 1}}}', 2, "are no list"),
        ('{"_meta": {},\n"a": 1,\n"a": 2}', 3, "the key 'a' twice"),
        ('{"_meta": {},\n', 2, "is no JSON"),
        ("[]", None, "is no inventory"),
        ("", 1, "is no JSON"),
    ],
)
def test_an_inventory_that_can_not_be_edited_safely_is_refused(text: str, line: int | None, says: str) -> None:
    refused(lambda: inventory.without_agents(text, PLACE), line, says)


def test_members_are_those_of_the_groups_below_as_well() -> None:
    found = json.loads(before(INVENTORY))
    assert inventory.members(found, "our_rack_b") == {"compute2", "infra1", "infra2", "infra3"}
    assert inventory.members(found, "nobody") == set()
    found["neutron_l3_agent"]["children"] = ["our_rack_b"]
    assert inventory.members(found, "our_rack_b") == {"compute2", "infra1", "infra2", "infra3"}
