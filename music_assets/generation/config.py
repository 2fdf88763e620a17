"""How samples are drawn."""

from pydantic import Field

from music_assets.foundation.settings import Settings


class SamplingConfig(Settings):
    """Settings of one batch of samples. Together with the checkpoint they determine every sample."""

    count: int = Field(default=24, ge=1, le=4096, description="Samples per genre.")
    max_bars: int = Field(default=16, ge=1, le=512, description="Longest sample in bars; the model may end earlier.")
    max_tokens: int = Field(default=1024, ge=16, le=65536, description="Longest sample in tokens.")
    temperature: float = Field(default=1.0, gt=0, le=5, description="Below 1 safer, above 1 wilder.")
    top_k: int = Field(default=0, ge=0, description="Keep only the k likeliest tokens; 0 keeps all.")
    top_p: float = Field(
        default=0.98, gt=0, le=1, description="Keep the likeliest tokens up to this total probability; 1 keeps all."
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="Seed of the random numbers.")
