"""test_health.py with servers that speak TLS: what is checked is what clients get."""
import over_tls

over_tls.run("server", test_health=("Clients", "Kinds", "Reloads"))
