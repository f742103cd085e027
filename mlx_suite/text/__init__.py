"""Tokenizers, chat templates, Magpie's pre-query header, and streaming detokenization.

`load_tokenizer` and `load_chat_template` read a Hugging Face folder without transformers. `encode_chat` encodes a
conversation with one BOS and never lets message text become a special token. `derive_pre_query` finds the header after
which a model writes the user's turn. `mlx_suite.text.training` trains tokenizers.
"""

from mlx_suite.text.chat import encode_chat
from mlx_suite.text.detokenizer import StreamingDetokenizer
from mlx_suite.text.header import PreQuery, derive_pre_query
from mlx_suite.text.message import Message, fold_system
from mlx_suite.text.pieces import TEMPLATE, EncodedChat
from mlx_suite.text.template import ChatTemplate, TemplateRefusal, load_chat_template
from mlx_suite.text.tokenizer import Tokenizer, load_tokenizer

__all__ = [
    "TEMPLATE",
    "ChatTemplate",
    "EncodedChat",
    "Message",
    "PreQuery",
    "StreamingDetokenizer",
    "TemplateRefusal",
    "Tokenizer",
    "derive_pre_query",
    "encode_chat",
    "fold_system",
    "load_chat_template",
    "load_tokenizer",
]
