"""The synthesizer of a lab."""

from mlx_suite.loading import load
from mlx_suite.synthesize.rephrase import PAIRS
from mlx_suite.synthesize.run import CorpusJob
from mlx_suite.synthesize.settings import SynthesisSettings

