"""Limits, bandwidth and slow readers, the end of connections by hand, and servers that fail, with clients that speak TLS."""
import over_tls

over_tls.run(
    "client",
    test_limits=("Exact", "Descriptors"),
    test_door=("Bandwidth", "Slow"),
    test_connections=("Live",),
    test_pressure=over_tls.ALL,
    test_in_place=("Listeners",),
    test_addresses=over_tls.ALL,
    # What is asked of the API, what is about the servers' side, and what takes long to say nothing more.
    without=("Live.test_filters_and_limits", "Live.test_many", "Kinds.test_server_by_host_name", "Bandwidth.test_over_hot_connections",
             "Slow.test_slow_because_of_the_bandwidth"))
