"""Render generated conversations with Jinja set up as transformers does, for the tests to compare with.

    python3 tools/parity/chat_templates.py > tests/golden/conversations.json
    python3 tools/parity/chat_templates.py --seed 7 --cases 5000 > /tmp/more.json
    TROUPE_CONVERSATIONS=/tmp/more.json build/dev/test_gpu -tc="*generated conversations*"

Needs python3-jinja2. The templates are those of tests/golden/chat and others put together from pieces, with the
features of published ones. Of each case the file has the template, the names that it is run with, and what Jinja wrote,
or how it refused.
"""

import argparse
import datetime
import json
import pathlib
import random
import sys

import jinja2
import jinja2.ext
import jinja2.sandbox

NOW = datetime.datetime(2024, 5, 24, 12, 5, 9)
ROOT = pathlib.Path(__file__).resolve().parents[2]


def environment():
    """As transformers.utils.chat_template_utils makes it."""

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda form: NOW.strftime(form)
    return env


class Generation(jinja2.ext.Extension):
    """The mark around what an assistant wrote, which transformers uses for training."""

    tags = {"generation"}

    def parse(self, parser):
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_generation"), [], [], body).set_lineno(lineno)

    def _generation(self, caller):
        return caller()


WORDS = [
    "Hi", " Hello there.\n", "What's \"this\"?", "", "  two\n lines\n\n", "naïve façade", "日本語です", "<b>&amp;</b>", "a\tb\\n",
    "<|im_end|>", "<think>\nhm\n</think>\n\nyes", "x</think>y", "🙂 ok", "1.50", "{{ messages }}", "Été ÀÉÎ ß straße",
    "one two  three", "<tool_response>r</tool_response>", "None", "ends with /nothink",
]
VALUES = [
    1, 0, -3, 2.5, 1e20, 0.1, 1e-7, True, False, None, "text", "it's", 'say "no"', [], {}, [1, "a", None], {"k": [1.0, {"z": "ü"}]},
    "tab\tline\n", "\u2028", 123456789012, [[], [True]], ["x", "y"], {"b": 1, "a": 2},
]


class Dice(random.Random):
    def words(self):
        return self.choice(WORDS) if self.random() < 0.8 else self.choice(WORDS) + self.choice(WORDS)

    def value(self):
        return self.choice(VALUES)

    def content(self, pictures):
        kind = self.random()
        if kind < 0.6 or not pictures:
            return self.words()
        parts = [{"type": "image"} if self.random() < 0.4 else {"type": "text", "text": self.words()} for _ in range(self.randint(1, 4))]
        return parts

    def arguments(self):
        return {self.choice(["city", "n", "items", "ключ", "a b", "<x>"]): self.value() for _ in range(self.randint(0, 3))}

    def call(self):
        call = {"type": "function", "function": {"name": self.choice(["look", "add"]), "arguments": self.arguments()}}
        if self.random() < 0.7:
            call["id"] = self.choice(["abcdefghi", "call_1"])
        return call if self.random() < 0.9 else call["function"]

    def tool(self):
        properties = {
            name: self.choice([
                {"type": "string", "description": self.words()}, {"type": "integer", "default": 3},
                {"type": "array", "items": {"type": "string"}}, {"type": "string", "enum": ["a", "b"], "default": "a"},
                {"type": "object", "properties": {"in": {"type": "number"}}, "required": ["in"]}, {"type": ["string", "null"]}, {},
            ])
            for name in self.sample(["city", "unit", "n", "flags"], self.randint(0, 3))
        }
        return {"type": "function", "function": {
            "name": self.choice(["look", "add"]), "description": self.words(),
            "parameters": {"type": "object", "properties": properties, "required": list(properties)[:1]}}}

    def conversation(self, pictures):
        messages = []
        if self.random() < 0.5:
            messages.append({"role": "system", "content": self.words()})
        for _ in range(self.randint(1, 4)):
            messages.append({"role": "user", "content": self.content(pictures)})
            if self.random() < 0.25:
                messages.append({"role": "assistant", "content": self.choice([None, "", self.words()]), "tool_calls": [self.call() for _ in range(self.randint(1, 2))]})
                messages += [{"role": "tool", "content": self.words(), "tool_call_id": "abcdefghi"} for _ in range(self.randint(1, 2))]
            if self.random() < 0.8:
                answer = {"role": "assistant", "content": self.content(pictures and self.random() < 0.3)}
                if self.random() < 0.3:
                    answer["reasoning_content"] = self.words()
                messages.append(answer)
        if self.random() < 0.6 and messages[-1]["role"] == "assistant":
            messages.append({"role": "user", "content": self.words()})
        if self.random() < 0.05:
            messages.append({"role": self.choice(["user", "critic"]), "content": self.words()})
        return messages

    def names(self, pictures):
        out = {
            "messages": self.conversation(pictures),
            "tools": [self.tool() for _ in range(self.randint(1, 2))] if self.random() < 0.3 else None,
            "documents": None,
            "add_generation_prompt": self.random() < 0.8,
            "bos_token": "<|begin_of_text|>",
            "eos_token": "<|end|>",
        }
        if self.random() < 0.3:
            out["enable_thinking"] = self.random() < 0.5
        if self.random() < 0.2:
            out["date_string"] = "1 Jan 2020"
        if self.random() < 0.2:
            out[self.choice(["controls", "add_vision_id", "custom", "tools_in_user_message"])] = self.value()
        return out


# Pieces: expressions over a text `t`, a message `m`, a list `l`, a map `d` and a value `v`.
TEXTS = [
    "t", "t | trim", "t.strip()", "t.strip('\\n')", "t.lstrip()", "t.rstrip('. ')", "t | upper", "t.lower()", "t | capitalize", "t.title()",
    "t | title", "t.split('\\n')[0]", "t.split('</think>')[-1]", "t.split() | join('_')", "t.rsplit(' ', 1)[0]", "t.split(' ', 1)[-1]",
    "t[:3]", "t[-2:]", "t[::-1]", "t[1:-1]", "t | replace('o', '0')", "t.replace('\\n', ' ', 1)", "t | length", "t | list | length",
    "t | first", "t | last", "t | tojson", "t | tojson(ensure_ascii=true)", "t | string", "t | default('x', true)", "t | indent(2)",
    "t | indent(2, true)", "t | indent('> ', first=true, blank=true)", "t.startswith('H')", "t.endswith(('.', '?'))", "t.find('o')", "t.count('o')", "t in 'Hi there'",
    "'o' in t", "t ~ 1 ~ none ~ 2.0", "t + 'x' * 3", "t == 'Hi'", "t < 'M'", "t | reverse", "t.splitlines() | join('|')", "t.removeprefix('H')",
    "t.partition(' ')", "t.rpartition(' ')[2]", "(t | e) if t else 'empty'", "t.isdigit()", "t if t is string else 'no'", "t | int", "t is lower" if False else "t | d('y')",
    "[t, 1]", "(t,)", "{'k': t}", "{'k': t} | tojson", "t | safe", "'%' ~ t", "t.upper() if loop is not defined else 'l'", "t | trim('H')",
]
LISTS = [
    "l | length", "l | first", "l | last", "l[0]", "l[-1]", "l[1:]", "l[5]", "l | list", "l + l", "l | join(',')", "l | map('string') | join(' ')",
    "l | map('upper') | list", "l | reverse | list", "l | sort | list", "l | unique | list", "l | min", "l | max", "l | tojson", "l | string", "l in [l]",
    "1 in l", "l | select | list", "l | reject('none') | list", "l | select('string') | list", "l is sequence", "l is iterable", "l is mapping",
    "l == l", "l | map('length') | sum", "l.index(l[0])", "l.count(1)", "l | length > 1 and l[1]", "l | tojson(indent=2)", "l | first | default('none')",
    "(l | map('string') is defined)", "l | sum", "l[::2]", "l | batch(2)", "loop.cycle(1, 2)" if False else "l | string | length",
]
MAPS = [
    "d | length", "d.a", "d['a']", "d.get('a')", "d.get('zz', 'y')", "d.items() | list", "d.keys() | list", "d.values() | list | length", "d | items | list",
    "d | dictsort", "d | list", "'a' in d", "d.a is defined", "d.zz is defined", "d.zz.y is defined" if False else "d.zz", "d | tojson", "d | string",
    "d | tojson(indent=4, sort_keys=true)", "d.items", "d['items']", "d == d", "d is mapping", "d.copy", "dict(a=1, b=2)", "dict(d, z=1)", "d.zz + 'x'", "d.items() | length",
    "d | dictsort(false, 'value')", "d.keys()", "d.zz is none", "d.a is number", "d | first", "d.items() | map('first') | join",
]
NUMBERS = [
    "v", "v + 1", "v * 2", "v / 2", "v // 2", "v % 2", "-v", "v == 1", "v < 2", "v <= 2.5", "v is number", "v is integer", "v is float", "v is true", "v is false",
    "v is boolean", "v is none", "v | int", "v | float", "v | string", "v | abs", "v | tojson", "v | default(3)", "v ~ ''", "not v", "v is odd", "v is divisibleby(3)",
    "v and 'y' or 'n'", "v in [1, 2.5]", "[v, v]", "1 < v < 3", "v is string", "v is sequence", "v is iterable", "v | length", "v != 2", "v is even", "range(3) | list", "range(v)",
]


def piece(dice):
    bag = dice.choice([TEXTS, TEXTS, LISTS, MAPS, NUMBERS])
    expression = dice.choice(bag)
    form = dice.randint(0, 5)
    if form == 0:
        return "{% if " + expression + " %}yes{% else %}no{% endif %}\n"
    if form == 1:
        return "{%- set x = " + expression + " %}\n[{{ x }}]{{ x is string }}\n"
    if form == 2:
        return "  {%- for y in " + expression + " -%}\n {{ loop.index }}{{ loop.last }}{{ y }};\n{% else %} none {%- endfor %}\n"
    return "  {{" + dice.choice(["", "-"]) + " " + expression + " " + dice.choice(["", "-"]) + "}}\n"


def made_template(dice):
    turn = "{%- for m in messages %}\n{{- '<|' + m.role + '|>' }}{% if m.content is string %}{{ m.content }}{% endif %}\n{% endfor %}"
    value = json.dumps(dice.value(), ensure_ascii=False)
    value = value.replace("null", "none")
    first = "{% set t = messages[0].content %}{% set v = custom if custom is defined else " + value + " %}"
    first += "{% set l = " + dice.choice(["[1, 'a', 2.5]", "['b', 'a', 'B']", "[]", "[3, 1, 2]", "messages | map(attribute='role') | list", "[[1], [2]]"]) + " %}"
    first += "{% set d = " + dice.choice(["{}", "{'a': 1, 'b': 'x'}", "{'b': 2, 'a': [1]}", "{'items': 'i', 'a': none}", "messages[0]", "{'a': {'b': 2}}"]) + " %}\n"
    return first + piece(dice) + piece(dice) + turn


def render(env, template, names):
    try:
        return {"written": env.from_string(template).render(**names)}
    except jinja2.exceptions.TemplateError as problem:
        mine = type(problem) is jinja2.exceptions.TemplateError
        return {"raised": str(problem)} if mine else {"failed": f"{type(problem).__name__}: {problem}"}
    except Exception as problem:  # what Python says of a value, as transformers lets it through
        return {"failed": f"{type(problem).__name__}: {problem}"}


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--cases", type=int, default=1000)
    options.add_argument("--templates", type=pathlib.Path, default=ROOT / "tests/golden/chat")
    given = options.parse_args()
    dice, env = Dice(given.seed), environment()
    files = {path.name: path.read_text() for path in sorted(given.templates.glob("*.jinja"))}
    cases = []
    for i in range(given.cases):
        name = dice.choice(list(files)) if files and i % 5 != 0 else None
        template = files[name] if name else made_template(dice)
        names = dice.names(pictures=dice.random() < 0.4)
        outcome = render(env, template, names)
        if " object at 0x" in outcome.get("written", "") or "<built-in method" in outcome.get("written", ""):
            outcome = {"failed": "what is written differs from run to run"}
        cases.append({"file": name} if name else {"template": template})
        cases[-1] |= {"names": names} | outcome
    json.dump({"seed": given.seed, "now": str(NOW), "templates": files, "cases": cases}, sys.stdout, ensure_ascii=False, separators=(",", ":"))
    print()


if __name__ == "__main__":
    main()
