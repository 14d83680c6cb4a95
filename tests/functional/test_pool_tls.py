"""test_pool.py with clients that speak TLS: framing, retries and giving back are about what is inside."""
import os

os.environ["AEGIS_TEST_TLS"] = "client"

import aegis
from test_pool import *
from papers import need_tls

need_tls()

if __name__ == "__main__":
    aegis.main()
