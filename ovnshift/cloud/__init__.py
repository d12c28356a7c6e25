"""What Neutron and Nova say exists."""

from ovnshift.cloud.discovery import CloudError, connect, discover, retried
from ovnshift.cloud.topology import Topology

__all__ = ["CloudError", "Topology", "connect", "discover", "retried"]
