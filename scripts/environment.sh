# shellcheck shell=sh disable=SC2034
# Sourced by scripts/test, scripts/check, scripts/demo and .ci/run, which say what they need
# of a machine; the functions here see to it that it is there. POSIX sh.

ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
VENV=$ROOT/.venv-test

# Debian keeps servers where a plain user's PATH does not look.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH

say() {
    printf '== %s\n' "$*"
}

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# has COMMAND...: whether all of them are there.
has() {
    for command_name; do
        command -v "$command_name" >/dev/null 2>&1 || return 1
    done
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif has sudo; then
        sudo "$@"
    else
        echo "Neither root nor sudo: cannot run $1." >&2
        return 1
    fi
}

# quietly COMMAND...: what it prints is shown only when it fails.
quietly() {
    printed=$("$@" 2>&1) || {
        printf '%s\n' "$printed" >&2
        return 1
    }
}

# install_packages NAME...: fails where it cannot.
install_packages() {
    if has apt-get; then
        say "Installing $* (apt-get)"
        quietly as_root apt-get -qq update || return 1
        # RUNLEVEL=1 keeps the packages from starting a server on this machine.
        quietly as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
            apt-get -qq -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 \
            install -y --no-install-recommends "$@"
    elif has brew; then
        say "Installing $* (brew)"
        quietly brew install "$@"
    else
        return 1
    fi
}

# is_package NAME: whether Debian's package can be had; its lists may be empty at first.
is_package() {
    has apt-get || return 1
    apt-cache show "$1" >/dev/null 2>&1 || quietly as_root apt-get -qq update || return 1
    apt-cache show "$1" >/dev/null 2>&1
}

# ensure_servers NAME...: each has a package of its own name, but for nutcracker,
# which Homebrew calls by its other name, and yrmcdsd, which only Debian has.
ensure_servers() {
    missing=
    for server; do
        has "$server" && continue
        if [ "$server" = yrmcdsd ] && ! is_package yrmcds; then
            say "This system has no package yrmcds (Debian has): its tests are left out"
            continue
        fi
        missing="$missing $server"
    done
    [ -n "$missing" ] || return 0
    packages=$(echo "$missing" | sed 's/yrmcdsd/yrmcds/')
    has apt-get || packages=$(echo "$missing" | sed 's/nutcracker/twemproxy/')
    # shellcheck disable=SC2086 # names without spaces
    { install_packages $packages && has $missing; } || die \
        "The tests need$missing, which could not be installed from here. Install" \
        "what is named with this system's package manager, and start this again."
    # systemd does not ask for the runlevel; the tests start their own servers.
    if [ -d /run/systemd/system ]; then
        # shellcheck disable=SC2086
        as_root systemctl --quiet disable --now $packages || true
    fi
}

# ensure_node: Node and npm, whose packages share sessions with this one.
ensure_node() {
    has node npm && return
    packages='nodejs npm'
    has apt-get || packages=node
    # shellcheck disable=SC2086 # names without spaces
    { install_packages $packages && has node npm; } || die \
        "Node 20 or newer and npm are needed, and could not be installed from here." \
        "Install them with this system's package manager, and start this again."
}

# ensure_packages DIRECTORY: what its package-lock.json says.
ensure_packages() {
    [ "$1/node_modules/.package-lock.json" -nt "$1/package-lock.json" ] && return
    say "Installing the packages of $1 (npm)"
    quietly npm ci --prefix "$1" --no-audit --no-fund ||
        die "The packages of $1 could not be installed; npm says why above."
}

# is_python COMMAND LOWEST ABOVE: whether its version is LOWEST or newer, and
# older than ABOVE.
is_python() {
    "$1" -c "import sys; sys.exit(not ($2) <= sys.version_info < ($3))" 2>/dev/null
}

# Print the Python to use: $PYTHON, or the first that the tests are known to pass
# on, or one that is newer.
find_python() {
    if [ -n "${PYTHON:-}" ]; then
        is_python "$PYTHON" 3,11 4,0 && printf '%s\n' "$PYTHON"
        return
    fi
    for candidate in python3 python3.13 python3.12 python3.11; do
        if is_python "$candidate" 3,11 3,14; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    is_python python3 3,14 4,0 && printf 'python3\n'
}

# Set PYTHON, installing one where there is none at all.
ensure_python() {
    told=${PYTHON:-}
    if ! PYTHON=$(find_python) && ! has python3 && has apt-get; then
        install_packages python3 python3-venv || true
        PYTHON=$(find_python) || true
    fi
    [ -n "$PYTHON" ] || die \
        "Python 3.11 or newer is needed, and ${told:-python3} is none. Install" \
        "one, or name it: PYTHON=/path/to/python $0"
}

# make_venv PYTHON DIRECTORY: Debian has the module that makes one in a package
# of its own.
make_venv() {
    "$1" -m venv --clear "$2" >/dev/null 2>&1 && return
    version=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    { has apt-get && install_packages "python$version-venv" &&
        "$1" -m venv --clear "$2"; } || die \
        "$1 cannot make virtual environments: its venv or ensurepip module is" \
        "missing (on Debian: the package python$version-venv)."
}

# pip_install PYTHON [ARGUMENT...]: dependency groups need a pip that knows them, and
# Debian 12's does not.
pip_install() {
    "$1" -m pip --disable-pip-version-check install -qq 'pip>=25.1' || return 1
    installing=$1
    shift
    "$installing" -m pip --disable-pip-version-check install -qq "$@"
}

# lowest_versions PYTHON: the oldest versions that the package says it works with.
lowest_versions() {
    "$1" - "$ROOT" <<'PYTHON'
import pathlib, re, sys, tomllib

project = tomllib.loads(pathlib.Path(sys.argv[1], "pyproject.toml").read_text())["project"]
needed = project["dependencies"] + sum(project["optional-dependencies"].values(), [])
for each in needed:
    print(re.sub(r">=([\d.]+).*", r"==\1", each))
PYTHON
}

# ensure_venv PYTHON DIRECTORY [REQUIREMENT...]: this project (editable) with its
# group "test", at the newest versions that meet the REQUIREMENTs too. Made anew
# only when something that it depends on has changed.
ensure_venv() {
    python=$1
    venv=$2
    shift 2
    stamp=$("$python" - "$ROOT" "$@" <<'PYTHON'
import hashlib, pathlib, sys

project = pathlib.Path(sys.argv[1], "pyproject.toml").read_bytes()
told = repr((sys.version, sys.base_prefix, sys.argv)).encode()
print(hashlib.sha256(told + project).hexdigest())
PYTHON
    )
    if [ "$(cat "$venv/stamp" 2>/dev/null)" = "$stamp" ] &&
        "$venv/bin/python" -c '' 2>/dev/null; then
        return
    fi
    say "Setting up ${venv#"$ROOT/"} with $("$python" --version)${*:+, $*}"
    make_venv "$python" "$venv"
    pip_install "$venv/bin/python" \
        --editable "$ROOT" --group "$ROOT/pyproject.toml:test" "$@" ||
        die "The Python packages could not be installed; pip says why above."
    printf '%s\n' "$stamp" >"$venv/stamp"
}

# The demos need the package and nothing of the tests.
DEMO_VENV=$ROOT/.venv-demo

is_demo_ready() {
    [ "$DEMO_VENV/ready" -nt pyproject.toml ] &&
        "$DEMO_VENV/bin/python" -c 'import tornado_mcsession' 2>/dev/null
}

# ensure_demo: the virtual environment of the demos.
ensure_demo() {
    is_demo_ready && return
    ensure_python
    say "Setting up .venv-demo with $("$PYTHON" --version), once"
    make_venv "$PYTHON" "$DEMO_VENV"
    "$DEMO_VENV/bin/python" -m pip --disable-pip-version-check install -qq \
        --editable . ||
        die "The Python packages could not be installed; pip says why above."
    touch "$DEMO_VENV/ready"
}
