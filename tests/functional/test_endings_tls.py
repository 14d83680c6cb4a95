"""Each way in which a connection with TLS can end as one without TLS can, and what is told of it."""
import over_tls

over_tls.run(
    "client",
    test_endings=("Endings",),
    without=["Endings.test_" + name for name in (
        # Said before TLS, or instead of it.
        "hello_timeout", "hello_too_large", "bad_hello", "no_route", "client_left", "server_no_tls",
        "denied_behind_a_proxy", "proxy_header", "proxy_timeout", "proxy_left", "bad_challenge", "challenge_answered", "challenge_timeout",
        "challenge_lost", "challenge_grown", "no_challenge", "answered", "requests_reached", "connect_rate",  # of UDP
        "no_ports")])  # of the server's side
