"""Any valid description, for property tests."""

from __future__ import annotations

from hypothesis import strategies as st

_words = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_]{0,20}", fullmatch=True)
_lines = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x24F, exclude_characters="\x7f\x85"),
    min_size=1,
    max_size=40,
)
_commands = st.lists(_words.map(lambda word: f"echo '{word}; ' \"$HOME\" # it's"), max_size=3)

_common = {
    "nworkers": st.integers(1, 100_000),
    "runtime": st.one_of(
        st.integers(1, 10**8), st.floats(0.01, 1e6), st.sampled_from(["30", "1:30", "1-12", "2:00:00"])
    ),
    "daemonize": st.booleans(),
    "cpus_per_worker": st.integers(1, 4096),
    "oversubscribe": st.booleans(),
    "batch": st.integers(1, 1000),
    "isolation": st.sampled_from(["none", "process"]),
    "drain_timeout": st.one_of(st.integers(0, 1000), st.floats(0, 1000)),
    "max_restarts": st.integers(0, 1000),
    "env": st.dictionaries(
        _words.filter(lambda word: not word[0].isdigit() and not word.startswith("SLURM")), _lines, max_size=3
    ),
    "path": st.lists(_lines.filter(lambda line: not line.startswith("~")), max_size=3),
}
_slurm = {
    "partition": _words, "account": _words, "qos": _words, "cluster": _words,
    "mem": st.sampled_from(["4G", "500M", 1000]), "gpus-per-node": st.sampled_from([3, "a100:2"]),
    "constraint": st.sampled_from(["intel&gpu", "[rack1*2]"]), "array_throttle": st.integers(1, 100),
    "extra_directives": st.dictionaries(st.sampled_from(["--nice", "exclusive", "x", "begin"]), st.one_of(_words, st.just(True), st.integers()), max_size=3),
    "pre_cmd_list": _commands, "post-cmd-list": _commands,
}  # fmt: skip

local_configs = st.fixed_dictionaries({}, optional=_common | {"host": _words})
slurm_configs = st.fixed_dictionaries({}, optional=_common | _slurm)
