"""The plan as a picture. Reads the SVG as XML, as a browser does."""

import base64
from pathlib import Path
from xml.etree import ElementTree as ET

from etl_defs.picture import as_markdown, picture
from tests.etl_defs.location import Location, copy
from tests.etl_defs.test_repository import TWO_TARGETS

SVG = "{http://www.w3.org/2000/svg}"


def _drawn(folder: Path, text: str, name: str) -> ET.Element:
    location = Location(folder, {"a.yaml": text})
    return ET.fromstring(picture(location.library.compiled(name).logical))  # noqa: S314 - made a line above


def _texts(drawn: ET.Element) -> list[str]:
    return [each.text or "" for each in drawn.iter(f"{SVG}text")]


def test_every_node_and_edge_is_drawn_and_the_cut_is_a_bar(tmp_path: Path) -> None:
    drawn = _drawn(tmp_path, TWO_TARGETS, "fan_out")
    assert _texts(drawn)[::2] == ["users", "named", "first", "second"]
    assert _texts(drawn)[1::2] == ["memory: copied", "filter", "memory: first", "memory: second"]
    assert len(list(drawn.iter(f"{SVG}path"))) == 3
    boxes = [each for each in drawn.iter(f"{SVG}rect") if each.get("rx")]
    places = {(each.get("x"), each.get("y")) for each in boxes}
    assert len(places) == len(boxes) == 4, "no box lies on another"
    assert len(list(drawn.iter(f"{SVG}rect"))) == 5, "four boxes and the bar behind the node with two consumers"


def test_signs_of_markup_are_text(tmp_path: Path) -> None:
    drawn = _drawn(tmp_path, copy("a", target='"<b>&x"'), "a")
    assert "memory: <b>&x" in _texts(drawn)


def test_markdown_holds_the_whole_picture() -> None:
    text = as_markdown("<svg/>")
    assert base64.b64decode(text.removesuffix(")").partition("base64,")[2]) == b"<svg/>"
