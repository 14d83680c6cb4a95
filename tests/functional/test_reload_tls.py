"""Reloads, drains, stops and upgrades under clients that speak TLS."""
import over_tls

over_tls.run(
    "client",
    test_reload=over_tls.ALL,
    test_signals=("Stop", "Drain", "MasterKilled"),
    test_regressions=("Listeners", "Drains"),
    test_upgrade=("Upgrades",),
    # How ports are shared, who is asked for what, and the tools.
    without=("Drain.test_titles", "MasterKilled.test_counters_from_before_a_restart_of_the_machine", "Listeners.test_other_spellings_of_an_address",
             "Upgrades.test_under_load_io_uring", "Upgrades.test_wrk", "Upgrades.test_commands_go_on", "Upgrades.test_admin_api_goes_on",
             "Upgrades.test_access_log"))
