"""What deploy/examples/README.md shows is run as it stands there."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

from gateway import PHOTO, ROOT, Gateway

DOCUMENT = ROOT / "deploy" / "examples" / "README.md"


class ExampleTests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.gateway = Gateway()
        cls.folder = tempfile.TemporaryDirectory()
        shutil.copy(PHOTO, f"{cls.folder.name}/photo.jpg")
        cls.blocks = re.findall(r"```(sh|python)\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)

    @classmethod
    def tearDownClass(cls):
        cls.gateway.stop()
        cls.folder.cleanup()

    def run_block(self, kind, text):
        text = text.replace("http://127.0.0.1:8080", self.gateway.url)
        command = ["bash", "-euo", "pipefail", "-c"] if kind == "sh" else [sys.executable, "-W", "ignore", "-c"]
        done = subprocess.run([*command, text], cwd=self.folder.name, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.strip()

    def test_each(self):
        outputs = [(kind, text, self.run_block(kind, text)) for kind, text in self.blocks]
        self.assertEqual([kind for kind, _, _ in outputs], ["python", "sh", "sh", "sh"])
        model = self.gateway.exchange("/v1/capabilities")[2]["models"][0]["name"]
        for kind, text, output in outputs:
            self.assertIn(model, output, text)
        shell = [json.loads(output) for kind, _, output in outputs if kind == "sh"]
        self.assertEqual(shell[0][1], [768, 1024])
        self.assertEqual(shell[1][1], "brushlabels")
        self.assertGreater(shell[1][2], 20)
        self.assertEqual(shell[2][1:], [768, 1024])


if __name__ == "__main__":
    unittest.main()
