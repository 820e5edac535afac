"""A local S3 server from a package, with a bucket, and the environment that leads there."""

import logging
import os
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

SECRET = "wJalrXUtnFEMI-not-a-real-key"


@contextmanager
def s3_bucket() -> Iterator[str]:
    """The URI of a folder in a new bucket; its server is found through the environment, as with any S3 of one's own."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    values = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "AKIA-not-a-real-one",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/bucket", method="PUT")).close()
    try:
        yield "s3://bucket/results"
    finally:
        server.stop()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
