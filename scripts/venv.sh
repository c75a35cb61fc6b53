# Sourced by the scripts beside it: makes .venv in the project's folder and installs the project into it,
# once per change of pyproject.toml. Sets `root` and `venv`. Usage: make_venv EXTRA

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv

find_python() {
    local name
    for name in "${PYTHON:-python3}" python3.14 python3.13 python3.12 python3.11; do
        if command -v "$name" >/dev/null 2>&1 &&
            "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    echo "Python 3.11 or newer is needed; none was found on PATH. Set PYTHON to one." >&2
    return 1
}

make_venv() {
    local extra=$1 stamp python log
    stamp=$venv/installed-$extra
    if [ -f "$stamp" ] && cmp -s "$root/pyproject.toml" "$stamp" && [ -x "$venv/bin/python" ]; then
        return
    fi
    python=$(find_python) || return 1
    (
        # Two first runs at once would ruin each other's venv; where there is no flock (macOS) they may.
        if command -v flock >/dev/null 2>&1; then exec 9>"$root/.venv.lock" && flock 9; fi
        if [ -f "$stamp" ] && cmp -s "$root/pyproject.toml" "$stamp"; then exit 0; fi
        echo "Installing into $venv (first run, or pyproject.toml changed) ..." >&2
        [ -x "$venv/bin/python" ] || "$python" -m venv "$venv" || exit 1
        log=$venv/install.log
        if ! "$venv/bin/python" -m pip install --disable-pip-version-check -q -e "$root[$extra]" >"$log" 2>&1; then
            tail -20 "$log" >&2
            echo "The installation failed; the whole log is $log" >&2
            exit 1
        fi
        cp "$root/pyproject.toml" "$stamp"
    )
}
