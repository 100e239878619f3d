import pytest

from slipstream.models.device import lack_of_gpu


@pytest.mark.parametrize(
    ("cuda", "reason"), [(None, "is built without CUDA"), ("13.0", "sees no GPU here")]
)
def test_lack_of_a_gpu_is_torchs_or_the_machines(
    monkeypatch: pytest.MonkeyPatch, cuda: str | None, reason: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.version.cuda", cuda)
    assert lack_of_gpu().endswith(reason)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert lack_of_gpu() == ""
