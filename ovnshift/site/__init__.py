"""The one file that an operator writes: which cloud, how to reach its parts, and what is allowed."""

from ovnshift.site.load import SiteError, load
from ovnshift.site.models import Guest, Site

__all__ = ["Guest", "Site", "SiteError", "load"]
