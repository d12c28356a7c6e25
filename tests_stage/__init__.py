"""Before the window: the deployer's files say what the deployment of OVN needs."""
