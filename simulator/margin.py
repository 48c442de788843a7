"""How large a simulated difference must be to mean something: the error that a validation measured."""

from __future__ import annotations

import json
from pathlib import Path

from toolkit.errors import UserError

LEAST = 1.05  # smaller speed-ups are not worth a second configuration, however exact the simulation


def pays_from(validation: str | None) -> float:
    """The speed-up from which a verdict is given: beyond the worst error of the held-out runs, of the fitted ones where
    none was held out, and at least LEAST. `validation`: a file that `validate --json` wrote. Raises UserError.
    """
    if validation is None:
        return LEAST
    path = Path(validation)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        runs = content["held_out"]["runs"] or content["fitted"]["runs"]
        return max(LEAST, 1.0 + max(abs(run["error"]) for run in runs))
    except OSError as error:
        raise UserError(f"--validation {path}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"--validation {path}: not a file that 'simulator validate --json' wrote") from None
