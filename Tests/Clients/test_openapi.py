"""The description of the interface, held against the gateway by schemathesis: no server error, no undocumented answer."""

import os
import random
import subprocess
import sys
import unittest

import gateway

CHECKS = [
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "negative_data_rejection", "unsupported_method",
]


class OpenAPI(unittest.TestCase):
    def test_no_server_error_and_no_undocumented_answer(self):
        kirie = gateway.Gateway()
        self.addCleanup(kirie.stop)
        # Whatever is asked for by name is there.
        for seed in range(3):
            kirie.exchange("/v1/images", gateway.picture(seed), {"Content-Type": "image/png"})
        seed = os.environ.get("SEED", str(random.randrange(1 << 32)))
        print(f"seed {seed}", flush=True)
        # A query that is longer than a head may be is refused for that, before anybody looks what is in it. Who gives a job a
        # tenth of a second to live may hear that it was not done by then, which is 504.
        with open(os.path.join(kirie.folder, "schemathesis.toml"), "w") as file:
            file.write('[checks]\nnegative_data_rejection.expected-statuses = ["4xx", "5xx"]\n'
                       'not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "504"]\n')
        # Streams of events go on for as long as somebody listens, and nobody tells schemathesis how to write a jobs file:
        # test_api.py does both.
        done = subprocess.run(
            [os.path.join(os.path.dirname(sys.executable), "st"), "run", f"{kirie.url}/openapi.json",
             "--exclude-path-regex", "events$|^/v1/jobs$", "--checks", ",".join(CHECKS), "--max-examples", "30", "--seed", seed,
             "--request-timeout", "120", "--suppress-health-check", "all", "--no-color"],
            capture_output=True, text=True, cwd=kirie.folder, timeout=1200)
        self.assertEqual(done.returncode, 0, done.stdout[-6000:] + done.stderr[-2000:])


if __name__ == "__main__":
    unittest.main()
