"""The pictures of the pages are there, in the release too, and are pictures."""
import os
import pathlib
import re
import unittest
import xml.etree.ElementTree

SOURCE = pathlib.Path(os.environ["AEGIS_SRCDIR"])
PAGES = [SOURCE / "README.md", *sorted((SOURCE / "doc").glob("*.md"))]
PICTURE = re.compile(r"!\[([^]]*)\]\(([^):]+)\)|<img[^>]* src=\"([^\":]+)\"")


class Pictures(unittest.TestCase):
    def test_each_is_a_picture(self):
        listed = "".join(path.read_text(encoding="utf-8") for path in SOURCE.glob("*/Makefile.inc"))
        found = 0
        for page in PAGES:
            for text, name, other in PICTURE.findall(page.read_text(encoding="utf-8")):
                with self.subTest(page=page.name, picture=name or other):
                    path = (page.parent / (name or other)).resolve()
                    self.assertIn(str(path.relative_to(SOURCE.resolve())), listed, "make dist would leave it out")
                    self.assertTrue(text or other, "it has no words for those who cannot see it")
                    start = path.read_bytes()[:4096]
                    if path.suffix == ".svg":
                        self.assertEqual(xml.etree.ElementTree.parse(path).getroot().tag, "{http://www.w3.org/2000/svg}svg")
                    else:
                        self.assertTrue(start.startswith((b"\x89PNG\r\n", b"\xff\xd8\xff")), "neither PNG nor JPEG")
                    found += 1
        self.assertGreater(found, 0)


if __name__ == "__main__":
    unittest.main()
