"""test_timeouts.py with clients that speak TLS."""
import os

os.environ["AEGIS_TEST_TLS"] = "client"

import aegis
from test_timeouts import *
from papers import need_tls

need_tls()

if __name__ == "__main__":
    aegis.main()
