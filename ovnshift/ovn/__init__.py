"""What OVN's databases hold."""

from ovnshift.ovn.databases import OvnError, northbound, southbound
from ovnshift.ovn.rows import North, South

__all__ = ["North", "OvnError", "South", "northbound", "southbound"]
