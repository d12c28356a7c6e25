"""The lab: a real LinuxBridge OpenStack cloud on one machine.

``python -m lab up`` builds it, ``python -m lab down`` removes every trace of it. The suite meets the lab as it meets any
other cloud, through the files that :mod:`lab.site` writes; nothing in the suite imports this package.
"""
