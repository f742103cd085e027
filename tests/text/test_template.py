"""Loading a chat template and rendering it as in transformers."""

import json
import shutil
from datetime import datetime
from pathlib import Path

import pytest

from mlx_suite.runtime.errors import UserError
from mlx_suite.text import ChatTemplate, Message, load_chat_template
from mlx_suite.text.template_variables import read_variables

HI = [Message("user", "Hi")]


def rendered(source: str, **variables: object) -> str:
    template = ChatTemplate(source=source, special_tokens={"bos_token": "<s>"}, variables=variables)
    return template.render(HI)


def test_block_tags_leave_no_line() -> None:
    assert rendered("  {% if true %}\nyes\n  {% endif %}\nend") == "yes\nend"


def test_generation_blocks_are_rendered_as_their_content() -> None:
    assert rendered("{% generation %}{{ messages[0].content }}{% endgeneration %}!") == "Hi!"


def test_loop_controls_work() -> None:
    assert rendered("{% for n in [1, 2, 3] %}{{ n }}{% if n == 2 %}{% break %}{% endif %}{% endfor %}") == "12"


def test_tojson_does_not_escape_html_and_unicode() -> None:
    assert rendered("{{ {'a': '<é>'} | tojson }}") == '{"a": "<é>"}'


def test_the_date_is_today_unless_a_variable_fixes_it() -> None:
    source = "{{ date_string if date_string is defined else strftime_now('%Y') }}"
    assert rendered(source) == str(datetime.now().year)
    assert rendered(source, date_string="26 Jul 2024") == "26 Jul 2024"


def test_a_user_sets_variables_as_json_or_as_text() -> None:
    pairs = ["enable_thinking=false", "level=3", "tone=warm", "python=True", "names=[1, 2]", "empty="]
    assert read_variables(pairs) == {
        "enable_thinking": False,
        "level": 3,
        "tone": "warm",
        "python": True,
        "names": [1, 2],
        "empty": "",
    }


@pytest.mark.parametrize("pair", ["enable_thinking", "=false", "two words=1", "messages=[]"])
def test_a_variable_without_a_name_or_of_a_name_in_use_is_refused(pair: str) -> None:
    with pytest.raises(UserError, match="--template-arg"):
        read_variables([pair])


def test_special_tokens_are_available_by_role() -> None:
    assert rendered("{{ bos_token }}|{{ eos_token }}") == "<s>|"


def test_a_template_cannot_access_python_internals() -> None:
    with pytest.raises(UserError, match="the chat template fails: SecurityError"):
        rendered("{{ ''.__class__.__mro__[1].__subclasses__() }}")


def test_the_error_for_invalid_jinja_names_the_line() -> None:
    with pytest.raises(UserError, match=r"not valid Jinja: .* \(line 2\)"):
        rendered("one\n{% if %}")


def test_the_jinja_file_takes_precedence_over_the_config(byte_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(byte_folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "chat_template.jinja").write_text("from the file")
    assert load_chat_template(tmp_path).render(HI) == "from the file"
    (tmp_path / "chat_template.jinja").unlink()
    assert load_chat_template(tmp_path).render(HI).startswith("<|begin_of_text|><|start_header_id|>")


def test_the_template_of_a_processor_is_read_if_the_tokenizer_has_none(tmp_path: Path) -> None:
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "the processor's"}))
    assert load_chat_template(tmp_path).render(HI) == "the processor's"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "the tokenizer's"}))
    assert load_chat_template(tmp_path).render(HI) == "the tokenizer's"


def test_the_default_is_used_if_there_are_several_named_templates(tmp_path: Path) -> None:
    named = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "plain"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert load_chat_template(tmp_path).render(HI) == "plain"


def test_a_base_model_without_a_template_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(UserError) as caught:
        load_chat_template(tmp_path)
    assert caught.value.what == "this checkpoint has no chat template"
    assert "instruction-tuned" in caught.value.fix
