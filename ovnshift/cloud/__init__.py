"""What Neutron and Nova say exists."""

from ovnshift.cloud.discovery import PATIENCE, CloudError, connect, discover, impatient, retried
from ovnshift.cloud.topology import Topology

__all__ = ["PATIENCE", "CloudError", "Topology", "connect", "discover", "impatient", "retried"]
