"""Tokenizers, chat templates, Magpie's header, and text as it streams.

`load_tokenizer` and `load_chat_template` read a Hugging Face folder without transformers;
`encode_chat` turns a conversation into ids with one BOS and no special token from a user's hand;
`derive_pre_query` finds the header from which a model writes the user's turn. Tokenizers are
trained in `mlx_suite.text.training`.
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
