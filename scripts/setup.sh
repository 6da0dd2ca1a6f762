#!/bin/sh
# Make .venv and install what a target of the Makefile needs. Usage: scripts/setup.sh demo|docs|gui|test|bench
set -eu
cd "$(dirname "$0")/.."
what=$1

say() { printf '%s\n' "$*" >&2; }

can_install() {
    command -v apt-get >/dev/null 2>&1 || return 1
    [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# Install Debian packages if we may, else name them.
system_packages() {
    missing=
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' \
            || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    if can_install; then
        say "installing system packages:$missing"
        as_root apt-get -qq update
        # shellcheck disable=SC2086 # a list of words
        DEBIAN_FRONTEND=noninteractive as_root apt-get -qq install -y --no-install-recommends $missing >/dev/null
    else
        say "missing system packages:$missing"
        say "install them with: sudo apt-get install$missing"
        return 1
    fi
}

find_python() {
    for name in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
        if command -v "$name" >/dev/null 2>&1 \
            && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            echo "$name"
            return 0
        fi
    done
    say "no Python 3.11 or newer was found: install one, or name it with make PYTHON=..."
    return 1
}

if [ ! -x .venv/bin/python ]; then
    python=$(find_python)
    if ! "$python" -c 'import ensurepip' 2>/dev/null; then
        system_packages python3-venv
    fi
    say "making .venv with $("$python" --version)"
    "$python" -m venv .venv
fi

# What a window of Qt needs on Debian; a desktop has most of it.
window="libegl1 libgl1 libgl1-mesa-dri libfontconfig1 libglib2.0-0 libxkbcommon-x11-0 libxcb-cursor0 \
    libxcb-icccm4 libxcb-keysyms1 libxcb-shape0 libxcb-image0 libxcb-render-util0 libdbus-1-3"

pip="env PIP_DISABLE_PIP_VERSION_CHECK=1 .venv/bin/python -m pip install -q -c constraints.txt"
case $what in
    demo)
        say "installing the program with what it computes with"
        $pip -e '.[compute]'
        ;;
    test)
        # What a real window needs under Xvfb. Elsewhere than on Debian: by other names.
        if command -v dpkg-query >/dev/null 2>&1; then
            # shellcheck disable=SC2086 # a list of words
            system_packages xvfb xauth $window
            # The pages are looked at in a real browser; those tests skip where there is none.
            system_packages chromium || say "going on without chromium"
        elif [ "$(uname)" = Linux ]; then
            say "not Debian: the window tests need Xvfb, OpenGL, EGL and the xcb libraries of Qt"
        fi
        say "installing the program with everything the tests need"
        $pip -e '.[test]'
        # nnU-Net's own check would pull torchvision, which does not go with a CPU build of torch.
        $pip --no-deps -r tests/nnunet-check-requirements.txt
        ;;
    gui)
        if command -v dpkg-query >/dev/null 2>&1; then
            # shellcheck disable=SC2086 # a list of words
            system_packages $window || say "going on: the viewer may not start without them"
        fi
        say "installing the program with napari, and with what it computes with"
        $pip -e '.[all]'
        ;;
    docs)
        say "installing the program with what makes its documentation"
        $pip -e '.[docs]'
        ;;
    bench)
        say "installing the program with what the benchmarks compare it with"
        $pip -e '.[test,bench]'
        ;;
    *)
        say "usage: scripts/setup.sh demo|docs|gui|test|bench"
        exit 2
        ;;
esac
touch ".venv/.ready-$what"
