"""What a bad server, a full one or one that recovers does to clients that speak TLS. How servers are chosen is for test_shield.py alone."""
import over_tls

over_tls.run("client", test_shield=("Killed", "Breaker", "Down", "Limits", "Affinity"))
