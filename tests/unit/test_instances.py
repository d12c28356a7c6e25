"""What is read of the switch when instances start."""

from __future__ import annotations

from ovnshift.migration.instances import plugged_ports

# As ovs-vsctl 3.1 prints it: an instance, one whose link is down, one that was just plugged, a tunnel, and the bridge itself.
INTERFACES = (
    '{"data":[["tap63530a41",["map",[["attached-mac","fa:16:3e:78:53:58"],["iface-id","63530a41"],["iface-status","active"]]],"up"],'
    '["tapcf258d5f",["map",[["iface-id","cf258d5f"]]],"down"],["tap447ba259",["map",[["iface-id","447ba259"]]],["set",[]]],'
    '["br-int",["map",[]],"up"],["ovn-infra1-0",["map",[["ovn-chassis-id","infra1"]]],["set",[]]]],'
    '"headings":["name","external_ids","admin_state"]}'
)


def test_ports_are_plugged_with_the_state_of_their_links() -> None:
    assert plugged_ports(INTERFACES) == {
        "63530a41": ("tap63530a41", "up"),
        "cf258d5f": ("tapcf258d5f", "down"),
        "447ba259": ("tap447ba259", None),
    }


def test_a_switch_without_interfaces_has_none() -> None:
    assert plugged_ports('{"data":[],"headings":["name","external_ids","admin_state"]}') == {}
