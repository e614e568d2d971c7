"""The test beds of deploy/ in short: hosts that fail, and two releases in one cluster."""

import os
import re
import unittest

import cluster
from cluster import DEPLOY, gateway, run


class Hosts(unittest.TestCase):
    def test_every_scene_accounts_for_every_job(self):
        if os.geteuid() != 0 or not os.path.exists("/dev/net/tun"):
            self.skipTest("network namespaces are made by root, and /dev/net/tun")
        text = run(DEPLOY / "hosts", "--jobs", "16", "--kirie", gateway.program())
        print(text)
        self.assertEqual(len(re.findall(r"^ +\d+ answers .* 0 wrong; accepted \d+, ended \d+ done", text, re.MULTILINE)), 10)

    def test_what_it_cannot_do_it_says(self):
        text = run(DEPLOY / "hosts", "--kirie", "/nowhere/kirie", ok=(1,))
        self.assertEqual(text, "")


class Upgrade(unittest.TestCase):
    def test_failovers_are_counted(self):
        """The bounds of each setting, with few jobs; the script itself holds what is lost against them."""
        text = run(DEPLOY / "failover", "--seconds", "6", "--rate", "30", "--kirie", gateway.program())
        print(text)
        for word in ["plain", "wait", "min-replicas", "cluster", "cluster-wait", "reshard"]:
            self.assertRegex(text, rf"(?m)^{word} +accepted 180, answered \d+, lost \d+")

    def test_two_releases_in_one_cluster(self):
        """With $KIRIE_OLDER, a program or a revision; else this build beside itself, so that the bed stays sound."""
        older = os.environ.get("KIRIE_OLDER") or gateway.program()
        text = run(DEPLOY / "upgrade", "--older", older, "--newer", gateway.program(), "--jobs", "8")
        print(text)
        for word in ["functions", "heartbeats", "mixed", "records-1", "records-2", "rolling", "weights", "downgrade"]:
            self.assertRegex(text, rf"(?m)^{word} ")
        self.assertRegex(text, r"(?m)^count .*left \{\}$")


if __name__ == "__main__":
    unittest.main()
