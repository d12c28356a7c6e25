"""Programs that run on hosts for this scenario: see ovnshift.hosts.programs."""
