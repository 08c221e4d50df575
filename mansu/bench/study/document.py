"""What a cell says, stage by stage: how the edit was made and at what cost, and what was measured of it."""

from pydantic import JsonValue

from mansu.bench.robust import RelearningPoint, RobustRow
from mansu.cost import Cost
from mansu.solve.frontier import FrontierPoint
from verify.contract.result import AxisRow, CadRow
from verify.contract.schema import Schema, Sha256


class Tried(Schema):
    """One setting of a baseline's sweep, with its accuracies on validation prompts; `broken` is no model any more."""

    settings: dict[str, JsonValue]
    strength: float
    forget: float
    retain: float
    broken: bool


class EditRecord(Schema):
    """How one method edited one model.

    `strength` is what was swept (`sweep`), chosen with the data of seed `tuned_on`; of mansu and its ablations both are
    None. `cost` is that of the kept edit alone, from prepared data to edited weights; `search` of all that was tried.
    `updates` is of the weights that changed: how many crossed into another NF4 code, and the bin width over the size
    of the update, the median over them (None where nothing changed). `frontier` are mansu's trials: how much
    was changed, and what that came to; forgetting on validation wordings, retention on retain data trained on.
    `device` is where it was trained; `sets_sha256` of the sets it was trained with (`alike.digest_of`), None where the
    version that wrote it did not say.
    """

    suite: str
    seed: int
    method: str
    title: str
    settings: dict[str, JsonValue]
    sweep: str | None
    strength: float | None
    tuned_on: int
    tried: tuple[Tried, ...]
    base_sha256: Sha256
    sets_sha256: Sha256 | None = None
    parameters: int
    changed: int
    crossing: int
    bin_width_over_update: float | None
    cost: Cost
    search: Cost
    frontier: tuple[FrontierPoint, ...] = ()
    device: str = "cpu"
    created: str
    versions: dict[str, str]


class AxesRecord(Schema):
    """The behavioural axes as the verifier measures them on held-out probes; `chance` is by forgetting row."""

    rows: tuple[AxisRow, ...]
    chance: dict[str, float]


class RobustRecord(Schema):
    """What a model answers when it is asked in other ways, in full precision and after NF4."""

    full: tuple[RobustRow, ...]
    nf4: tuple[RobustRow, ...]


class RelearningRecord(Schema):
    """What returns while a model is taught again at that learning rate: half of the facts, or unrelated text."""

    rate: float
    points: tuple[RelearningPoint, ...]


class TofuRecord(Schema):
    """TOFU's metrics, of the suite `authors` alone (docs/suites.md).

    `forget_quality` is the p-value of the Kolmogorov-Smirnov test against the model that never knew, `statistic` its
    distance; `utility` the model's, `reference_utility` that model's.
    """

    forget_quality: float
    statistic: float
    utility: float
    reference_utility: float


class ErasureRecord(Schema):
    """CAD of the edited model in both precisions, plain and with the base's late layers; controls; retain CAD."""

    pairs: int
    retain_pairs: int
    layers: int
    late_from: int
    rows: tuple[CadRow, ...]
