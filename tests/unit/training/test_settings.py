import pytest
from pydantic import ValidationError

from services.training.settings import TrainingSection


@pytest.mark.parametrize("setting", [{"job_queue": "gpus"}, {"job_kind": "trainjob"}])
def test_setting_of_jobs_without_jobs_is_refused(setting: dict[str, str]) -> None:
    TrainingSection(launcher="kubernetes", **setting)
    with pytest.raises(ValidationError, match="are for launcher kubernetes: leave them out"):
        TrainingSection(launcher="external", **setting)
