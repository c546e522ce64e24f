#!/usr/bin/env python3
"""moto's server where a program of Garage is expected: it listens where Garage's configuration says, and has the
bucket that Garage would make. Called as

    garage_stand_in.py -c CONFIG server --single-node --default-bucket
"""

import os
import sys
import tomllib

from moto.s3.models import s3_backends
from moto.server import main as serve


def main():
    with open(sys.argv[2], "rb") as file:
        api = tomllib.load(file)["s3_api"]
    host, _, port = api["api_bind_addr"].rpartition(":")
    # In this process, so that it is there before anybody can connect.
    backend = s3_backends["123456789012"]["aws"]
    backend.create_bucket(os.environ["GARAGE_DEFAULT_BUCKET"], api["s3_region"])
    serve(["-H", host, "-p", port])


if __name__ == "__main__":
    main()
