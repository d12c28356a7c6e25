"""Reads OVN's northbound and southbound databases through ovsdbapp."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ovs.db.idl
from ovs import stream
from ovsdbapp import exceptions
from ovsdbapp.backend.ovs_idl import connection as idl_connection

from ovnshift.errors import OvnshiftError
from ovnshift.ovn.rows import (
    Chassis,
    DhcpOptions,
    Nat,
    North,
    PortBinding,
    PortGroup,
    RouterPort,
    South,
    SwitchPort,
)
from ovnshift.site import Site

CONNECT_SECONDS = 10
READ_SECONDS = 60
NORTH_TABLES = (
    "ACL",
    "DHCP_Options",
    "Gateway_Chassis",
    "HA_Chassis",
    "HA_Chassis_Group",
    "Logical_Router",
    "Logical_Router_Port",
    "Logical_Switch",
    "Logical_Switch_Port",
    "NAT",
    "NB_Global",
    "Port_Group",
    "QoS",
)
SOUTH_TABLES = ("Chassis", "Chassis_Private", "Encap", "Port_Binding")
RULE_KEY = "neutron:security_group_rule_id"


class OvnError(OvnshiftError):
    """One of OVN's databases can't be read."""


def northbound(site: Site) -> North:
    """The northbound database at this moment.

    Raises:
        OvnError: it does not answer, or is none.
    """
    with _tables(site, "northbound", "OVN_Northbound", NORTH_TABLES) as tables:
        ports = {
            port.name: _switch_port(port, switch.name)
            for switch in tables["Logical_Switch"].rows.values()
            for port in switch.ports
        }
        router_ports = {
            port.name: _router_port(port, router.name)
            for router in tables["Logical_Router"].rows.values()
            for port in router.ports
        }
        return North(
            switches={each.name: dict(each.external_ids) for each in tables["Logical_Switch"].rows.values()},
            switch_ports=ports,
            routers={each.name: dict(each.external_ids) for each in tables["Logical_Router"].rows.values()},
            router_ports=router_ports,
            nats=tuple(
                Nat(router.name, nat.type, nat.external_ip, nat.logical_ip, dict(nat.external_ids))
                for router in tables["Logical_Router"].rows.values()
                for nat in router.nat
            ),
            port_groups={
                group.name: PortGroup(
                    group.name,
                    frozenset(port.name for port in group.ports),
                    len(group.acls),
                    frozenset(acl.external_ids[RULE_KEY] for acl in group.acls if RULE_KEY in acl.external_ids),
                )
                for group in tables["Port_Group"].rows.values()
            },
            limits=tuple(dict(each.external_ids) for each in tables["QoS"].rows.values()),
            number=max((each.nb_cfg for each in tables["NB_Global"].rows.values()), default=0),
            dhcp_options={
                str(each.uuid): DhcpOptions(str(each.uuid), each.cidr, dict(each.options), dict(each.external_ids))
                for each in tables["DHCP_Options"].rows.values()
            },
        )


def southbound(site: Site) -> South:
    """The southbound database at this moment.

    Raises:
        OvnError: it does not answer, or is none.
    """
    with _tables(site, "southbound", "OVN_Southbound", SOUTH_TABLES) as tables:
        numbers = {each.name: each.nb_cfg for each in tables["Chassis_Private"].rows.values()}
        return South(
            chassis={each.name: _chassis(each, numbers.get(each.name, 0)) for each in tables["Chassis"].rows.values()},
            bindings={
                each.logical_port: PortBinding(
                    each.logical_port,
                    each.type,
                    each.chassis[0].name if each.chassis else None,
                    bool(each.up) and bool(each.up[0]),
                )
                for each in tables["Port_Binding"].rows.values()
            },
        )


def _switch_port(port: Any, switch: str) -> SwitchPort:
    return SwitchPort(
        name=port.name,
        switch=switch,
        type=port.type,
        addresses=tuple(port.addresses),
        tag=port.tag[0] if port.tag else None,
        options=dict(port.options),
        up=bool(port.up[0]) if port.up else None,
        external_ids=dict(port.external_ids),
        dhcp_options=str(port.dhcpv4_options[0].uuid) if port.dhcpv4_options else None,
    )


def _router_port(port: Any, router: str) -> RouterPort:
    ranked = [(each.priority, each.chassis_name) for each in port.gateway_chassis]
    ranked += [(each.priority, each.chassis_name) for group in port.ha_chassis_group for each in group.ha_chassis]
    return RouterPort(
        name=port.name,
        router=router,
        mac=port.mac,
        networks=tuple(port.networks),
        chassis=tuple(name for _, name in sorted(ranked, reverse=True)),
        external_ids=dict(port.external_ids),
    )


def _chassis(each: Any, number: int) -> Chassis:
    # OVN from 22.09 on writes these to other_config only, older ones to external_ids.
    return Chassis(
        name=each.name,
        hostname=each.hostname,
        encaps=tuple(sorted((encap.type, encap.ip) for encap in each.encaps)),
        options={**each.external_ids, **each.other_config},
        number=number,
    )


@contextmanager
def _tables(site: Site, which: str, schema: str, tables: tuple[str, ...]) -> Iterator[Mapping[str, Any]]:
    remotes = site.ovn.northbound if which == "northbound" else site.ovn.southbound
    place = f"{which} database {remotes}"
    remedy = f"see ovn.{which} in the site file, and whether ovn-central runs there"
    site.check_way()
    if "ssl:" in remotes:
        stream.Stream.ssl_set_private_key_file(str(site.ovn.private_key))
        stream.Stream.ssl_set_certificate_file(str(site.ovn.certificate))
        stream.Stream.ssl_set_ca_cert_file(str(site.ovn.ca_certificate))
    # ovsdbapp waits for a server's schema without a bound; so only for one that answers.
    answering = [remote for remote in remotes.split(",") if _answers(remote)]
    if not answering:
        raise OvnError(place, f"no connection within {CONNECT_SECONDS} s", remedy)
    try:
        idl = idl_connection.OvsdbIdl.from_server(",".join(answering), schema, helper_tables=tables, leader_only=False)
        connection = idl_connection.Connection(idl, timeout=READ_SECONDS)
    except Exception as error:
        # ovsdbapp raises nothing more special than that when no server gives its schema.
        if type(error) is not Exception:
            raise
        raise OvnError(place, f"gives no schema {schema}: {error}", remedy) from error
    try:
        connection.start()
        yield idl.tables
    except (exceptions.OvsdbAppException, TimeoutError, ovs.db.idl.error.Error) as error:
        raise OvnError(place, f"could not be read: {error}", remedy) from error
    finally:
        if connection.is_running:
            connection.stop(CONNECT_SECONDS)
        else:
            idl.close()


def _answers(remote: str) -> bool:
    kind, _, rest = remote.partition(":")
    if kind == "unix":
        return Path(rest).is_socket()
    match = re.fullmatch(r"\[?([^\]]*)\]?:(\d+)", rest)
    if match is None:
        return False
    try:
        socket.create_connection((match[1], int(match[2])), timeout=CONNECT_SECONDS).close()
    except OSError:
        return False
    return True
