"""Past one machine, on Ray (``--ray``): ``cluster.connect``, ``cluster.in_blocks``, ``Cluster.reader``."""
