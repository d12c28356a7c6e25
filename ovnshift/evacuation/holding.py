"""Whether an L3 agent that is disabled keeps what it has."""

from __future__ import annotations

from ovnshift.migration.window import Window

SETTING = "enable_services_on_agents_with_admin_state_down"
# The last word of what oslo.config would read, in the order in which neutron-server is given its files.
_FILES = ("/etc/neutron/neutron.conf", "/etc/neutron/plugins/ml2/ml2_conf.ini")
_TRUE = {"true", "1", "on", "yes", "t", "y"}


def value_of(text: str) -> bool | None:
    """What a configuration file says of the setting, in ``[DEFAULT]``; None where it does not."""
    found, section = None, ""
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("["):
            section = stripped.strip("[]").strip()
        name, equals, value = stripped.partition("=")
        if equals and section == "DEFAULT" and name.strip() == SETTING:
            found = value.strip().lower() in _TRUE
    return found


def serves_when_disabled(window: Window) -> tuple[bool, str]:
    """Whether every control host's Neutron lets a disabled agent keep its routers; and what was seen.

    Neutron's default is that it does not: at the agent's next synchronisation it is given no routers, and drops all of them
    (``services_available`` in neutron/db/agentschedulers_db.py).

    Raises:
        HostError: a control host could not be asked.
    """
    hosts = window.site.group("control")
    if not hosts:
        return False, "groups.control of the site file is empty, so that Neutron's configuration could not be read"
    said = {}
    for host in hosts:
        found = False
        for path in _FILES:
            result = window.fleet[host].run("cat", path)
            value = value_of(result.text) if result.returncode == 0 else None
            found = found if value is None else value
        said[host] = found
    return all(said.values()), ", ".join(f"{host}: {SETTING} = {value}" for host, value in said.items())
