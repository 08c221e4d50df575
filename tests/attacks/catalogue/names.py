"""Names that speak to a browser, a terminal or a CI log: in what the command says, each is harmless."""

from functools import partial

import certificates as c
from registry import attack
from scene import Scene, header_of, tensors

from catalogue.ledger import columns_of, rewrite
from catalogue.weights import NAME, NORM

SPEAKING = {
    "markup": '"><script>alert(1)</script>',
    "an attribute": "' onmouseover='alert(1)",
    "a command of CI": "::error::owned",
    "an older command of CI": "##[error]owned",
    "a command of another CI": "##vso[task.complete]owned",
    "a template": "{{ 7 * 7 }}{% raw %}",
}
CONTROLLING = {
    "an escape": "\x1b[2J",
    "a link": "\x1b]8;;http://x\x07y",
    "a line break": "\n::error::owned",
    "a bell": "\x07",
}


def in_weights(scene: Scene, text: str) -> None:
    header, data = header_of(scene.read(NAME))
    scene.write(NAME, tensors({(text if key == NORM else key): value for key, value in header.items()}, data))
    scene.resign()


def in_ledger(scene: Scene, text: str) -> None:
    rewrite(scene, {**columns_of(scene), text: ([0], [0x3F80])})


def in_a_file(scene: Scene, text: str) -> None:
    scene.write(f"model/{text.replace('/', '|')}", "x")


def in_the_manifest(scene: Scene, text: str) -> None:
    """In everything that a manifest may say freely, in a certificate that is refused for another reason."""

    def edit(data: dict) -> None:
        predicate = data["predicate"]
        predicate["engine"].update(name=text, version=text)
        predicate.update(created=text, method={"name": text, "settings": {text: text}})
        estimate = {"value": 0.5, "low": 0.5, "high": 0.5, "n": 1}
        predicate["claims"] = [{"axis": "forgetting", "row": text, "precision": "full", "estimate": estimate}]
        predicate["mask"]["tensors"].append({"tensor": text, "masked": 1, "total": 1})
        predicate["base"]["files"].append({"name": text, "sha256": c.ZERO})

    scene.sign_as(edit)


def in_a_subject(scene: Scene, text: str) -> None:
    scene.sign_as(lambda data: data["subject"].append({"name": text, "digest": {"sha256": c.ZERO}}))


for _what, _text in SPEAKING.items():
    attack("MV106", name=f"{_what} for a tensor", process="CI" in _what or _what == "markup")(
        partial(in_weights, text=_text)
    )
    attack("MV109", "MV108", name=f"{_what} in the manifest")(partial(in_the_manifest, text=_text))
for _what in ("markup", "an older command of CI"):
    attack("MV121", name=f"{_what} in the ledger")(partial(in_ledger, text=SPEAKING[_what]))
    attack("MV105", name=f"{_what} for a file")(partial(in_a_file, text=SPEAKING[_what]))
    attack("MV105", name=f"{_what} for a subject")(partial(in_a_subject, text=SPEAKING[_what].replace("\\", "")))
for _what, _text in CONTROLLING.items():
    attack("MV110", name=f"{_what} for a tensor", process=_what == "an escape")(partial(in_weights, text=_text))
attack("MV109", name="an escape in the manifest")(partial(in_the_manifest, text=CONTROLLING["an escape"]))
attack("MV110", name="an escape in the ledger")(partial(in_ledger, text=CONTROLLING["an escape"]))
attack("MV102", name="an escape for a subject")(partial(in_a_subject, text=CONTROLLING["an escape"]))
attack("MV105", name="a subject too long for any file")(partial(in_a_subject, text="x" * 5000))
