"""Endpoints of the contract that this version does not have, so that callers learn it in words."""

from __future__ import annotations

import re

_FEDERATION = "contractValidate|addContract"
_PROJECT = (
    "rename|merge|save|freeze|unfreeze|unload|encoderAssign|export|import|histogramEnable|transform|getDsLog|getLFStats"
    "|explore|vif|explorepca|exploresvd|exploresvdfs|densityEstimate|conditionalDensityEstimate|reduce|kmeansOptimize"
    "|learnpredict/.+|models/.+/code|.+/evtwrapper|model/(?:export|import)|selectModel(?:/.+)?|autoSelect(?:/.+)?"
    "|streams/.+|dss/.+|addds/.+|detachds/.+"
)
_PLANNED = re.compile(
    rf"/symetry/(?:rest/[^/]+/(?:fedml/(?:[^/]+/)?(?:{_FEDERATION})|projects/[^/]+/(?:{_PROJECT})"
    r"|projects/(?:info|dataDrift|dsbrowse|fusion/.+)|dss(?:/.+)?|streams/.+|tasks(?:/.+)?|encoders(?:/.+)?"
    r"|tmodels(?:/.+)?)|ws/.+)/?"
)


def is_planned(path: str) -> bool:
    """Whether the contract has this path, though this server does not."""
    return _PLANNED.fullmatch(path) is not None
